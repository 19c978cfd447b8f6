//! Major versions by suffix, by folder and by neither; modules in folders.

use super::{Entry, go_mod, package};
use crate::History;
use crate::change::{file, gone};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        by_suffix(),
        by_folder(),
        both(),
        incompatible(),
        incompatible_by_folder(),
        incompatible_after_module(),
        gap(),
        folders(),
        folder_majors(),
        wrong_lines(),
        nothing_under_v2(),
        forked(),
    ]
}

fn by_suffix() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/suffix"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [go_mod("golden.test/suffix/v2"), package("a.go", "2")],
    );
    h.commit("main", "three", [package("a.go", "3")]);
    h.tag("v2.0.0", "three");
    h.tag("v2.0.1-rc.1", "three");
    h.commit("main", "four", [package("a.go", "4")]);
    h.commit("main", "five", [go_mod("golden.test/suffix/v3")]);
    let mut entry = Entry::new("suffix", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v2.0.0",
            "v2.0.0+incompatible",
            "main",
            "{two}",
            "v0.0.0-{two:p}",
            "v1.0.1-0.{two:p}",
            "v2",
        ],
    );
    entry.ask(
        "/v2",
        &[
            "v2.0.0",
            "v2.0.1-rc.1",
            "v1.0.0",
            "v2.0.0+incompatible",
            "{one}",
            "{two}",
            "{three}",
            "{four}",
            "main",
            "v2.0.0-{two:p}",
            "v1.0.1-0.{two:p}",
            "v2.0.1-0.{four:p}",
            "v2.0.1-rc.1.0.{four:p}",
            "v2",
            "v2.0.0-{four:p}",
        ],
    );
    entry.ask(
        "/v3",
        &[
            "v3.0.0",
            "main",
            "{five}",
            "v3.0.0-{five:p}",
            "{four}",
            "v2.0.1-0.{five:p}",
        ],
    );
    entry.ask("/v1", &["v1.0.0"]);
    entry.ask("/v02", &["v2.0.0"]);
    entry
}

fn by_folder() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/folder"),
            package("a.go", "1"),
            file("LICENSE", "Free.\n"),
        ],
    );
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [
            file("v2/go.mod", "module golden.test/folder/v2\n"),
            package("v2/a.go", "2"),
        ],
    );
    h.tag("v2.0.0", "two");
    h.tag("v1.1.0", "two");
    h.tag("v2/v2.7.0", "two");
    h.commit("main", "three", [package("v2/a.go", "3")]);
    h.commit("main", "four", [gone("v2")]);
    h.tag("v2.3.0", "four");
    let mut entry = Entry::new("folder", h);
    entry.ask(
        "",
        &["v1.0.0", "v1.1.0", "v2.0.0", "{two}", "{three}", "main"],
    );
    entry.ask(
        "/v2",
        &[
            "v2.0.0",
            "v2.3.0",
            "v2.7.0",
            "{one}",
            "{two}",
            "{three}",
            "{four}",
            "v2.0.1-0.{three:p}",
            "main",
        ],
    );
    entry
}

/// The same major in the root and in its folder.
fn both() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/both/v2"),
            package("a.go", "1"),
            file("v2/go.mod", "module golden.test/both/v2\n"),
            package("v2/a.go", "1"),
        ],
    );
    h.tag("v2.0.0", "one");
    h.commit(
        "main",
        "two",
        [file("v2/go.mod", "module golden.test/both/v3\n")],
    );
    h.tag("v2.1.0", "two");
    h.commit("main", "three", [file("v2/go.mod", "// nothing\n")]);
    h.tag("v2.2.0", "three");
    h.commit("main", "four", [gone("v2/go.mod")]);
    h.tag("v2.3.0", "four");
    let mut entry = Entry::new("both", h);
    entry.ask(
        "/v2",
        &["v2.0.0", "v2.1.0", "v2.2.0", "v2.3.0", "main", "{one:7}"],
    );
    entry.ask("", &["v2.0.0", "main"]);
    entry
}

fn incompatible() -> Entry {
    let mut h = History::new();
    h.commit("main", "one", [package("a.go", "1")]);
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v2.0.0", "two");
    h.tag("v2.1.0-rc.1", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.tag("v3.0.0", "three");
    h.commit("main", "four", [package("a.go", "4")]);
    let mut entry = Entry::new("incompatible", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v2.0.0",
            "v2.0.0+incompatible",
            "v2.1.0-rc.1",
            "v2.1.0-rc.1+incompatible",
            "v3.0.0",
            "v3.0.0+incompatible",
            "v1.0.0+incompatible",
            "{two}",
            "{three}",
            "main",
            "v2",
            "v3",
            "v2.0",
            "v3.0.1-0.{four:p}+incompatible",
            "v3.0.1-0.{four:p}",
            "v2.0.1-0.{four:p}+incompatible",
            "v0.0.0-{four:p}+incompatible",
            "v0.0.0-{four:p}",
            "v4.0.0+incompatible",
            "v2.0.0+other",
            "v2.0.0-{four:p}+incompatible",
        ],
    );
    entry.ask("/v2", &["v2.0.0", "v2.0.0+incompatible"]);
    entry
}

/// `vN/go.mod` rules `+incompatible` out, unless it is asked for by name.
fn incompatible_by_folder() -> Entry {
    let mut h = History::new();
    h.commit("main", "one", [package("a.go", "1")]);
    h.tag("v2.0.0", "one");
    h.commit(
        "main",
        "two",
        [
            file("v2/go.mod", "module golden.test/infolder/v2\n"),
            package("v2/a.go", "2"),
        ],
    );
    h.tag("v2.1.0", "two");
    h.tag("v3.0.0", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    let mut entry = Entry::new("infolder", h);
    entry.ask(
        "",
        &[
            "v2.0.0",
            "v2.0.0+incompatible",
            "v2.1.0",
            "v2.1.0+incompatible",
            "v3.0.0",
            "{two}",
            "main",
            "v2",
            "v3.0.1-0.{three:p}+incompatible",
            "v2.1.1-0.{three:p}+incompatible",
        ],
    );
    entry.ask("/v2", &["v2.0.0", "v2.1.0", "{two}", "main"]);
    entry
}

/// A go.mod in the highest v1 hides all `+incompatible`; one in the highest of a major hides that major.
fn incompatible_after_module() -> Entry {
    let mut h = History::new();
    h.commit("main", "one", [package("a.go", "1")]);
    h.tag("v2.0.0", "one");
    h.tag("v3.0.0", "one");
    h.commit(
        "main",
        "two",
        [go_mod("golden.test/latemodule"), package("a.go", "2")],
    );
    h.tag("v1.0.0", "two");
    h.tag("v3.1.0", "two");
    h.commit_on("old", "o1", &["one"], [package("o.go", "1")]);
    h.tag("v4.0.0", "o1");
    let mut entry = Entry::new("latemodule", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v2.0.0",
            "v3.0.0+incompatible",
            "v3.1.0",
            "v3.1.0+incompatible",
            "v4.0.0",
            "{one}",
            "{two}",
            "old",
            "v2",
            "v4",
        ],
    );
    entry
}

/// No v0 or v1 at all, and a go.mod only in some of a major's tags.
fn gap() -> Entry {
    let mut h = History::new();
    h.commit("main", "one", [package("a.go", "1")]);
    h.tag("v2.0.0", "one");
    h.tag("v3.0.0", "one");
    h.commit("main", "two", [go_mod("golden.test/gap")]);
    h.tag("v3.1.0", "two");
    h.tag("v4.0.0-pre", "two");
    h.commit("main", "three", [gone("go.mod"), package("b.go", "3")]);
    h.tag("v5.0.0", "three");
    let mut entry = Entry::new("gap", h);
    entry.ask(
        "",
        &[
            "v2.0.0",
            "v3.0.0",
            "v3.1.0",
            "v4.0.0-pre",
            "v5.0.0",
            "main",
            "{two}",
            "v5",
            "v3",
        ],
    );
    entry
}

fn folders() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            go_mod("golden.test/mono"),
            package("a.go", "1"),
            file("LICENSE", "The root's.\n"),
            file("lib/go.mod", "module golden.test/mono/lib\n"),
            package("lib/a.go", "1"),
            file("lib/deep/go.mod", "module golden.test/mono/lib/deep\n"),
            package("lib/deep/a.go", "1"),
            file("lib/deep/LICENSE", "Its own.\n"),
            package("lib/inner/a.go", "1"),
            package("plain/a.go", "1"),
        ],
    );
    h.tag("v1.0.0", "one");
    h.tag("lib/v0.1.0", "one");
    h.tag("lib/deep/v0.2.0", "one");
    h.tag("plain/v0.3.0", "one");
    h.commit("main", "two", [package("lib/a.go", "2")]);
    h.tag("lib/v0.1.1", "two");
    h.tag("lib/latest", "two");
    h.tag("v1.1.0", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.tag("lib/v2.0.0", "three");
    let mut entry = Entry::new("mono", h);
    entry.ask(
        "",
        &["v1.0.0", "v1.1.0", "v0.1.0", "lib/v0.1.0", "{one}", "main"],
    );
    entry.ask(
        "/lib",
        &[
            "v0.1.0",
            "v0.1.1",
            "v1.0.0",
            "v2.0.0",
            "v2.0.0+incompatible",
            "lib/v0.1.0",
            "main",
            "{one}",
            "{two}",
            "{three}",
            "v0.1.2-0.{three:p}",
            "v1.1.1-0.{three:p}",
            "v0.0.0-{three:p}",
            "latest",
            "v0",
        ],
    );
    entry.ask("/lib/deep", &["v0.2.0", "v0.1.0", "main", "{two}"]);
    entry.ask("/plain", &["v0.3.0", "main", "{one}"]);
    entry.ask("/lib/inner", &["v0.1.0", "main"]);
    entry.ask("/nowhere", &["v1.0.0", "main"]);
    entry
}

fn folder_majors() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            file("kit/go.mod", "module golden.test/kits/kit\n"),
            package("kit/a.go", "1"),
            file("kit/v2/go.mod", "module golden.test/kits/kit/v2\n"),
            package("kit/v2/a.go", "1"),
        ],
    );
    h.tag("kit/v1.0.0", "one");
    h.tag("kit/v2.0.0", "one");
    h.commit(
        "main",
        "two",
        [
            file("kit/go.mod", "module golden.test/kits/kit/v3\n"),
            package("kit/a.go", "2"),
        ],
    );
    h.tag("kit/v3.0.0", "two");
    h.tag("kit/v3/v3.1.0", "two");
    h.commit("main", "three", [package("kit/a.go", "3")]);
    let mut entry = Entry::new("kits", h);
    entry.ask("/kit", &["v1.0.0", "v2.0.0", "main", "{one}"]);
    entry.ask(
        "/kit/v2",
        &["v2.0.0", "main", "{two}", "v2.0.1-0.{three:p}"],
    );
    entry.ask(
        "/kit/v3",
        &[
            "v3.0.0",
            "v3.1.0",
            "main",
            "{three:7}",
            "{one}",
            "v3.0.1-0.{three:p}",
        ],
    );
    entry
}

/// What the `module` line may say.
fn wrong_lines() -> Entry {
    let lines = [
        ("v1.0.0", "module golden.test/lines\n"),
        ("v1.0.1", "module golden.test/lines/v2\n"),
        ("v1.0.2", "module other.test/entirely\n"),
        ("v1.0.3", "module other.test/entirely/v4\n"),
        ("v1.0.4", "// no module line\n"),
        ("v1.0.5", ""),
        ("v1.0.6", "module \"golden.test/lines\"\n"),
        ("v1.0.7", "module `golden.test/lines`\r\n\r\ngo 1.20\r\n"),
        (
            "v1.0.8",
            "module golden.test/lines // comment\nthis is no go.mod\n",
        ),
        ("v1.0.9", "module\tgolden.test/lines\n"),
        ("v1.0.10", "module (\n\tgolden.test/lines\n)\n"),
        ("v1.0.11", "\u{feff}module golden.test/lines\n"),
        ("v1.0.12", "go 1.21\nmodule golden.test/lines/v1\n"),
        ("v1.0.13", "module golden.test/lines/v02\n"),
        ("v1.0.14", "module gopkg.in/lines.v1\n"),
        ("v1.0.15", "module gopkg.in/lines.v2\n"),
        ("v1.0.16", "module golden.test/lines\n\ngo 9.99\n"),
        (
            "v1.0.17",
            "module golden.test/lines\nmodule golden.test/lines/v2\n",
        ),
        ("v1.0.18", "/* */ module golden.test/lines\n"),
        ("v1.0.19", "module golden.test/lines extra\n"),
    ];
    let mut h = History::new();
    for (tag, line) in lines {
        h.commit("main", tag, [file("go.mod", line), package("a.go", tag)]);
        h.tag(tag, tag);
        h.tag(&tag.replace("v1", "v2"), tag);
    }
    let mut entry = Entry::new("lines", h);
    let ones: Vec<&str> = lines.iter().map(|(tag, _)| *tag).collect();
    entry.ask("", &ones);
    let twos: Vec<String> = ones.iter().map(|tag| tag.replace("v1", "v2")).collect();
    let twos: Vec<&str> = twos.iter().map(String::as_str).collect();
    entry.ask("/v2", &twos);
    entry
}

/// A `/vN` path needs a go.mod.
fn nothing_under_v2() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [package("a.go", "1"), package("v2/a.go", "1")],
    );
    h.tag("v2.0.0", "one");
    let mut entry = Entry::new("bare2", h);
    entry.ask("/v2", &["v2.0.0", "main", "v2.0.0-{one:p}"]);
    entry.ask("", &["v2.0.0", "main"]);
    entry
}

/// A fork is served under its own path, whatever its `module` line names.
fn forked() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/original"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [go_mod("golden.test/original/v2"), package("a.go", "2")],
    );
    h.tag("v2.0.0", "two");
    let mut entry = Entry::new("fork", h);
    entry.ask("", &["v1.0.0", "v2.0.0", "{one}"]);
    entry.ask("/v2", &["v2.0.0", "{two}", "main"]);
    entry
}
