//! Branches, hashes, `HEAD`, and names that could be several of them.

use super::{Entry, go_mod, package};
use crate::History;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        branches(),
        names(),
        pull_request(),
        ambiguous(),
        empty(),
        headless(),
        detached(),
        lost("lost", true),
        lost("lostuntagged", false),
        times(),
        sha256(),
        deep(),
    ]
}

fn branches() -> Entry {
    let mut h = History::new();
    h.head("trunk");
    h.commit(
        "trunk",
        "one",
        [go_mod("golden.test/branches"), package("a.go", "1")],
    );
    h.commit("trunk", "two", [package("a.go", "2")]);
    h.commit_on("feature/x", "fx", &["one"], [package("x.go", "1")]);
    h.commit_on("UPPER", "up", &["one"], [package("u.go", "1")]);
    h.commit_on("dot.ted-name_1", "dn", &["one"], [package("d.go", "1")]);
    h.commit_on("v3", "b3", &["one"], [package("v.go", "1")]);
    h.commit_on("zweig-ä", "uni", &["one"], [package("z.go", "1")]);
    let mut entry = Entry::new("branches", h);
    entry.ask(
        "",
        &[
            "trunk",
            "main",
            "master",
            "feature/x",
            "feature",
            "UPPER",
            "upper",
            "dot.ted-name_1",
            "v3",
            "head",
            "zweig-ä",
            "trunk^",
            "trunk~1",
            "origin/trunk",
            "@",
            "-",
            "--help",
            "",
            " ",
            "tr unk",
            "FETCH_HEAD",
            "{two:7}^",
            "HEAD~1",
        ],
    );
    entry
}

/// A branch named like a tag, like a version, like a hash; a tag named like a branch and like a hash.
fn names() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/names"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.commit_on("v1.0.0", "b1", &["one"], [package("b.go", "1")]);
    h.commit_on("v1.5.0", "b2", &["one"], [package("b.go", "2")]);
    h.commit_on("both", "b3", &["one"], [package("b.go", "3")]);
    h.tag("both", "two");
    h.commit_on("abcdef0", "b4", &["one"], [package("b.go", "4")]);
    h.commit_on(
        "0123456789abcdef0123456789abcdef01234567",
        "b5",
        &["one"],
        [package("b.go", "5")],
    );
    h.tag("fedcba9", "two");
    h.commit_on("latest", "b6", &["one"], [package("b.go", "6")]);
    h.commit_on("upgrade", "b7", &["one"], [package("b.go", "7")]);
    let mut entry = Entry::new("names", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v1.5.0",
            "both",
            "abcdef0",
            "fedcba9",
            "0123456789abcdef0123456789abcdef01234567",
            "main",
            "{b1}",
            "{b2:7}",
            "v1.0.1-0.{b2:p}",
            "v1.5.0-0.{b2:p}",
        ],
    );
    entry
}

/// What only a pull request has is nobody's module.
fn pull_request() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/pulls"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.commit_elsewhere(
        "refs/pull/7/head",
        "evil",
        &["two"],
        [package("evil.go", "1")],
    );
    h.commit_elsewhere("refs/notes/commits", "note", &[], [package("note.go", "1")]);
    let mut entry = Entry::new("pulls", h);
    entry.ask(
        "",
        &[
            "{evil}",
            "{evil:12}",
            "{evil:7}",
            "v1.0.1-0.{evil:p}",
            "v0.0.0-{evil:p}",
            "refs/pull/7/head",
            "pull/7/head",
            "{note}",
            "{note:8}",
            "main",
            "v1.0.0",
            "7",
        ],
    );
    entry
}

/// Two commits with the same first seven digits: on branches, and in the depth of the history.
fn ambiguous() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/ambiguous"), package("a.go", "1")],
    );
    // Found by trying: the hashes of these two begin with the same seven digits.
    h.commit_on("left", "left", &["one"], [package("b.go", LEFT)]);
    h.commit_on("right", "right", &["one"], [package("b.go", RIGHT)]);
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v1.0.0", "two");
    let mut entry = Entry::new("ambiguous", h);
    entry.ask(
        "",
        &[
            "{left:7}",
            "{left:8}",
            "{right:7}",
            "{right:8}",
            "{left}",
            "{right:12}",
            "left",
            "main",
            "{one:7}",
            "{two:7}",
        ],
    );
    entry
}

const LEFT: &str = "41600";
const RIGHT: &str = "4647";

/// A repository without a commit.
fn empty() -> Entry {
    let mut entry = Entry::new("empty", History::new());
    entry.ask("", &["v1.0.0", "main", "0123456"]);
    entry
}

/// `HEAD` names a branch that is not there.
fn headless() -> Entry {
    let mut h = History::new();
    h.head("vanished");
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/headless"), package("a.go", "1")],
    );
    h.commit("main", "two", [package("a.go", "2")]);
    let mut entry = Entry::new("headless", h);
    entry.ask("", &["main", "vanished", "{one:7}", "{two}"]);
    entry
}

/// `HEAD` is a commit that no branch and no tag leads to.
fn detached() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/detached"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    let aside = [package("a.go", "aside")];
    h.commit_elsewhere("refs/pull/1/head", "aside", &["one"], aside);
    h.head_at("{aside}");
    let mut entry = Entry::new("detached", h);
    entry.ask("", &["v1.0.0", "main", "{two:7}", "{aside}", "{aside:12}"]);
    entry
}

/// `HEAD` names a commit that is not there.
fn lost(name: &'static str, tagged: bool) -> Entry {
    let mut h = History::new();
    let module = format!("golden.test/{name}");
    h.commit("main", "one", [go_mod(&module), package("a.go", "1")]);
    h.commit("main", "two", [package("a.go", "2")]);
    if tagged {
        h.tag("v1.0.0", "one");
    }
    h.commit("main", "three", [package("a.go", "3")]);
    h.head_at(LOST);
    let mut entry = Entry::new(name, h);
    let queries = ["v1.0.0", "main", "{two:12}", "{one}", LOST, "v1", "master"];
    entry.ask("", &queries);
    entry
}

const LOST: &str = "1111111111111111111111111111111111111111";

/// Commits that are older than their parents, and two of one second.
fn times() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/times"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.after(-100_000);
    h.commit("main", "older", [package("a.go", "2")]);
    h.after(0);
    h.commit("main", "same", [package("a.go", "3")]);
    // 1999, and after 2038.
    h.after(-760_000_000);
    h.commit("main", "old", [package("a.go", "4")]);
    h.after(2_000_000_000);
    h.commit("main", "future", [package("a.go", "5")]);
    let mut entry = Entry::new("times", h);
    entry.ask(
        "",
        &[
            "{one}",
            "{older}",
            "{same:12}",
            "{old:7}",
            "{future}",
            "main",
            "v1.0.1-0.{old:p}",
            "v1.0.1-0.{future:p}",
        ],
    );
    entry
}

fn sha256() -> Entry {
    let mut h = History::new().sha256();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/sha256"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.commit("main", "three", [package("a.go", "3")]);
    h.annotated("v1.1.0", "two");
    let mut entry = Entry::new("sha256", h);
    entry.ask(
        "",
        &[
            "v1.0.0",
            "v1.1.0",
            "main",
            "{one}",
            "{two:12}",
            "{three}",
            "{three:40}",
            "{three:7}",
            "{three:63}",
            "v1.1.1-0.{three:p}",
            "v0.0.0-{three:p}",
        ],
    );
    entry
}

/// A history that a shallow clone does not have.
fn deep() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "first",
        [go_mod("golden.test/deep"), package("a.go", "0")],
    );
    h.tag("v0.1.0", "first");
    for at in 1..=60 {
        h.commit(
            "main",
            &format!("c{at}"),
            [package("a.go", &at.to_string())],
        );
        if at == 20 {
            h.commit_on("side", "s1", &["c20"], [package("s.go", "1")]);
            h.tag("v0.9.0", "s1");
            h.commit("side", "s2", [package("s.go", "2")]);
        }
    }
    h.commit_on("main", "merge", &["c60", "s2"], [package("m.go", "1")]);
    let mut entry = Entry::new("deep", h);
    entry.ask(
        "",
        &[
            "{c30:7}",
            "{c1}",
            "{c60:12}",
            "main",
            "side",
            "{merge:7}",
            "v0.1.1-0.{c30:p}",
            "v0.9.1-0.{c30:p}",
            "v0.9.1-0.{merge:p}",
            "v0.1.1-0.{merge:p}",
        ],
    );
    entry
}
