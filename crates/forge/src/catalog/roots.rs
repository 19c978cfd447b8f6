//! From a module path to a repository: pages, well-known hosts, qualifiers.

use super::{Entry, go_mod, package};
use crate::change::file;
use crate::{Forge, History, Pages};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        github(),
        bitbucket(),
        qualifier(),
        gopkg(),
        gopkg_user(),
        whole_path(),
        subdir(),
        over_ssh(),
        over_http(),
        escaped_case(),
    ]
}

fn small(module: &str) -> History {
    let mut h = History::new();
    h.commit("main", "one", [go_mod(module), package("a.go", "1")]);
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h
}

fn github() -> Entry {
    let mut h = small("github.com/golden/static");
    h.commit(
        "main",
        "three",
        [
            file("sub/go.mod", "module github.com/golden/static/sub\n"),
            package("sub/a.go", "1"),
        ],
    );
    h.tag("sub/v0.1.0", "three");
    let mut entry = Entry::bare("static", h);
    entry.alias("github.com/golden/static");
    entry.ask_of(
        "github.com/golden/static",
        &["v1.0.0", "main", "{one:7}", "v1.0.1-0.{two:p}"],
    );
    entry.ask_of("github.com/golden/static/sub", &["v0.1.0", "main"]);
    entry.ask_of("github.com/golden/static.git", &["v1.0.0"]);
    entry.ask_of("github.com/golden", &["v1.0.0"]);
    entry.ask_of("github.com", &["v1.0.0"]);
    entry.ask_of("github.com/golden/missing", &["v1.0.0", "main"]);
    entry
}

fn bitbucket() -> Entry {
    let mut entry = Entry::bare("bucket", small("bitbucket.org/golden/bucket"));
    entry.alias("bitbucket.org/golden/bucket");
    entry.ask_of("bitbucket.org/golden/bucket", &["v1.0.0", "main"]);
    entry
}

/// An element that ends in `.git` is the root's last, and schemes are tried.
fn qualifier() -> Entry {
    let mut h = small("code.golden.test/team/tool.git");
    h.commit(
        "main",
        "three",
        [file(
            "sub/go.mod",
            "module code.golden.test/team/tool.git/sub\n",
        )],
    );
    let mut entry = Entry::bare("tool", h);
    entry.alias("code.golden.test/team/tool");
    entry.alias("code.golden.test/team/tool.git");
    entry.ask_of("code.golden.test/team/tool.git", &["v1.0.0", "main"]);
    entry.ask_of("code.golden.test/team/tool.git/sub", &["main", "v1.0.0"]);
    entry.ask_of("code.golden.test/team/tool.git/v2", &["v2.0.0"]);
    entry.ask_of("code.golden.test/team/absent.git", &["v1.0.0"]);
    entry
}

/// The pages of gopkg.in name a repository of their own, whose references they choose; here all of them.
fn gopkg() -> Entry {
    let mut h = History::new();
    h.commit("main", "zero", [package("a.go", "0")]);
    h.tag("v0.9.0", "zero");
    h.commit("main", "one", [package("a.go", "1")]);
    h.tag("v1.0.0", "one");
    h.commit("main", "two", [package("a.go", "2")]);
    h.tag("v2.0.0", "two");
    h.commit(
        "main",
        "three",
        [go_mod("gopkg.in/golden.v2"), package("a.go", "3")],
    );
    h.tag("v2.1.0", "three");
    h.commit("main", "four", [go_mod("gopkg.in/golden.v3")]);
    h.tag("v2.2.0", "four");
    h.tag("v3.0.0", "four");
    let mut entry = Entry::bare("gopkg", h);
    for at in [
        "golden.v0",
        "golden.v1",
        "golden.v2",
        "golden.v3",
        "golden.v2-unstable",
    ] {
        let root = format!("gopkg.in/{at}");
        entry.import(&root, &format!("git https://{root}"));
        entry.alias(&root);
        entry.ask_of(
            &root,
            &[
                "v0.9.0",
                "v1.0.0",
                "v2.0.0",
                "v2.1.0",
                "v2.2.0",
                "v3.0.0",
                "main",
                "{two:7}",
                "{three}",
                "v2.0.0+incompatible",
                "v2.0.1-0.{three:p}",
            ],
        );
    }
    entry.ask_of("gopkg.in/golden", &["v1.0.0"]);
    entry.ask_of("gopkg.in/golden.v2/sub", &["v2.1.0"]);
    entry
}

fn gopkg_user() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("gopkg.in/team/thing.v1"), package("a.go", "1")],
    );
    h.tag("v1.0.0", "one");
    h.tag("v1.1.0-beta", "one");
    let mut entry = Entry::bare("thing", h);
    let root = "gopkg.in/team/thing.v1";
    entry.import(root, &format!("git https://{root}"));
    entry.alias(root);
    entry.ask_of(root, &["v1.0.0", "v1.1.0-beta", "main", "v1"]);
    entry
}

/// A page that gives the whole path, major and all, a repository of its own.
fn whole_path() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [go_mod("golden.test/whole/v2"), package("a.go", "1")],
    );
    h.tag("v2.0.0", "one");
    h.tag("v1.0.0", "one");
    h.commit(
        "main",
        "two",
        [
            package("a.go", "2"),
            file("v2/go.mod", "module golden.test/whole/v2\n"),
        ],
    );
    h.tag("v2.1.0", "two");
    let mut entry = Entry::bare("whole", h);
    entry.import("golden.test/whole/v2", "git {url}");
    entry.ask_of(
        "golden.test/whole/v2",
        &["v2.0.0", "v2.1.0", "v1.0.0", "main"],
    );
    entry.ask_of("golden.test/whole", &["v1.0.0", "main"]);
    entry
}

/// The fourth field of a go-import tag.
fn subdir() -> Entry {
    let mut h = History::new();
    h.commit(
        "main",
        "one",
        [
            file("pkgs/go/go.mod", "module golden.test/subdir\n"),
            package("pkgs/go/a.go", "1"),
            file("pkgs/go/x/go.mod", "module golden.test/subdir/x\n"),
            package("pkgs/go/x/a.go", "1"),
            file("LICENSE", "Root.\n"),
            go_mod("golden.test/other"),
        ],
    );
    h.tag("v0.1.0", "one");
    h.tag("pkgs/go/v0.2.0", "one");
    h.tag("pkgs/go/x/v0.3.0", "one");
    h.tag("x/pkgs/go/v0.4.0", "one");
    h.commit(
        "main",
        "two",
        [
            file("pkgs/go/v2/go.mod", "module golden.test/subdir/v2\n"),
            package("pkgs/go/v2/a.go", "2"),
        ],
    );
    h.tag("pkgs/go/v2.0.0", "two");
    let mut entry = Entry::bare("subdir", h);
    entry.import("golden.test/subdir", "git {url} pkgs/go");
    entry.ask_of(
        "golden.test/subdir",
        &["v0.1.0", "v0.2.0", "main", "{one:7}"],
    );
    entry.ask_of("golden.test/subdir/v2", &["v2.0.0", "main"]);
    entry.ask_of("golden.test/subdir/x", &["v0.3.0", "v0.4.0", "main"]);
    entry
}

fn over_ssh() -> Entry {
    let mut entry = Entry::bare("overssh", small("golden.test/overssh"));
    entry.import("golden.test/overssh", "git {ssh}/overssh.git");
    entry.ask_of(
        "golden.test/overssh",
        &["v1.0.0", "main", "{two:7}", "v1.0.1"],
    );
    entry
}

/// Without encryption only where it is allowed.
fn over_http() -> Entry {
    let mut entry = Entry::bare("overhttp", small("plain.golden.test/overhttp"));
    entry.import("plain.golden.test/overhttp", "git {http}/overhttp.git");
    entry.import("golden.test/overhttp", "git {http}/overhttp.git");
    entry.ask_of("plain.golden.test/overhttp", &["v1.0.0", "main"]);
    entry.ask_of("golden.test/overhttp", &["v1.0.0"]);
    entry
}

/// Upper case in a path stays.
fn escaped_case() -> Entry {
    let mut entry = Entry::bare("UpperCase", small("github.com/Golden/UpperCase"));
    entry.alias("github.com/Golden/UpperCase");
    entry.ask_of("github.com/Golden/UpperCase", &["v1.0.0", "main"]);
    entry.ask_of("github.com/golden/uppercase", &["v1.0.0"]);
    entry
}

/// Pages that name no repository, or name it in odd ways, and what to ask of them. The repository `plain` is behind those
/// that do.
pub(super) fn pages(forge: &Forge) -> Vec<(String, Vec<String>)> {
    let git = "https://git.golden.test/plain.git";
    let tag =
        |prefix: &str, rest: &str| format!("<meta name=\"go-import\" content=\"{prefix} {rest}\">");
    let good = |path: &str| tag(path, &format!("git {git}"));
    let mut asks = Vec::new();
    let mut page = |name: &str, status: u16, body: &dyn Fn(&str) -> String| {
        let path = format!("pages.golden.test/{name}");
        let body = body(&path);
        forge.page(
            &path,
            Pages {
                body,
                status,
                below: true,
            },
        );
        asks.push((
            path,
            ["v1.2.0", "main", "latest"].map(str::to_owned).to_vec(),
        ));
    };
    page("ok", 200, &|p| good(p));
    page("status404", 404, &|p| good(p));
    page("status500", 500, &|p| good(p));
    page("nothing", 200, &|_| "<html><head></head></html>".to_owned());
    page("nothing404", 404, &|_| "gone".to_owned());
    page("nothing500", 500, &|_| "broken".to_owned());
    page("twice", 200, &|p| good(p) + &good(p));
    page("twodiffer", 200, &|p| {
        good(p) + &tag(p, "git https://git.golden.test/pre.git")
    });
    page("modtoo", 200, &|p| {
        good(p) + &tag(p, "mod https://git.golden.test/absent")
    });
    page("other", 200, &|_| good("pages.golden.test/elsewhere"));
    page("prefixish", 200, &|_| good("pages.golden.test/pref"));
    page("afterhead", 200, &|p| {
        format!("<html><head></head>{}</html>", good(p))
    });
    page("inbody", 200, &|p| {
        format!("<html><body>{}</body></html>", good(p))
    });
    page("noquotes", 200, &|p| {
        format!("<meta name=go-import content='{p} git {git}'>")
    });
    page("upper", 200, &|p| {
        format!("<META NAME=\"go-import\" CONTENT=\"{p} git {git}\">")
    });
    page("uppername", 200, &|p| {
        format!("<meta name=\"Go-Import\" content=\"{p} git {git}\">")
    });
    page("selfclosed", 200, &|p| {
        format!("<html><head><meta name=\"go-import\" content=\"{p} git {git}\"/></head>")
    });
    page("spaces", 200, &|p| {
        format!("<meta name=\"go-import\" content=\"  {p}\n\tgit   {git}  \">")
    });
    page("entities", 200, &|p| {
        format!(
            "<meta name=\"go-import\" content=\"{p} git {}\">",
            git.replace('/', "&#47;")
        )
    });
    page("nbsp", 200, &|p| format!("<p>&nbsp;&copy;</p>{}", good(p)));
    page("unclosed", 200, &|p| {
        format!("<html><head><link rel=x><br><p>{}", good(p))
    });
    page("broken", 200, &|p| format!("<html><head><a <b>{}", good(p)));
    page("script", 200, &|p| {
        format!("<script>if (a < b && c) {{}}</script>{}", good(p))
    });
    page("comment", 200, &|p| format!("<!-- {} -->", good(p)));
    page("doctype", 200, &|p| {
        format!("<!DOCTYPE html><html><head>{}</head>", good(p))
    });
    page("charset", 200, &|p| {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{}", good(p))
    });
    page("latin", 200, &|p| {
        format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{}", good(p))
    });
    page("two", 200, &|p| tag(p, "git"));
    page("five", 200, &|p| tag(p, &format!("git {git} sub more")));
    page("unknownvcs", 200, &|p| tag(p, &format!("cvs {git}")));
    page("noscheme", 200, &|p| {
        tag(p, "git git.golden.test/plain.git")
    });
    page("filescheme", 200, &|p| tag(p, "git file:///etc/plain.git"));
    page("extscheme", 200, &|p| tag(p, "git ext::sh"));
    page("option", 200, &|p| tag(p, "git --upload-pack=x"));
    page("optionhost", 200, &|p| {
        tag(p, "git ssh://-oProxyCommand=x/y")
    });
    page("gitscheme", 200, &|p| {
        tag(p, "git git://git.golden.test/plain.git")
    });
    page("userinfo", 200, &|p| {
        tag(p, "git https://user:secret@git.golden.test/plain.git")
    });
    page("late", 200, &|p| {
        format!("<html><head>{}{}", "<!-- x -->".repeat(10_000), good(p))
    });
    page("long", 200, &|p| {
        format!(
            "<html><head><title>{}</title>{}",
            "x".repeat(60_000),
            good(p)
        )
    });
    page("subdirup", 200, &|p| tag(p, &format!("git {git} ../x")));
    page("subdirabs", 200, &|p| tag(p, &format!("git {git} /x")));
    page("empty", 200, &|_| String::new());
    page("property", 200, &|p| {
        format!("<meta property=\"go-import\" content=\"{p} git {git}\">")
    });
    asks.push((
        "pages.golden.test/ok/below/it".to_owned(),
        ["v1.2.0", "main"].map(str::to_owned).to_vec(),
    ));
    asks
}
