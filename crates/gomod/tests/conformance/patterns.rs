//! GOPRIVATE's patterns.

use gomod::pattern::Patterns;
use serde_json::{Value, json};

use crate::{
    exceptions::Exception,
    random::Random,
    reference::{Case, Difference, agree, case, text},
};

const PIECES: &[&str] = &[
    "*",
    "?",
    "a",
    "b",
    "A",
    ".",
    "-",
    "/",
    "/",
    ",",
    "//",
    "[a-c]",
    "[^a]",
    "[",
    "]",
    "[]",
    "[b-a]",
    "[a-]",
    "[^]",
    "[]a]",
    "[\\]]",
    "[\\-a]",
    "[*]",
    "[/]",
    "\\",
    "\\*",
    "\\/",
    "\\a",
    "com",
    "a.com",
    "*.com",
    "\u{e9}",
    "[\u{e0}-\u{ef}]",
    "^",
    "!",
    "{a,b}",
    " ",
    "x/*",
    "/v2",
];

const TARGETS: &[&str] = &[
    "a", "b", "A", "*", ".", "-", "/", "ab", "abc", "com", "a.com", "x", "\u{e9}", "[", "]", "\\",
    "v2",
];

#[test]
fn patterns() {
    let mut random = Random::new(5);
    let mut cases: Vec<Case> = Vec::new();
    for (list, target) in [
        ("*.corp.example", "git.corp.example/a"),
        ("git.corp.example/*", "git.corp.example/team/deep/v2"),
        ("/", "a.com"),
        ("/", "/x"),
        (",/,,", ""),
        ("", ""),
        ("*", ""),
        (" a.com", "a.com/x"),
        ("a.com ,b.com", "a.com/x"),
        ("[a/b]", "a/b"),
        ("a.com/[", "a.com/x"),
        ("a[^x]b", "a/b"),
        ("a?b", "a/b"),
        ("a*b", "a/b"),
        ("a//b", "a//b"),
        ("a/", "a/"),
        ("a/*", "a/"),
        ("*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        cases.push(case([list, target]));
    }
    for _ in 0..30_000 {
        let list = random.sentence(PIECES, 1, 6);
        let target = if random.chance(3) {
            list.replace(['*', '?', '\\'], random.pick(&["a", "b", ""]))
        } else {
            random.sentence(TARGETS, 0, 6)
        };
        cases.push(case([&list, &target]));
    }
    let expected = [Exception::MalformedPattern, Exception::SpacedPattern];
    agree("match", &cases, ours, excuse, &expected);
}

fn ours(case: &Case) -> Value {
    match Patterns::parse(text(case, 0)) {
        Ok(patterns) => json!({"matched": patterns.matches_str(text(case, 1))}),
        Err(_) => json!({"matched": null}),
    }
}

fn excuse(difference: &Difference<'_>) -> Option<Exception> {
    if difference.ours.is_null() {
        return Some(Exception::MalformedPattern);
    }
    text(difference.case, 0)
        .split(',')
        .any(|pattern| pattern.trim() != pattern)
        .then_some(Exception::SpacedPattern)
}
