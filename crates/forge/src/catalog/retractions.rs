//! What a module takes back, in the go.mod of its highest version.

use super::{Entry, go_mod, package};
use crate::History;
use crate::change::file;

pub(super) fn entries() -> Vec<Entry> {
    vec![retracted(), all_retracted(), retracted_in_prerelease()]
}

fn retracting(module: &str, lines: &str) -> crate::Change {
    file("go.mod", format!("module {module}\n\ngo 1.21\n\n{lines}"))
}

fn retracted() -> Entry {
    let module = "golden.test/retract";
    let mut h = History::new();
    h.commit("main", "one", [go_mod(module), package("a.go", "1")]);
    h.tag("v1.0.0", "one");
    h.tag("v1.0.1", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v1.1.0", "two");
    h.tag("v1.1.1", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.tag("v1.5.0", "three");
    h.commit("main", "between", [package("a.go", "3b")]);
    h.commit(
        "main",
        "four",
        [retracting(
            module,
            "// Bad.\nretract v1.0.1\n\nretract (\n\t[v1.1.0, v1.4.9] // A range.\n\tv1.5.0\n\t\"v1.6.1\"\n)\n",
        )],
    );
    h.tag("v1.6.0", "four");
    h.tag("v1.6.1", "four");
    h.commit("main", "five", [package("a.go", "5")]);
    let mut entry = Entry::new("retract", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v1.0.1",
            "v1.1.0",
            "v1.5.0",
            "v1.6.0",
            "v1.6.1",
            "{one}",
            "{two}",
            "{three:7}",
            "{between:7}",
            "{four}",
            "main",
            "v1",
            "v1.0",
            "v1.1",
            "v1.5",
            "v1.5.1-0.{between:p}",
            "v1.1.2-0.{between:p}",
            "v1.0.1-0.{between:p}",
            "v0.0.0-{two:p}",
        ],
    );
    entry
}

/// The newest version retracts everything with itself.
fn all_retracted() -> Entry {
    let module = "golden.test/gone";
    let mut h = History::new();
    h.commit("main", "one", [go_mod(module), package("a.go", "1")]);
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [retracting(module, "retract [v0.0.0, v1.9.9]\n")],
    );
    h.tag("v1.0.1", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    let mut entry = Entry::new("gone", h);
    entry.ask(
        "",
        &["v1.0.0", "v1.0.1", "{one}", "{two}", "main", "v1", "v1.0"],
    );
    entry
}

/// Only what the highest release says counts, or the highest pre-release if there is no release.
fn retracted_in_prerelease() -> Entry {
    let module = "golden.test/retractpre";
    let mut h = History::new();
    h.commit("main", "one", [go_mod(module), package("a.go", "1")]);
    h.tag("v1.0.0-a", "one");
    h.commit("main", "two", [retracting(module, "retract v1.0.0-a\n")]);
    h.tag("v1.0.0-b", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.commit_on(
        "other",
        "o1",
        &["one"],
        [go_mod("golden.test/retractpre/other")],
    );
    let mut entry = Entry::new("retractpre", h);
    entry.ask(
        "",
        &[
            "v1.0.0-a", "v1.0.0-b", "{one}", "{two}", "main", "v1", "other",
        ],
    );
    entry
}
