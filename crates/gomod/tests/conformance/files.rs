//! The files that make a zip: what `zip.CheckFiles` and `zip.Create` take of a tree.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gomod::zip::{Kind, Limits, SourceFile, select};
use serde_json::{Value, json};

use crate::{
    exceptions::Exception,
    random::Random,
    reference::{Case, Difference, agree, unicode_tables},
};

/// Elements of paths; a `/` is put between them.
const ELEMENTS: &[&str] = &[
    "a",
    "b",
    "A",
    "d",
    "D",
    "a.go",
    "go.mod",
    "go.mod",
    "GO.MOD",
    "Go.Mod",
    "vendor",
    "vendor",
    "Vendor",
    "modules.txt",
    "LICENSE",
    "license",
    ".hg_archival.txt",
    ".git",
    "x y",
    "con",
    "aux.go",
    "a.",
    ".b",
    "..",
    ".",
    "",
    "a:b",
    "a\\b",
    "\u{e9}",
    "\u{c9}",
    "\u{212a}",
    "k",
    "\u{661}",
    "e\u{301}",
    "a~1",
    "vendored",
];

const GO_LINES: &[&str] = &[
    "",
    "go 1.23\n",
    "go 1.24\n",
    "go 1.24.0\n",
    "go 1.24rc1\n",
    "go 1.23.99\n",
    "go 1.25\n",
    "go 2.0\n",
    "go 1.9\n",
    "go 1.24.3rc1\n",
    "go 1.24rc01\n",
    "go 1.24beta\n",
    "go v1.24.x\n",
    "go 1.24 // x\n",
    "go x\n",
    "go 1.124\n",
    "go 1.24foo1\n",
];

#[derive(Clone, Debug)]
struct File {
    name: Vec<u8>,
    kind: &'static str,
    size: u64,
    content: Vec<u8>,
}

impl File {
    fn new(name: &str) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            kind: "regular",
            size: 1,
            content: Vec::new(),
        }
    }

    fn go_mod(content: &str) -> Self {
        Self {
            content: content.as_bytes().to_vec(),
            size: content.len() as u64,
            ..Self::new("go.mod")
        }
    }
}

fn tree(files: &[File]) -> Case {
    let files: Vec<Value> = files
        .iter()
        .map(|file| {
            json!({
                "name": STANDARD.encode(&file.name),
                "kind": file.kind,
                "size": file.size,
                "content": STANDARD.encode(&file.content),
            })
        })
        .collect();
    vec![Value::Array(files).to_string().into_bytes()]
}

fn ours(case: &Case) -> Value {
    let files: Vec<Value> = serde_json::from_slice(&case[0]).unwrap();
    let bytes =
        |file: &Value, member: &str| STANDARD.decode(file[member].as_str().unwrap()).unwrap();
    let names: Vec<Vec<u8>> = files.iter().map(|file| bytes(file, "name")).collect();
    let sources: Vec<SourceFile<'_>> = files
        .iter()
        .zip(&names)
        .map(|(file, name)| SourceFile {
            name,
            kind: match file["kind"].as_str().unwrap() {
                "symlink" => Kind::Symlink,
                "folder" => Kind::Folder,
                "other" => Kind::Other,
                _ => Kind::Regular,
            },
            size: file["size"].as_u64().unwrap(),
        })
        .collect();
    let root = sources
        .iter()
        .rposition(|file| file.name == b"go.mod" && file.kind == Kind::Regular);
    let go_mod = root.map(|at| bytes(&files[at], "content"));
    match select(&sources, go_mod.as_deref(), &Limits::default()) {
        Ok(selection) => {
            let name = |index: usize| String::from_utf8_lossy(&names[index]).into_owned();
            let valid: Vec<String> = selection.included.iter().map(|i| name(*i)).collect();
            let mut omitted: Vec<String> =
                selection.omitted.iter().map(|(i, _)| name(*i)).collect();
            omitted.sort();
            // The reference names each once.
            omitted.dedup();
            json!({"valid": valid, "omitted": omitted, "_why": ""})
        }
        Err(error) => json!({"valid": null, "omitted": null, "_why": error.to_string()}),
    }
}

fn agree_on(trees: &[Vec<File>], expected: &[Exception]) -> usize {
    let cases: Vec<Case> = trees.iter().map(|files| tree(files)).collect();
    agree("files", &cases, ours, excuse, expected)
}

fn excuse(difference: &Difference<'_>) -> Option<Exception> {
    let why = difference.our_facts["_why"].as_str()?;
    why.contains("too long or too deep")
        .then_some(Exception::LongName)
}

#[test]
fn trees() {
    let mut random = Random::new(9);
    let mut trees = Vec::new();
    for go in GO_LINES {
        let names = [
            "vendor/modules.txt",
            "vendor/x.go",
            "vendor/a/x.go",
            "a/vendor/x.go",
            "a/vendor/modules.txt",
            "a/vendor/b/x.go",
            "abcdefgh/vendor/x.go",
            "a/b/c/d/vendor/x.go",
            "a/vendor/vendor/x.go",
            "vendor/vendor/x",
            "a/vendor",
            "vendorx/a/b",
            "a/xvendor/b/c",
            "vendor",
        ];
        for name in names {
            let module = format!("module example.com/m\n{go}");
            trees.push(vec![File::go_mod(&module), File::new(name)]);
            trees.push(vec![File::new(name)]);
        }
    }
    for a in ELEMENTS {
        trees.push(vec![File::new(a)]);
        for b in ELEMENTS {
            trees.push(vec![File::new(a), File::new(b)]);
            trees.push(vec![File::new(&format!("{a}/{b}"))]);
            trees.push(vec![
                File::new(&format!("{a}/x")),
                File::new(&format!("{b}/y")),
            ]);
        }
    }
    for name in [
        &b"\xff"[..],
        b"vendor/a/\xff",
        b"sub/\xff",
        b"/abs",
        b"/",
        b"../a",
        b"../vendor/a/b",
    ] {
        let file = File {
            name: name.to_vec(),
            ..File::new("")
        };
        trees.push(vec![file.clone()]);
        trees.push(vec![file, File::new("sub/go.mod")]);
    }
    for elements in [1, 15, 250] {
        trees.push(vec![File::new(&vec!["a".repeat(250); elements].join("/"))]);
    }
    for _ in 0..12_000 {
        // Fewer elements than in all, so that names meet.
        let from = random.below(ELEMENTS.len());
        let few: Vec<&str> = (0..5)
            .map(|i| ELEMENTS[(from + i * 7) % ELEMENTS.len()])
            .collect();
        let mut files = Vec::new();
        for _ in 0..=random.below(6) {
            let depth = 1 + random.below(4);
            let elements: Vec<&str> = (0..depth)
                .map(|_| {
                    if random.chance(6) {
                        random.pick(&["vendor", "x", "go.mod"])
                    } else {
                        random.pick(&few)
                    }
                })
                .collect();
            let mut file = File::new(&elements.join("/"));
            file.kind = match random.below(12) {
                0 => "symlink",
                1 => "folder",
                2 => "other",
                _ => "regular",
            };
            files.push(file);
        }
        if random.chance(2) {
            let go = random.pick(GO_LINES);
            let mut file = File::go_mod(&format!("module example.com/m\n{go}"));
            if random.chance(10) {
                file.kind = "symlink";
            }
            files.push(file);
        }
        trees.push(files);
    }
    let chosen = agree_on(&trees, &[Exception::LongName]);
    assert!(chosen > 3_000, "only {chosen} facts of good trees");
}

#[test]
fn sizes() {
    let sized = |name: &str, size| File {
        size,
        ..File::new(name)
    };
    let mut trees = Vec::new();
    for name in [
        "a",
        "go.mod",
        "LICENSE",
        "license",
        "d/LICENSE",
        "vendor/a/b",
    ] {
        for size in [
            16 << 20,
            (16 << 20) + 1,
            500 << 20,
            (500 << 20) + 1,
            1 << 40,
        ] {
            trees.push(vec![sized(name, size), File::new("b")]);
            trees.push(vec![sized("c", 499 << 20), sized(name, size)]);
        }
    }
    agree_on(&trees, &[]);
}

/// Every code point in a name, and every pair that differs only in case.
#[test]
fn letters_and_case() {
    let tables = unicode_tables();
    let boundaries: Vec<u64> = serde_json::from_value(tables["letters"].clone()).unwrap();
    let folded: Vec<[u32; 2]> = serde_json::from_value(tables["folded"].clone()).unwrap();
    let checked = |names: &[String]| {
        let sources: Vec<SourceFile<'_>> = names
            .iter()
            .map(|name| SourceFile {
                name: name.as_bytes(),
                kind: Kind::Regular,
                size: 0,
            })
            .collect();
        select(&sources, None, &Limits::default())
    };
    let good = |names: &[String]| checked(names).is_ok();
    let mut folds: Vec<String> = Vec::new();
    let mut folded_ones = folded.iter().map(|[from, _]| *from).peekable();
    for c in '\u{80}'..=char::MAX {
        let theirs = boundaries.partition_point(|at| *at <= u64::from(u32::from(c))) % 2 == 1;
        let name = format!("a{c}");
        assert_eq!(
            good(std::slice::from_ref(&name)),
            theirs,
            "{:#x}",
            u32::from(c)
        );
        while folded_ones.next_if(|from| *from < u32::from(c)).is_some() {}
        if theirs && folded_ones.peek() != Some(&u32::from(c)) {
            folds.push(name);
        }
    }
    folds.extend(('a'..='z').map(|c| format!("a{c}")));
    checked(&folds).expect("no two of these letters are equal but for case");
    for [from, to] in folded {
        let names = [from, to].map(|c| format!("a{}", char::from_u32(c).unwrap()));
        assert!(
            !good(&names),
            "{from:#x} and {to:#x} are equal but for case"
        );
    }
}
