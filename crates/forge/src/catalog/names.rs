//! File names that make a zip impossible, one tag each, and folders that do not matter.

use super::{Entry, go_mod, package};
use crate::change::{file, gone};
use crate::{Change, History};

pub(super) fn entries() -> Vec<Entry> {
    vec![bad_names(), collisions(), omitted_bad_names()]
}

/// A tag for each bad name, which the commit before it does not have.
fn bad_names() -> Entry {
    let bad: [&[u8]; 31] = [
        b"aux.go",
        b"sub/CON",
        b"com1.txt",
        b"LPT9",
        b"trailing.",
        b"folder./a.go",
        b"...",
        b"colon:x",
        b"quote\"x",
        b"star*",
        b"question?",
        b"less<",
        b"pipe|",
        b"back\\slash",
        b"semi;colon",
        b"apostrophe's",
        b"new\nline",
        b"tick`x",
        b"tab\there",
        b"bell\x07",
        b"latin\xe4",
        "digit٣".as_bytes(),
        "mark\u{301}".as_bytes(),
        "emoji😀".as_bytes(),
        "nbsp\u{a0}x".as_bytes(),
        b"short~1",
        b"short~1/a.go",
        b" leading",
        b"trailing ",
        b"-dash",
        b"NUL.tar.gz",
    ];
    let mut h = History::new();
    h.commit(
        "main",
        "base",
        [go_mod("golden.test/badnames"), package("a.go", "1")],
    );
    let mut tags = Vec::new();
    let mut last: Option<&[u8]> = None;
    for (at, name) in bad.into_iter().enumerate() {
        let tag = format!("v1.0.{at}");
        let clean: Vec<Change> = last.map(gone).into_iter().collect();
        h.commit("main", &tag, clean.into_iter().chain([file(name, "x\n")]));
        h.tag(&tag, &tag);
        tags.push(tag);
        last = Some(name);
    }
    let mut entry = Entry::new("badnames", h);
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    entry.ask("", &tags);
    entry
}

fn collisions() -> Entry {
    let pairs: [(&str, &str); 8] = [
        ("README", "readme"),
        ("dir/a.go", "DIR/b.go"),
        ("x/Y", "X/y"),
        ("straße", "STRASSE"),
        ("ſ.go", "S.go"),
        ("K.go", "\u{212a}.go"),
        ("É.go", "é.go"),
        ("thing", "THING/a.go"),
    ];
    let mut h = History::new();
    h.commit(
        "main",
        "base",
        [go_mod("golden.test/collisions"), package("a.go", "1")],
    );
    let mut tags = Vec::new();
    let mut last: Option<(&str, &str)> = None;
    for (at, (one, two)) in pairs.into_iter().enumerate() {
        let tag = format!("v1.0.{at}");
        let mut changes = Vec::new();
        if let Some((one, two)) = last {
            changes.extend([gone(one), gone(two)]);
        }
        changes.extend([file(one, "1\n"), file(two, "2\n")]);
        h.commit("main", &tag, changes);
        h.tag(&tag, &tag);
        tags.push(tag);
        last = Some((one, two));
    }
    let mut entry = Entry::new("collisions", h);
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    entry.ask("", &tags);
    entry
}

/// Bad names where they do not count: below a nested module, in a vendored package; and two that differ in case with one
/// of them omitted.
fn omitted_bad_names() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            file("go.mod", "module golden.test/omitted\n\ngo 1.24\n"),
            package("a.go", "1"),
            file("inner/go.mod", "module golden.test/omitted/inner\n"),
            file("inner/bad:name", "x"),
            file("vendor/x/bad:name", "x"),
            file("inner/A.go", "x"),
            file("INNER/a.go", "x"),
        ],
    );
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [
            crate::change::link("bad:link", "a.go"),
            crate::change::link("A.GO", "a.go"),
        ],
    );
    h.tag("v1.1.0", "two");
    let mut entry = Entry::new("omitted", h);
    entry.ask("", &["v1.0.0", "v1.1.0"]);
    entry.ask("/inner", &["main"]);
    entry
}
