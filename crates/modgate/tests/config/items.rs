//! Mistakes in tables of which there are several.

use super::{
    mistakes::{check, only},
    *,
};

#[test]
fn items_are_checked() {
    const UP: &str = "chain = \"https://u.example\"\n[upstream.\"https://u.example\"]\n";
    let up = |line: &str| only(&format!("{UP}{line}"));
    for (line, message, hint) in [
        (
            "status_map = { 200 = 404 }",
            "`200` is not a status",
            "403 = 404",
        ),
        ("status_map = { 403 = 200 }", "from 400 to 599", ""),
        ("status_map = { 503 = 404 }", "look like absence", "walk on"),
        ("status_map = [403]", "found an array", ""),
        (
            "headers = { \"bad name\" = \"x\" }",
            "not the name of a header",
            "",
        ),
        ("headers = { Host = \"x\" }", "set by modgate", ""),
        ("headers = { A = \"x\", a = \"y\" }", "twice", ""),
        (
            "headers = { A = \"x\\ny\" }",
            "cannot be sent",
            "line break",
        ),
        (
            "headers = { A = { env = \"NOT_SET\" } }",
            "`NOT_SET` is not set",
            "file",
        ),
        (
            "headers = { A = { command = [\"x\"] } }",
            "no source of a secret",
            "env",
        ),
        (
            "headers = { A = 1 }",
            "expected the source of a secret",
            "env",
        ),
        ("base_url = \"ftp://x\"", "is not a URL", "https"),
    ] {
        let mistake = up(line);
        assert!(mistake.message.contains(message), "{mistake}");
        assert!(
            mistake.hint.as_deref().unwrap_or_default().contains(hint),
            "{mistake}"
        );
        assert_eq!(mistake.spot.as_ref().unwrap().line, 3, "{mistake}");
    }
    check(&[
        (
            "[[route]]\nchain = \"direct\"",
            1,
            "`match` is missing in [[route]]",
            "match = [",
        ),
        (
            "[[route]]\nmatch = []",
            2,
            "matches nothing",
            "at least one",
        ),
        (
            "[[credential]]\nmatch = \"https://a.example\"",
            1,
            "nothing to present",
            "`password`",
        ),
        (
            "[[credential]]\nmatch = \"https://a.example\"\npassword = { environ = \"X\" }",
            3,
            "no source",
            "{ env",
        ),
        (
            "[[credential]]\nmatch = \"https://a.example\"\npassword = { file = \"/nowhere/x\" }",
            3,
            "cannot be read",
            "is there",
        ),
        (
            "[[credential]]\nmatch = \"https://a.example\"\npassword = { command = [] }",
            3,
            "command is empty",
            "",
        ),
        (
            "chain = \"https://u.example\"\n[upstream.\"https://u.example\"]\n[upstream.\"https://u.example/\"]",
            3,
            "same upstream",
            "one table",
        ),
    ]);
}

#[test]
fn one_address_has_one_set_of_headers_and_statuses() {
    let two = |chain: &str, one: &str, other: &str| {
        format!(
            "chain = \"{chain}\"\n[upstream.\"https://a.example\"]\nbase_url = \"https://base.example/go/\"\n{one}\n\
             [upstream.\"https://b.example\"]\nbase_url = \"https://base.example/go\"\n{other}"
        )
    };
    let (header, map) = ("headers = { x = \"1\" }", "status_map = { 403 = 404 }");
    let both = "https://a.example|https://b.example";
    for (chain, one, other, line) in [
        (both, header, "headers = { x = \"2\" }", 5),
        (both, header, "", 5),
        (both, "", map, 5),
        // One that no chain names would have its say all the same.
        ("https://a.example", header, map, 5),
    ] {
        let mistake = only(&two(chain, one, other));
        assert!(mistake.message.contains("base.example/go"), "{mistake}");
        assert_eq!(mistake.spot.unwrap().line, line);
    }
    // The general chain goes there without any.
    let mistake = only(&format!(
        "chain = \"https://a.example|https://base.example/go\"\n[upstream.\"https://a.example\"]\n\
         base_url = \"https://base.example/go\"\n{header}"
    ));
    assert_eq!(mistake.spot.unwrap().line, 2);
    for (chain, one, other) in [
        (both, header, header),
        (both, "", ""),
        (both, "retries = 1", ""),
    ] {
        Bench::new(&two(chain, one, other)).loaded();
    }
}

#[test]
fn private_modules_are_never_redirected() {
    let private = "private = [\"git.corp.example/*\"]\n";
    let route =
        |patterns: &str, mode: &str| format!("[[route]]\nmatch = {patterns}\nmode = \"{mode}\"\n");
    for (patterns, mode) in [
        ("[\"git.corp.example/team\"]", "redirect"),
        ("[\"git.corp.example\"]", "async_redirect"),
        ("[\"*\"]", "redirect"),
        ("[\"other.example\", \"*.corp.example\"]", "redirect"),
    ] {
        let mistake = only(&format!("{private}{}", route(patterns, mode)));
        assert!(mistake.message.contains("private modules"), "{mistake}");
        assert_eq!(mistake.spot.unwrap().line, 4);
    }
    for fine in [
        route("[\"git.corp.example/team\"]", "sync"),
        route("[\"other.example\"]", "redirect"),
        route("[\"git.corp.example\"]", "sync") + &route("[\"*\"]", "redirect"),
    ] {
        Bench::new(&format!("{private}{fine}")).loaded();
    }
}

#[test]
fn patterns_that_go_takes_are_taken() {
    for pattern in [
        "/",
        "none",
        "*",
        "*.corp.example",
        "git.corp.example/",
        "git-[ab].corp.example/team/*",
        "github.com/Corp/*",
        "*/team",
    ] {
        Bench::new(&format!("private = [\"{pattern}\"]")).loaded();
        Bench::new(&format!("[sumdb]\nexempt = [\"{pattern}\"]")).loaded();
    }
}
