//! What gets into a zip.

use super::{Entry, go_mod, package};
use crate::History;
use crate::change::{file, gone, link, program, submodule};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        vendored(),
        nested(),
        irregular(),
        licenses(),
        attributes(),
        odd_files(),
        big(),
        no_go_mod(),
    ]
}

/// Where vendored packages are omitted depends on the `go` line.
fn vendored() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "base",
        [
            package("a.go", "1"),
            file("vendor/modules.txt", "# x\n"),
            package("vendor/x.test/y/y.go", "1"),
            package("vendor/direct.go", "1"),
            file("vendor/vendor.json", "{}\n"),
            package("pkg/vendor/vendor.go", "1"),
            file("pkg/vendor/modules.txt", "# y\n"),
            package("pkg/vendor/a/b.go", "1"),
            package("pkg/vendor/vendor/x.go", "1"),
            package("a/b/c/vendor/d/e.go", "1"),
            package("vendored/x.go", "1"),
            package("vendor2/y/x.go", "1"),
            package("x/vendor/foo/bar.go", "1"),
            package("longname/vendor/q.go", "1"),
            package("longname/vendor/q/r.go", "1"),
            file("x/vendor", "placeholder"),
        ],
    );
    for (tag, line) in [
        ("v0.1.0", "module golden.test/vendored\n"),
        ("v0.1.1", "module golden.test/vendored\n\ngo 1.11\n"),
        ("v0.1.2", "module golden.test/vendored\n\ngo 1.23\n"),
        ("v0.1.3", "module golden.test/vendored\n\ngo 1.23.9\n"),
        ("v0.1.4", "module golden.test/vendored\n\ngo 1.24\n"),
        ("v0.1.5", "module golden.test/vendored\n\ngo 1.24rc1\n"),
        ("v0.1.6", "module golden.test/vendored\n\ngo 1.24.0\n"),
        ("v0.1.7", "module golden.test/vendored\n\ngo 1.26.0\n"),
        (
            "v0.1.8",
            "module golden.test/vendored\n\ngo 1.23.0\ntoolchain go1.24.1\n",
        ),
        ("v0.1.9", "module golden.test/vendored\n\ngo nonsense\n"),
        (
            "v0.1.10",
            "module golden.test/vendored\n\nunknown thing\n\ngo 1.24\n",
        ),
    ] {
        h.commit("main", tag, [file("go.mod", line)]);
        h.tag(tag, tag);
    }
    // A tree cannot have both; the file was there for the first commit only.
    h.commit(
        "main",
        "last",
        [
            gone("x/vendor"),
            package("x/vendor/foo/bar.go", "1"),
            package("x/vendor/z.go", "1"),
        ],
    );
    h.tag("v0.2.0", "last");
    h.commit("main", "without", [gone("go.mod")]);
    h.tag("v0.3.0", "without");
    let mut entry = Entry::new("vendored", h);
    entry.ask(
        "",
        &[
            "v0.1.0", "v0.1.1", "v0.1.2", "v0.1.3", "v0.1.4", "v0.1.5", "v0.1.6", "v0.1.7",
            "v0.1.8", "v0.1.9", "v0.1.10", "v0.2.0", "v0.3.0",
        ],
    );
    entry
}

fn nested() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/nested"),
            package("a.go", "1"),
            file("inner/go.mod", "module golden.test/nested/inner\n"),
            package("inner/a.go", "1"),
            package("inner/deep/a.go", "1"),
            file("upper/GO.MOD", "module golden.test/nested/upper\n"),
            package("upper/a.go", "1"),
            file("mixed/Go.Mod", "x"),
            package("mixed/sub/a.go", "1"),
            file("folder/go.mod/file", "x"),
            package("folder/a.go", "1"),
            package("kept/a.go", "1"),
            link("linked/go.mod", "../go.mod"),
            package("linked/a.go", "1"),
        ],
    );
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [file("GO.MOD", "module x\n")]);
    h.tag("v1.0.1", "two");
    h.commit("main", "three", [gone("go.mod")]);
    h.tag("v1.0.2", "three");
    h.commit(
        "main",
        "four",
        [gone("GO.MOD"), link("go.mod", "inner/go.mod")],
    );
    h.tag("v1.0.3", "four");
    h.commit("main", "five", [gone("go.mod"), file("go.mod/x", "1")]);
    h.tag("v1.0.4", "five");
    let mut entry = Entry::new("nested", h);
    entry.ask(
        "",
        &["v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3", "v1.0.4", "main"],
    );
    entry.ask("/inner", &["main", "{one}"]);
    entry.ask("/upper", &["main"]);
    entry.ask("/linked", &["main"]);
    entry
}

fn irregular() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/irregular"),
            package("a.go", "1"),
            program("run.sh", "#!/bin/sh\n"),
            link("link.go", "a.go"),
            link("outside", "/etc/passwd"),
            link("up", "../../.."),
            link("dir", "sub"),
            package("sub/a.go", "1"),
            submodule("module", "0123456789abcdef0123456789abcdef01234567"),
            file(".gitmodules", "[submodule \"module\"]\n\tpath = module\n\turl = https://git.golden.test/plain.git\n"),
            file("empty", ""),
            file(".hidden/file", "x"),
            file(".gitignore", "*.o\n"),
            file("nul", "a\0b"),
        ],
    );
    h.tag("v0.9.0", "one");
    h.commit("main", "two", [gone("nul"), file("data", "a\0b\r\nc")]);
    h.tag("v1.0.0", "two");
    let mut entry = Entry::new("irregular", h);
    entry.ask("", &["v0.9.0", "v1.0.0", "main"]);
    entry
}

fn licenses() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            file("LICENSE", "Root.\n"),
            file("with/go.mod", "module golden.test/licenses/with\n"),
            package("with/a.go", "1"),
            file("own/go.mod", "module golden.test/licenses/own\n"),
            package("own/a.go", "1"),
            file("own/LICENSE", "Own.\n"),
            file("named/go.mod", "module golden.test/licenses/named\n"),
            file("named/LICENSE.md", "Named.\n"),
            file("lower/go.mod", "module golden.test/licenses/lower\n"),
            file("lower/license", "Lower.\n"),
            file("folder/go.mod", "module golden.test/licenses/folder\n"),
            file("folder/LICENSE/text", "In a folder.\n"),
            file("linked/go.mod", "module golden.test/licenses/linked\n"),
            link("linked/LICENSE", "../LICENSE"),
            file("with/v2/go.mod", "module golden.test/licenses/with/v2\n"),
            package("with/v2/a.go", "1"),
        ],
    );
    h.commit(
        "main",
        "two",
        [gone("LICENSE"), link("LICENSE", "own/LICENSE")],
    );
    h.commit(
        "main",
        "three",
        [
            gone("LICENSE"),
            file("LICENSE.txt", "x"),
            file("COPYING", "y"),
        ],
    );
    h.commit("main", "four", [file("LICENSE/x", "a folder")]);
    let mut entry = Entry::new("licenses", h);
    for folder in ["with", "own", "named", "lower", "folder", "linked"] {
        entry.ask(
            &format!("/{folder}"),
            &["{one}", "{two}", "{three}", "{four}"],
        );
    }
    entry.ask("/with/v2", &["{one}", "{two}"]);
    entry
}

fn attributes() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/attributes"),
            file(
                ".gitattributes",
                "*.txt text\n*.crlf text eol=crlf\n*.lf text eol=lf\n*.auto text=auto\n*.bin -text\n\
                 secret export-ignore\nignored/ export-ignore\nsubst.go export-subst\n*.utf16 text working-tree-encoding=UTF-16\n\
                 *.ident ident\n*.lfs filter=lfs diff=lfs merge=lfs -text\n*.macro mine\n[attr]mine text eol=crlf\n\
                 *.both text eol=crlf working-tree-encoding=UTF-16LE\n*.c crlf\n*.d -crlf\n*.in crlf=input\n",
            ),
            file("a.txt", "one\r\ntwo\n"),
            file("a.crlf", "one\ntwo\r\nthree\n"),
            file("a.lf", "one\r\ntwo\n"),
            file("a.auto", "one\r\ntwo\n"),
            file("b.auto", "one\ntwo\n"),
            file("a.bin", "one\r\ntwo\n"),
            file("secret", "kept\n"),
            file("ignored/file", "kept\n"),
            file("subst.go", "package p // $Format:%H$\n"),
            file("a.utf16", "ab\n"),
            file("a.ident", "$Id$\n$Id: old $\n"),
            file("a.lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
            file("a.macro", "x\ny\n"),
            file("a.both", "x\ny\n"),
            file("a.c", "x\ny\r\n"),
            file("a.d", "x\ny\r\n"),
            file("a.in", "x\ny\r\n"),
            file("sub/.gitattributes", "*.txt eol=crlf\n*.crlf -text\n/only.x text eol=crlf\n"),
            file("sub/a.txt", "x\ny\n"),
            file("sub/a.crlf", "x\ny\n"),
            file("sub/only.x", "x\n"),
            file("sub/deep/only.x", "x\n"),
            file("none", "x\r\ny\n"),
        ],
    );
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [
            file(".gitattributes", "* text eol=crlf\n*.bin binary\n"),
            file("a.bin", "a\0\nb\n"),
            file("withnul.x", "a\0\nb\n"),
            file("cr.x", "a\rb\n"),
            file("sub/go.mod", "module golden.test/attributes/sub\n"),
        ],
    );
    h.tag("v1.1.0", "two");
    h.commit(
        "main",
        "three",
        [
            file(".gitattributes", "* text=auto eol=crlf\n"),
            file("mixed.x", "a\r\nb\n"),
        ],
    );
    h.tag("v1.2.0", "three");
    h.commit(
        "main",
        "four",
        [
            gone(".gitattributes"),
            file("s/.gitattributes", "* text eol=crlf\n"),
            file("s/x", "a\n"),
        ],
    );
    h.tag("v1.3.0", "four");
    // git dies of the first of these, and makes what it can of the second.
    for (tag, line) in [
        ("v1.4.0", "* working-tree-encoding\n"),
        ("v1.5.0", "*.x working-tree-encoding=UTF-16LE\n"),
    ] {
        h.commit("main", tag, [file(".gitattributes", line)]);
        h.tag(tag, tag);
    }
    let mut entry = Entry::new("attributes", h);
    entry.ask(
        "",
        &["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0"],
    );
    entry.ask("/sub", &["{two}", "{three}", "{four}"]);
    entry
}

fn odd_files() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/oddfiles"),
            file(".hg_archival.txt", "repo: x\n"),
            file("sub/.hg_archival.txt", "kept\n"),
            file("with space.txt", "x"),
            file("punct!#$%&()+,-=@[]^_{}~.x", "x"),
            file("ünïcödé/日本.go", "package p\n"),
            file("a..b", "x"),
            file("..leading", "x"),
            file("dots/a.b.c", "x"),
            file("concur/console.txt", "x"),
            file("com10", "x"),
        ],
    );
    h.tag("v1.0.0", "one");
    let mut entry = Entry::new("oddfiles", h);
    entry.ask("", &["v1.0.0", "main"]);
    entry
}

fn big() -> Entry {
    let mut h = History::new();
    let noise: Vec<u8> = (0u32..3 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    let folders = (0..300).map(|at| package(&format!("d{at}/e/f{}.go", at % 7), "1"));
    let files = folders.chain([go_mod("golden.test/big"), file("noise", noise)]);
    h.commit("main", "one", files.collect::<Vec<_>>());
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [file("LICENSE", vec![b'x'; (16 << 20) + 1])]);
    h.tag("v1.1.0", "two");
    h.commit(
        "main",
        "three",
        [
            gone("LICENSE"),
            file(
                "go.mod",
                format!("module golden.test/big\n// {}\n", "x".repeat(16 << 20)),
            ),
        ],
    );
    h.tag("v1.2.0", "three");
    let mut entry = Entry::new("big", h);
    entry.ask("", &["v1.0.0", "v1.1.0", "v1.2.0"]);
    entry
}

/// No go.mod, and a path that needs quotes in one or does not.
fn no_go_mod() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [package("a.go", "1"), package("sub/a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [gone("a.go"), gone("sub")]);
    h.tag("v1.1.0", "two");
    let mut entry = Entry::new("nogomod", h);
    entry.ask("", &["v1.0.0", "v1.1.0", "main", "{one}"]);
    entry.import("golden.test/Upper/no~Go.mod", "git {url}");
    entry.ask_of("golden.test/Upper/no~Go.mod", &["v1.0.0", "main"]);
    entry.ask_of("golden.test/upper/no~go.mod", &["v1.0.0"]);
    entry
}
