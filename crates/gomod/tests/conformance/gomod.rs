//! `go.mod` files: what is read of them, and what is refused.

use gomod::{
    ModulePath, Version,
    gomod_file::{GoMod, GoModError, synthesized},
    h1::hash_go_mod,
};
use serde_json::{Value, json};

use crate::{
    exceptions::Exception,
    names::some_path,
    random::Random,
    reference::{Case, Difference, agree, case, text, unicode_tables},
};

const REAL: &[&str] = &[
    "module example.com/m\n\ngo 1.23.0\n\ntoolchain go1.24.1\n\nrequire (\n\tgithub.com/pkg/errors v0.9.1\n\tgolang.org/x/mod v0.20.0 // indirect\n)\n",
    "// Deprecated: use example.com/other\n// instead.\n//\n// Second paragraph.\nmodule example.com/m/v2 // indirect\n\ngo 1.13\n\nretract v2.0.1 // too early\n",
    "module example.com/m\n\n// Bad ones.\nretract (\n\t// first\n\tv1.0.0 // second\n\n\t[v1.1.0, v1.2.0]\n\tv1.9.9\n)\n\nexclude example.com/x v1.0.0\n",
    "module \"example.com/m\"\nreplace example.com/a => ../a\nreplace example.com/b v1.2.3 => example.com/c v1.2.4\nreplace (\n\texample.com/d => ./d\n)\n",
    "module (\n\texample.com/m // Deprecated: all of it\n)\r\ngo 1.21\r\nrequire a.com/b v1.0.0-20190101000000-abcdefabcdef\r\n",
    "module m\ngodebug (\n\tdefault=go1.21\n\tpanicnil=1\n)\ntool example.com/cmd\nignore ./node_modules\nignore (\n\t./a\n\t\"b c\"\n)\n",
    "module gopkg.in/yaml.v3\nrequire \"gopkg.in/check.v1\" v0.0.0-20161208181325-20d25e280405\n",
    "module a.com/m\nrequire b.com/m v2.0.0+incompatible // indirect; why\nrequire b.com/m/v2 v2.1\nretract [v0.1.0, v0.9.9] // all\nretract()\nretract ( )\n",
    "",
];

/// Words, punctuation and ends of lines.
const PIECES: &[&str] = &[
    "module ",
    "go ",
    "toolchain ",
    "require ",
    "replace ",
    "exclude ",
    "retract ",
    "godebug ",
    "tool ",
    "ignore ",
    "unknown ",
    "a.com/m",
    "a.com/m/v2",
    "gopkg.in/x.v1",
    "gopkg.in/x",
    "v1.0.0",
    "v1",
    "v1.2",
    "v2.0.0",
    "v2.0.0+incompatible",
    "v1.0.0+meta",
    "master",
    "v0.0.0-20190101000000-abcdefabcdef",
    "1.23",
    "1.23.4",
    "1.24rc1",
    "1.013",
    "v1.13",
    "v1.13.4",
    "1.21.x",
    "1",
    "0.9",
    "go1.23.1",
    "default",
    "go1",
    "go2",
    "a=b",
    "=",
    " => ",
    "=>",
    "../x",
    "./x",
    "..\\x",
    "C:\\x",
    "/abs",
    " ",
    " ",
    "\t",
    "\n",
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "(",
    ")",
    " (\n",
    "\n)\n",
    "()",
    "( )\n",
    "[",
    "]",
    "[v1.0.0, v1.2.0]",
    ",",
    "{",
    "}",
    "// c",
    "// c\n",
    "//\n",
    "// Deprecated: old",
    "\n// Deprecated: old\n//\n// x\n",
    "//indirect",
    " // indirect",
    "// indirect; x",
    "/*",
    "*/",
    "\"",
    "`",
    "'",
    "\"a.com/m\"",
    "`a.com/m`",
    "'a'",
    "\"\\u0061\"",
    "\"\\x61\\141\"",
    "\"\\xff\"",
    "\"\\n\"",
    "\"\\'\"",
    "\"\\\"\"",
    "\"\\u12\"",
    "\"\\ud800\"",
    "\"\\U0010ffff\"",
    "\"\\400\"",
    "\"a\\\nb\"",
    "\"a b\"",
    "\"\"",
    "a\"b",
    "a`b",
    "\\",
    "\u{e9}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{200b}",
    "\0",
    "\u{1f600}",
    "\u{378}",
    "\u{fffd}",
    "\u{b}",
    "@",
    "a@v1",
    "a.com/m/v1",
];

fn our_file(case: &Case) -> Value {
    let shown = |file: Result<GoMod, GoModError>| file.ok().map(described);
    json!({
        "lax": shown(GoMod::parse_lax(&case[0])),
        "strict": shown(GoMod::parse(&case[0])),
    })
}

fn described(file: GoMod) -> Value {
    let version = |version: Option<Version>| version.map_or_else(String::new, |v| v.to_string());
    let require = file.require.into_iter();
    let exclude = file.exclude.into_iter();
    let replace = file.replace.into_iter();
    let retract = file.retract.into_iter();
    json!({
        "module": file.module.map(|module| [module.path, module.deprecated]),
        "go": file.go,
        "toolchain": file.toolchain,
        "require": require
            .map(|r| json!([r.path, r.version.as_str(), r.indirect]))
            .collect::<Vec<_>>(),
        "exclude": exclude.map(|e| [e.path, e.version.to_string()]).collect::<Vec<_>>(),
        "replace": replace
            .map(|r| [r.path, version(r.version), r.new, version(r.new_version)])
            .collect::<Vec<_>>(),
        "retract": retract.map(|r| [r.low, r.high, r.rationale]).collect::<Vec<_>>(),
    })
}

#[test]
fn files() {
    let mut random = Random::new(8);
    let mut cases: Vec<Case> = REAL.iter().map(|file| case([file])).collect();
    for piece in PIECES {
        for file in [
            format!("module {piece}\n"),
            format!("module a.com/m{piece}"),
            format!("{piece} a.com/m v1.0.0\n"),
            format!("go {piece}\n"),
            format!("toolchain {piece}\n"),
            format!("require a.com/x {piece}\n"),
            format!("require {piece} v1.0.0\n"),
            format!("retract {piece}\n"),
            format!("retract [{piece}, {piece}]{piece}\n"),
            format!("retract (\n{piece}\n{piece} // x\n)\n"),
            format!("replace a.com/x => {piece}\n"),
            format!("replace a.com/x {piece} => {piece} v1.0.0\n"),
            format!("unknown {piece} (\n{piece}\n)\n"),
            format!("// Deprecated: a\n{piece}\nmodule m // {piece}Deprecated: b\n"),
        ] {
            cases.push(case([&file]));
        }
    }
    for _ in 0..20_000 {
        let file = if random.chance(2) {
            random.sentence(PIECES, 1, 14)
        } else {
            let file = random.pick(REAL);
            random.mutate(file, PIECES)
        };
        cases.push(case([&file]));
    }
    for _ in 0..3_000 {
        let mut bytes = random.pick(REAL).as_bytes().to_vec();
        random.mutate_bytes(&mut bytes);
        cases.push(vec![bytes]);
    }
    let read = agree("gomod", &cases, our_file, |_| None, &[]);
    assert!(read > 10_000, "only {read} files are good");
}

#[test]
fn too_much() {
    let cases = [
        vec![b"a\n".repeat(250_000)],
        vec![vec![b' '; (16 << 20) + 1]],
        vec![b"require a.com/b v1.0.0\n".repeat(20_000)],
    ];
    let excuse = |difference: &Difference<'_>| {
        (difference.ours.is_null() && difference.case[0].len() >= 500_000)
            .then_some(Exception::GoModTooMuch)
    };
    agree(
        "gomod",
        &cases,
        our_file,
        excuse,
        &[Exception::GoModTooMuch],
    );
}

#[test]
fn hashes_and_synthesized() {
    let mut cases: Vec<Case> = REAL.iter().map(|file| case([file])).collect();
    cases.push(vec![b"\xff\0\n".to_vec()]);
    let ours = |case: &Case| json!({"h1": hash_go_mod(&case[0]).to_string()});
    agree("h1mod", &cases, ours, |_| None, &[]);

    // No valid path needs quotes.
    let mut random = Random::new(10);
    let cases: Vec<Case> = (0..20_000)
        .map(|_| some_path(&mut random))
        .filter(|path| ModulePath::parse(path).is_ok())
        .map(|path| case([&path]))
        .collect();
    assert!(cases.len() > 500, "only {} paths are good", cases.len());
    let ours = |case: &Case| {
        let path = ModulePath::parse(text(case, 0)).unwrap();
        json!({"file": String::from_utf8(synthesized(&path)).unwrap()})
    };
    agree("synth", &cases, ours, |_| None, &[]);
}

/// Every code point, as part of a word.
#[test]
fn printable() {
    let tables = unicode_tables();
    let boundaries: Vec<u64> = serde_json::from_value(tables["printable"].clone()).unwrap();
    for c in '\u{80}'..=char::MAX {
        let theirs = boundaries.partition_point(|at| *at <= u64::from(u32::from(c))) % 2 == 1;
        let file = format!("module a{c}");
        let ours = GoMod::parse_lax(file.as_bytes()).is_ok();
        assert_eq!(ours, theirs, "{:#x}", u32::from(c));
    }
}
