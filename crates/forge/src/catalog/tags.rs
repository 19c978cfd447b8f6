//! Which tags are versions, and what is based on them.

use super::{Entry, go_mod, package};
use crate::History;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        untagged(),
        plain(),
        junk(),
        prereleases(),
        annotated(),
        same_commit(),
        bases(),
        metadata(),
        many(),
    ]
}

fn untagged() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/untagged"), package("a.go", "1")],
    );
    h.commit("main", "two", [package("a.go", "2")]);
    h.commit_on("side", "side", &["one"], [package("b.go", "3")]);
    let mut entry = Entry::new("untagged", h);
    entry.ask(
        "",
        &[
            "main",
            "side",
            "master",
            "{one}",
            "{two:7}",
            "{two:12}",
            "{two:6}",
            "{side:9}",
            "v0.0.0-{one:p}",
            "v0.0.0-{two:p}",
            "v1.0.0-{two:p}",
            "v2.0.0-{two:p}",
            "v0.0.0-{one:t}-{two:12}",
            "v0.0.0-{two:t}-{two:11}",
            "v0.0.0-{two:t}-{two:13}",
            "v0.1.1-0.{two:p}",
            "v0.0.1-pre.0.{two:p}",
            "v0.0.0",
            "v1.0.0",
            "v1",
            "v0",
            "0123456789abcdef0123456789abcdef01234567",
            "0123456",
            "nothing",
            "refs/heads/main",
            "v0.0.0-20200101000000-0123456789ab",
        ],
    );
    entry
}

fn plain() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/plain"), package("a.go", "1")],
    );
    h.tag("v0.1.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v0.2.0", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.commit("main", "four", [package("a.go", "4")]);
    h.tag("v1.0.0", "four");
    h.commit("main", "five", [package("a.go", "5")]);
    h.tag("v1.2.0", "five");
    h.commit("main", "six", [package("a.go", "6")]);
    h.commit_on("release", "fix", &["four"], [package("a.go", "4.1")]);
    h.tag("v1.0.1", "fix");
    h.commit("release", "later", [package("a.go", "4.2")]);
    let mut entry = Entry::new("plain", h);
    entry.ask(
        "",
        &[
            "v0.1.0",
            "v0.2.0",
            "v1.0.0",
            "v1.2.0",
            "v1.0.1",
            "v1.9.9",
            "main",
            "release",
            "{one}",
            "{two:8}",
            "{three:7}",
            "{three}",
            "{six:12}",
            "{later:12}",
            "{five:7}",
            "v0.2.1-0.{three:p}",
            "v0.0.0-{three:p}",
            "v0.1.1-0.{three:p}",
            "v1.2.1-0.{three:p}",
            "v1.0.1-0.{six:p}",
            "v1.2.1-0.{six:p}",
            "v1.2.1-0.{five:p}",
            "v1.0.2-0.{later:p}",
            "v1.2.1-0.{later:p}",
            "v0.2.1-0.{later:p}",
            "v1.3.1-0.{six:p}",
            "v1.0.0-{six:p}",
            "v1",
            "v0",
            "v1.0",
            "v1.2",
            "v2",
            "v1.2.0+incompatible",
            "v1.2.0+meta",
            "1.2.0",
            "v01.2.0",
            "v1.2.0-",
            "V1.2.0",
        ],
    );
    // A folder without a go.mod, and one that is not there.
    entry.ask("/sub", &["v1.2.0", "main"]);
    entry.ask("/v2", &["v2.0.0", "main", "v1.2.0", "v2.0.0-{six:p}"]);
    entry
}

fn junk() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/junk"), package("a.go", "1")],
    );
    for tag in [
        "v1",
        "v1.0",
        "1.0.0",
        "v1.0.0.0",
        "v1.0.0-",
        "v01.0.0",
        "release-1.0",
        "v1.0.0_1",
        "v0.0.0-20240101010000-0123456789ab",
        "v1.2.4-0.20240101010000-0123456789ab",
        "V1.5.0",
        "sub/v1.0.0",
        "v1.0.0-01",
        "v1.2",
        "vx",
        "v",
        "weird..not",
        "version/v9.9.9",
    ] {
        // git refuses some names, and so does not make them.
        if !tag.contains("..") {
            h.tag(tag, "one");
        }
    }
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v0.5.0", "two");
    h.tag("v1.9.9-0.20240101010000-abcdefabcdef", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    let mut entry = Entry::new("junk", h);
    entry.ask(
        "",
        &[
            "v1",
            "v1.0",
            "v1.2",
            "1.0.0",
            "v1.0.0.0",
            "release-1.0",
            "v1.0.0_1",
            "V1.5.0",
            "vx",
            "v",
            "v01.0.0",
            "v0.5.0",
            "main",
            "{one:7}",
            "{two}",
            "{three:10}",
            "v0.0.0-{one:p}",
            "v0.5.1-0.{three:p}",
            "v1.0.0",
            "sub/v1.0.0",
            "v1.0.0-01",
            "v0.0.0-20240101010000-0123456789ab",
            "v1.9.9-0.20240101010000-abcdefabcdef",
        ],
    );
    entry
}

fn prereleases() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/pre"), package("a.go", "1")],
    );
    h.tag("v0.1.0-alpha", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v0.1.0-alpha.2", "two");
    h.tag("v0.1.0-RC1", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.commit("main", "four", [package("a.go", "4")]);
    h.tag("v0.1.0-rc.10", "four");
    h.tag("v0.1.0-rc.9", "four");
    h.commit("main", "five", [package("a.go", "5")]);
    let mut entry = Entry::new("pre", h);
    entry.ask(
        "",
        &[
            "v0.1.0-alpha",
            "v0.1.0-RC1",
            "v0.1.0-rc.9",
            "v0.1.0-rc.10",
            "{two}",
            "{four}",
            "{three:7}",
            "main",
            "v0",
            "v0.1",
            "v0.1.0",
            "v0.1.0-alpha.2.0.{three:p}",
            "v0.1.0-RC1.0.{three:p}",
            "v0.1.0-rc.10.0.{five:p}",
            "v0.1.0-rc.9.0.{five:p}",
            "v0.1.0-0.{five:p}",
            "v0.1.0-rc.11.0.{five:p}",
            "v0.1.1-0.{five:p}",
        ],
    );
    entry
}

fn annotated() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/annotated"), package("a.go", "1")],
    );
    h.annotated("v1.0.0", "one");
    h.annotated("nightly", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.annotated("v1.1.0", "two");
    h.tag("v1.1.1", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    let mut entry = Entry::new("annotated", h);
    entry.ask(
        "",
        &[
            "v1.0.0", "v1.1.0", "v1.1.1", "nightly", "{one:7}", "{two:7}", "main", "{three}",
        ],
    );
    entry
}

fn same_commit() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/same"), package("a.go", "1")],
    );
    for tag in [
        "v1.0.0",
        "v1.0.1",
        "v1.1.0-rc.1",
        "v0.9.0",
        "stable",
        "v2.0.0",
        "v1.1.0-rc.1+x",
    ] {
        h.tag(tag, "one");
    }
    h.commit("main", "two", [package("a.go", "2")]);
    let mut entry = Entry::new("same", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v1.0.1",
            "v1.1.0-rc.1",
            "v0.9.0",
            "v2.0.0",
            "v2.0.0+incompatible",
            "stable",
            "{one}",
            "{one:7}",
            "{two}",
            "v1.1.0-rc.1+x",
            "v1.0.1-0.{one:p}",
            "v1.0.2-0.{one:p}",
            "v1.0.2-0.{two:p}",
            "v1.1.0-rc.1.0.{two:p}",
            "v1.1.0-rc.1.0.{one:p}",
        ],
    );
    entry
}

/// The highest ancestor tag is the base, not the nearest, and not one of another branch.
fn bases() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/bases"), package("a.go", "1")],
    );
    h.tag("v1.5.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v1.1.0", "two");
    h.commit("main", "three", [package("a.go", "3")]);
    h.commit_on("feature", "f1", &["one"], [package("f.go", "1")]);
    h.tag("v1.7.0-beta", "f1");
    h.commit("feature", "f2", [package("f.go", "2")]);
    h.commit_on("next", "n1", &["three"], [package("n.go", "1")]);
    h.tag("v1.9.0", "n1");
    h.commit_on("main", "merged", &["three", "f2"], [package("a.go", "m")]);
    h.commit("main", "four", [package("a.go", "4")]);
    h.commit_on(
        "octopus",
        "octo",
        &["four", "n1", "f1"],
        [package("o.go", "1")],
    );
    // A second root.
    h.commit("island", "i1", [package("i.go", "1")]);
    let mut entry = Entry::new("bases", h);
    entry.ask(
        "",
        &[
            "main",
            "feature",
            "next",
            "octopus",
            "island",
            "{three}",
            "{f2:7}",
            "{merged:12}",
            "{i1:7}",
            "v1.5.1-0.{three:p}",
            "v1.1.1-0.{three:p}",
            "v1.7.0-beta.0.{four:p}",
            "v1.5.1-0.{four:p}",
            "v1.9.1-0.{four:p}",
            "v1.9.1-0.{octo:p}",
            "v1.5.1-0.{i1:p}",
            "v0.0.0-{i1:p}",
            "v1.7.0-beta.0.{three:p}",
        ],
    );
    entry
}

fn metadata() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/meta"), package("a.go", "1")],
    );
    h.tag("v1.2.3+meta", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.commit("main", "three", [package("a.go", "3")]);
    h.tag("v1.3.0", "three");
    h.tag("v1.3.0+build.5", "two");
    h.tag("v1.4.0+incompatible", "three");
    h.commit("main", "four", [package("a.go", "4")]);
    let mut entry = Entry::new("meta", h);
    entry.ask(
        "",
        &[
            "v1.2.3+meta",
            "v1.2.3",
            "v1.2.3+other",
            "{one}",
            "{two}",
            "main",
            "v1.3.0",
            "v1.3.0+build.5",
            "v1.3.0+meta",
            "v1.2.4-0.{two:p}",
            "v1.2.4-0.{one:p}",
            "v1.3.1-0.{two:p}",
            "v1.4.0+incompatible",
            "v1.4.0",
            "{three}",
            "v1.3.1-0.{four:p}",
            "v1.4.1-0.{four:p}",
        ],
    );
    entry
}

/// Enough tags that order and speed count.
fn many() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/many"), package("a.go", "1")],
    );
    for minor in 0..20 {
        for patch in 0..15 {
            h.tag(&format!("v1.{minor}.{patch}"), "one");
        }
    }
    h.commit("main", "two", [package("a.go", "2")]);
    let mut entry = Entry::new("many", h);
    entry.ask("", &["v1.0.0", "v1.10.9", "v1.9", "v1", "{one:7}", "main"]);
    entry
}
