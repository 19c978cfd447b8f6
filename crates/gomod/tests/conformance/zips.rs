//! Zips from upstream: what `zip.CheckZip`, `dirhash.HashZip` and `zip.Unzip` together accept, and the hash.

use std::io::Cursor;

use gomod::{
    ModulePath, Version,
    zip::{Limits, Want, check},
};
use serde_json::{Value, json};

use crate::{
    exceptions::Exception,
    random::Random,
    reference::{Case, Difference, agree, text},
    zip_file::{Descriptor, Entry, Frame, deflated, write},
};

const PREFIX: &str = "Example.com/M@v1.0.0-RC1/";

/// Names after the prefix, good and bad.
const NAMES: &[&str] = &[
    "",
    "/",
    "go.mod",
    "GO.MOD",
    "Go.mod",
    "a.go",
    "A.go",
    "b.go",
    "d/a.go",
    "d/A.go",
    "D/a.go",
    "d",
    "d/",
    "d/e/",
    "d/e/f.go",
    "d/go.mod",
    "d/GO.MOD",
    "d/go.mod/",
    "go.mod/",
    "go.mod/x",
    "LICENSE",
    "license",
    "LICENSE/",
    "../a",
    "/a",
    "a//b",
    "a/./b",
    "a/../b",
    "./a",
    ".",
    "..",
    "...",
    ".a",
    "a.",
    "a./b",
    "con",
    "CON",
    "con.go",
    "d/aux.txt",
    "com1",
    "com0",
    "COM\u{b9}",
    "nul ",
    "a b",
    " a",
    "a ",
    "a\\b",
    "a:b",
    "a*b",
    "a?b",
    "a<b",
    "a>b",
    "a|b",
    "a\"b",
    "a'b",
    "a`b",
    "a;b",
    "a\tb",
    "a\nb",
    "a\0b",
    "a\u{7f}b",
    "!",
    "#",
    "$%&()+,-=@[]^_{}~",
    "a~1.go",
    "\u{e9}t\u{e9}",
    "\u{c9}T\u{c9}",
    "e\u{301}",
    "K",
    "k",
    "\u{212a}",
    "s",
    "\u{17f}",
    "\u{df}",
    "\u{1e9e}",
    "\u{130}",
    "\u{131}",
    "i",
    "\u{3c3}",
    "\u{3c2}",
    "\u{3a3}",
    "\u{661}",
    "\u{4e16}\u{754c}",
    "\u{1f600}",
    "\u{345}",
    "\u{3b9}",
    "\u{24b6}",
    "\u{1c5}",
    "\u{1c4}",
    "\u{10d50}",
    "\u{a7cb}",
    "\u{ff21}",
    "\u{ff41}",
    "\u{feff}",
    "\u{ad}",
    "\u{200b}",
    "vendor/modules.txt",
    "vendor/x/y.go",
    ".gitignore",
    ".git/config",
    "x/go.mod.bak",
];

fn zip_case(path: &str, version: &str, bytes: Vec<u8>) -> Case {
    vec![path.as_bytes().to_vec(), version.as_bytes().to_vec(), bytes]
}

fn ours(case: &Case) -> Value {
    let (Ok(path), Ok(version)) = (
        ModulePath::parse(text(case, 0)),
        Version::parse(text(case, 1)),
    ) else {
        return json!({"h1": null, "_why": "names"});
    };
    let bytes = &case[2];
    let checked = check(
        Cursor::new(bytes),
        bytes.len() as u64,
        &path,
        &version,
        &Limits::default(),
        Want::Hash,
    );
    match checked {
        Ok(report) => json!({"h1": report.h1.unwrap().to_string(), "_why": ""}),
        Err(error) => json!({"h1": null, "_why": error.to_string()}),
    }
}

/// Only what is refused here and accepted there may be excused.
fn excuse(difference: &Difference<'_>) -> Option<Exception> {
    let why = difference.our_facts["_why"].as_str()?;
    if !difference.ours.is_null() {
        return None;
    }
    let reasons = [
        ("not where its end says", Exception::ZipGap),
        ("another number of entries", Exception::ZipCount),
        ("too large: the zip's directory", Exception::ZipCount),
        ("several parts", Exception::ZipParts),
        ("encrypted", Exception::ZipEncrypted),
        ("its checksum does not match", Exception::ZipZeroCrc),
        ("Go does not read", Exception::ZipFolderMethod),
        ("a damaged directory entry", Exception::ZipCount),
        ("a directory entry that is cut short", Exception::ZipCount),
        ("entries overlap", Exception::ZipOverlap),
    ];
    reasons
        .iter()
        .find(|(text, _)| why.contains(text))
        .map(|(_, exception)| *exception)
}

fn agree_on(zips: Vec<Vec<u8>>, expected: &[Exception]) -> usize {
    let cases: Vec<Case> = zips
        .into_iter()
        .map(|zip| zip_case("example.com/M", "v1.0.0-RC1", zip))
        .collect();
    agree("zip", &cases, ours, excuse, expected)
}

fn prefixed(name: &str) -> String {
    format!("{}{name}", PREFIX.replace('E', "e"))
}

fn file(name: &str, content: &[u8]) -> Entry {
    Entry::new(&prefixed(name), content)
}

fn changed(change: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut entry = file("a.go", b"package a\n");
    change(&mut entry);
    write(
        &[file("go.mod", b"module m\n"), entry, file("z.go", b"z")],
        &Frame::default(),
    )
}

#[test]
fn names() {
    let mut zips = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        for content in [&b""[..], b"x"] {
            zips.push(write(&[file(name, content)], &Frame::default()));
        }
        for other in &NAMES[index..] {
            let entries = [file(name, b""), file(other, b"")];
            zips.push(write(&entries, &Frame::default()));
        }
    }
    for name in [
        "",
        "a.go",
        "example.com/m@v1.0.0-RC1/a.go",
        "/",
        "example.com/M@v1.0.0-RC1",
    ] {
        zips.push(write(&[Entry::new(name, b"x")], &Frame::default()));
    }
    for name in [&b"\xff"[..], b"\xc3", b"a\xed\xa0\x80"] {
        let mut entry = file("", b"x");
        entry.name.extend_from_slice(name);
        zips.push(write(&[entry], &Frame::default()));
    }
    // Longer ones cannot be unpacked on any system; a path too long is refused here before that.
    for elements in [1, 15, 17, 250] {
        let name = vec!["a".repeat(250); elements].join("/");
        zips.push(write(&[file(&name, b"")], &Frame::default()));
    }
    agree_on(zips, &[]);
}

#[test]
fn module_and_version() {
    let zip = |prefix: &str| {
        let name = format!("{prefix}a.go");
        write(&[Entry::new(&name, b"x")], &Frame::default())
    };
    let mut cases = Vec::new();
    for (path, version) in [
        ("a.com/m", "v1.0.0"),
        ("a.com/m", "v2.0.0"),
        ("a.com/m", "v2.0.0+incompatible"),
        ("a.com/m/v2", "v2.0.0"),
        ("gopkg.in/m.v1", "v1.2.3"),
        ("a.com/m", "v1.0"),
        ("a.com/m", "v1.0.0+meta"),
        ("a.com/m", "master"),
        ("a", "v1.0.0"),
    ] {
        cases.push(zip_case(path, version, zip(&format!("{path}@{version}/"))));
        cases.push(zip_case(path, version, zip("a.com/m@v1.0.0/")));
    }
    let ours = |case: &Case| {
        // That a version fits the path is checked before a zip is asked for.
        let path = ModulePath::parse(text(case, 0));
        let version = Version::parse(text(case, 1));
        match (path, version) {
            (Ok(path), Ok(version)) if version.check_major(&path).is_ok() => ours(case),
            _ => json!({"h1": null, "_why": "names"}),
        }
    };
    agree("zip", &cases, ours, excuse, &[]);
}

#[test]
fn fields() {
    let mut zips = vec![changed(|_| {})];
    for method in [0, 8] {
        for content in [&b""[..], b"x", &vec![b'y'; 70_000]] {
            for descriptor in [
                Descriptor::None,
                Descriptor::Signed,
                Descriptor::Unsigned,
                Descriptor::WrongCrc,
                Descriptor::Missing,
            ] {
                for zip64 in [false, true] {
                    for (name, mode) in [("a.go", 0), ("l", 0o120_777), ("d/", 0o040_755)] {
                        zips.push(changed(|entry| {
                            *entry = file(name, content);
                            entry.method = method;
                            entry.descriptor = descriptor;
                            entry.zip64 = zip64;
                            entry.unix_mode = mode;
                        }));
                    }
                }
            }
        }
        for crc in [0, 1] {
            for name in ["a.go", "d/"] {
                zips.push(changed(|entry| {
                    *entry = file(name, b"x");
                    (entry.method, entry.crc) = (method, Some(crc));
                }));
            }
        }
        for size in [0, 9, 11, 1 << 20, 0xffff_ffff, (500 << 20) + 1] {
            zips.push(changed(|entry| {
                (entry.method, entry.size) = (method, Some(size));
            }));
            zips.push(changed(|entry| {
                (entry.method, entry.compressed) = (method, Some(size));
            }));
            zips.push(changed(|entry| {
                *entry = file("d/", b"");
                (entry.method, entry.compressed) = (method, Some(size));
            }));
        }
    }
    for method in [1, 9, 12, 93, 99] {
        for name in ["a.go", "d/"] {
            zips.push(changed(|entry| {
                *entry = file(name, b"");
                entry.method = method;
            }));
        }
    }
    for flags in [1, 2, 4, 0x800, 0x2000] {
        zips.push(changed(|entry| entry.flags = flags));
    }
    for offset in [0, 1, 5, 0xffff_fffe, 0xffff_ffff] {
        zips.push(changed(|entry| entry.offset = Some(offset)));
    }
    for extra in [
        &b"\x01\0\0\0"[..],
        b"\x01\0\x08\0\0\0",
        b"UT\x05\0\x01\0\0\0\0",
        b"\x01",
        b"\x0a\0\x20\0",
        b"\x01\0\x08\0\x0a\0\0\0\0\0\0\0",
    ] {
        for size in [None, Some(0xffff_ffff)] {
            zips.push(changed(|entry| {
                (entry.extra, entry.size) = (extra.to_vec(), size);
            }));
        }
    }
    zips.push(changed(|entry| entry.comment = b"a comment \xff".to_vec()));
    zips.push(changed(|entry| entry.trailing = b"more".to_vec()));
    let expected = [
        Exception::ZipZeroCrc,
        Exception::ZipEncrypted,
        Exception::ZipFolderMethod,
        Exception::ZipOverlap,
    ];
    agree_on(zips, &expected);
}

#[test]
fn frames() {
    let end = b"PK\x05\x06".to_vec();
    let entries = [file("go.mod", b"module m\n"), file("a.go", b"package a\n")];
    let mut zips = Vec::new();
    let mut add = |change: &dyn Fn(&mut Frame)| {
        let mut frame = Frame::default();
        change(&mut frame);
        zips.push(write(&entries, &frame));
        zips.push(write(&[], &frame));
    };
    add(&|_| {});
    add(&|frame| frame.before = b"#!/bin/sh\n".to_vec());
    add(&|frame| frame.between = b"gap".to_vec());
    add(&|frame| frame.after = b"junk".to_vec());
    add(&|frame| frame.after = vec![0; 70_000]);
    add(&|frame| frame.disk = 1);
    for comment in [&b"c"[..], &[b'c'; 1500], &vec![b'c'; 65_535]] {
        add(&|frame| frame.comment = comment.to_vec());
        add(&|frame| frame.comment = [comment, &end, &[0; 40]].concat()[..comment.len()].to_vec());
        let with_end = [&end[..], &[0xff; 40], comment].concat();
        add(&|frame| frame.after.clone_from(&with_end));
        add(&|frame| frame.comment = with_end[..with_end.len().min(65_535)].to_vec());
    }
    for length in [1, 22, 65_535] {
        add(&|frame| frame.comment_len = Some(length));
    }
    for records in [0, 1, 3, 0xffff] {
        add(&|frame| frame.records = Some(records));
    }
    for value in [0, 1, 0xffff, 0x7fff_ffff, 0xffff_ffff] {
        add(&|frame| frame.directory_size = Some(value));
        add(&|frame| frame.directory_offset = Some(value));
    }
    for disks in [0, 1, 2] {
        add(&|frame| frame.zip64 = Some(disks));
        add(&|frame| (frame.zip64, frame.directory_size) = (Some(disks), Some(0xffff)));
        for records in [0, 1, 2] {
            add(&|frame| (frame.zip64, frame.records) = (Some(disks), Some(records)));
        }
        for records in [0, 1, 2 + 0x1_0000, u64::MAX] {
            add(&|frame| (frame.zip64, frame.records64) = (Some(disks), Some(records)));
        }
    }
    let expected = [Exception::ZipGap, Exception::ZipCount, Exception::ZipParts];
    agree_on(zips, &expected);
}

#[test]
fn sizes() {
    let mut zips = Vec::new();
    for name in ["go.mod", "LICENSE", "a.go"] {
        for size in [16 << 20, (16 << 20) + 1] {
            zips.push(write(&[file(name, &vec![b' '; size])], &Frame::default()));
        }
    }
    let mut big = file("a", b"x");
    big.size = Some(300 << 20);
    zips.push(write(&[big.clone(), file("b", b"x")], &Frame::default()));
    let mut other = file("b", b"x");
    other.size = Some(300 << 20);
    zips.push(write(&[big, other], &Frame::default()));
    agree_on(zips, &[]);
}

#[test]
fn mutated() {
    let mut random = Random::new(7);
    let mut zips = Vec::new();
    for round in 0..5_000 {
        let mut entries = Vec::new();
        for _ in 0..=random.below(4) {
            let length = random.below(200);
            let content: Vec<u8> = (0..length).map(|_| b"ab\n "[random.below(4)]).collect();
            let name = match random.below(3) {
                0 => prefixed(random.pick(NAMES)),
                _ => prefixed(&format!("f{}", random.below(1000))),
            };
            let mut entry = Entry::new(&name, &content);
            entry.method = if random.chance(3) { 0 } else { 8 };
            entry.zip64 = random.chance(5);
            if random.chance(4) {
                entry.descriptor = Descriptor::Signed;
            }
            entries.push(entry);
        }
        let mut frame = Frame::default();
        if random.chance(5) {
            frame.zip64 = Some(1);
        }
        let mut zip = write(&entries, &frame);
        if round % 4 != 0 {
            random.mutate_bytes(&mut zip);
        }
        zips.push(zip);
    }
    // Damage inside the compressed stream, behind right sizes and a CRC that Go does not look at.
    for _ in 0..3_000 {
        let length = random.below(400);
        let content: Vec<u8> = (0..length).map(|_| b"abcdefgh"[random.below(8)]).collect();
        let mut stream = deflated(&content);
        random.mutate_bytes(&mut stream);
        let mut entry = file("a.go", &stream);
        (entry.method, entry.size) = (0, Some(u32::try_from(length).unwrap()));
        let mut zip = write(&[entry], &Frame::default());
        // The method, in both headers.
        zip[8] = 8;
        let directory = zip.len() - 22 - 46 - prefixed("a.go").len();
        zip[directory + 10] = 8;
        if random.chance(2) {
            zip[directory + 16..directory + 20].fill(0);
        } else {
            let crc = crc32fast::hash(&content);
            zip[directory + 16..directory + 20].copy_from_slice(&crc.to_le_bytes());
        }
        zips.push(zip);
    }
    let expected = [
        Exception::ZipGap,
        Exception::ZipCount,
        Exception::ZipZeroCrc,
        Exception::ZipParts,
        Exception::ZipOverlap,
    ];
    let accepted = agree_on(zips, &expected);
    assert!(accepted > 500, "only {accepted} zips are good");
}
