//! Mistakes as a whole: from every source, in order, without secrets, whatever
//! the file looks like.

use modgate::config::{Mistake, Place};

use super::Bench;

#[test]
fn the_environment_is_checked() {
    for (name, value, message, hint) in [
        ("MODGATE_LISTN", "x", "sets nothing", "`MODGATE_LISTEN`"),
        (
            "MODGATE_TEAPOT",
            "x",
            "sets nothing",
            "docs/configuration.md",
        ),
        ("MODGATE_LISTEN", "x", "not an IP address", "127.0.0.1"),
        (
            "MODGATE_LIMITS_MAX_CONNECTIONS",
            "x",
            "expected integer",
            "",
        ),
        ("MODGATE_ROUTE", "[{ match = ", "TOML", "[{ match ="),
        (
            "MODGATE_ROUTE",
            "[{ match = [\"x.example\"], mod = 1 }]",
            "unknown key `mod`",
            "`mode`",
        ),
        ("MODGATE_ROUTE", "[]\nlisten = 1", "one TOML value", ""),
        ("MODGATE_PRIVATE", "a.example,[b", "bad pattern", ""),
        (
            "GOPROXY",
            "https://a.example,drect",
            "is no chain",
            "`chain`",
        ),
        (
            "GOSUMDB",
            "nonsense",
            "no known checksum database",
            "`sumdb.name`",
        ),
    ] {
        let mistakes = Bench::new("").var(name, value).load().unwrap_err();
        let all: Vec<&Mistake> = mistakes.iter().collect();
        assert_eq!(all.len(), 1, "{mistakes}");
        assert_eq!(all[0].place, Place::Env(name.to_owned()));
        assert!(all[0].message.contains(message), "{mistakes}");
        assert!(
            all[0].hint.as_deref().unwrap_or_default().contains(hint),
            "{mistakes}"
        );
    }
}

#[test]
fn all_mistakes_come_at_once_in_order() {
    let mut bench = Bench::new(
        "lisen = \"x\"\ndata = 3\nprivate = [\"[a\", \"[b\"]\n[limits]\nmax_connections = 0\n",
    )
    .var("MODGATE_MODE", "x");
    bench.sources.flags.listen = Some("y".to_owned());
    let mistakes = bench.load().unwrap_err();
    let lines: Vec<Option<usize>> = mistakes
        .iter()
        .map(|mistake| mistake.spot.as_ref().map(|spot| spot.line))
        .collect();
    assert_eq!(lines, [1, 2, 3, 3, 5, 1, 1].map(Some), "{mistakes}");
    assert_eq!(
        mistakes.iter().last().unwrap().place,
        Place::Flag("--listen")
    );
}

#[test]
fn broken_toml_does_not_hide_other_mistakes() {
    let mistakes = Bench::new("mode = \"x\"\ndata = \nlisen = 1\n")
        .load()
        .unwrap_err();
    let text = mistakes.to_string();
    for expected in ["TOML: ", "unknown key `lisen`", "`x` is not possible"] {
        assert!(text.contains(expected), "{text}");
    }
    let text = Bench::new("data = \"a\"\ndata = \"b\"")
        .load()
        .unwrap_err()
        .to_string();
    assert!(text.contains("duplicate key"), "{text}");
    assert!(
        text.contains("hint: a key and a [table] stand once"),
        "{text}"
    );
}

#[test]
fn no_mistake_shows_a_secret() {
    for toml in [
        "chain = \"https://u:hunter2@a.example,drect\"",
        "chain = \"https://u:hunter2@a b\"",
        "chain = \"https://u:hunter2/x@a.example,drect\"",
        "chain = \"https://u:x,hunter2@a.example,drect\"",
        "chain = \"https://hunter2@a.example,drect\"",
        "public_url = \"ftp://u:hunter2@a.example\"",
        "public_url = \"htps://u:hunter2@a.example\"",
        "[network]\nproxy = \"socks://u:hunter2@egress\"",
        "[sumdb]\nname = \"sum.golang.org ftp://u:hunter2@x\"",
        "[[credential]]\nmatch = \"https://a.example\"\npassword = \"hunter2\"",
        "[[credential]]\npassword = { env = \"X\" }\ntoken = \"hunter2\"",
        "[[credential]]\npassword = \"hunter2\" x",
        "[upstream.\"https://a.example\"]\nheaders = { Host = \"hunter2\" }",
        "[upstream.\"https://a.example\"]\nheaders = { A = \"hunter2\\n\" }",
        "[upstream.\"https://a.example\"]\nheader = { Authorization = \"hunter2\" }",
        "[upstream.\"https://u:hunter2@a.example\"]\nretry = 1",
        "[upstream.\"a://u:hunter2@a.example\"]",
        "[upstream.\"https://a.example\"]\nheaders = { A = \"hunter2\" ",
        "password = \"hunter2\"",
        "[[credential]]\nmatch = \"https://a.example\"\npassword = { value = \"hunter2\" }",
        "[[credential]]\nmatch = \"https://a.example\"\npassword = { value = [\"hunter2\"] }",
        "[[credential]]\nmatch = \"https://a.example\"\npasword = \"hunter2\"",
        "[[credential]]\nmatch = \"https://a.example\"\nheaders = { A = \"hunter2\" }",
        "[[credential]]\nmatch = \"https://a.example\"\nheader = \"A: hunter2\"",
        "[upstream.\"https://a.example\"]\nheaders = { A = { value = \"hunter2\" } }",
        "[upstream.\"https://a.example\"]\nheader = { A = \"hunter2\" }",
        "[[storage]]\ntier = \"s3\"\nsecret_key = { value = \"hunter2\" }",
        "[[storage]]\ntier = \"s3\"\npasswd = \"hunter2\"",
        "chain = \"https://a.example/?key=hunter2,direct\"",
        "public_url = \"https://a.example/?key=hunter2#hunter2\"",
    ] {
        let mistakes = Bench::new(toml).load().unwrap_err();
        let json = serde_json::to_string(&mistakes.to_json()).unwrap();
        let text = format!("{}{json}{mistakes:?}", mistakes.render(true));
        assert!(!text.contains("hunter2"), "{toml}\n{text}");
    }
}

#[test]
fn colours_are_only_on_request() {
    let mistakes = Bench::new("lisen = 1").load().unwrap_err();
    assert!(mistakes.render(true).contains('\u{1b}'));
    assert!(!mistakes.render(false).contains('\u{1b}'));
}

/// Whatever is cut or changed in a file, loading ends with an answer.
#[test]
fn damaged_files_are_answered() {
    let bench = Bench::new("").var("GIT_TOKEN", "t");
    let whole = super::CONTRACT;
    let cut = whole.char_indices().map(|(at, _)| whole[..at].to_owned());
    let changed = whole.char_indices().flat_map(|(at, c)| {
        let (before, after) = (&whole[..at], &whole[at + c.len_utf8()..]);
        ["\"", "\u{e9}"].map(|with| format!("{before}{with}{after}"))
    });
    for text in cut.chain(changed) {
        bench.write("modgate.toml", &text);
        if let Err(mistakes) = bench.load() {
            assert!(!mistakes.to_string().is_empty());
        }
    }
}

/// Each mistake of a value by its column, and its hint.
#[test]
fn all_mistakes_of_one_value_are_told() {
    for (toml, told) in [
        (
            "chain = \"ftp://x, drect,http://a b,direct,never read\"",
            &[
                (10, "entries are URLs"),
                (19, "did you mean `direct`?"),
                (25, "entries are URLs"),
            ][..],
        ),
        (
            "private = [\"[a\", 5]",
            &[
                (12, "match within one element"),
                (18, "write each as a string"),
            ],
        ),
    ] {
        let mistakes = Bench::new(toml).load().unwrap_err();
        let found: Vec<_> = mistakes
            .iter()
            .map(|mistake| {
                (
                    mistake.spot.as_ref().unwrap().column,
                    mistake.hint.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(found.len(), told.len(), "{mistakes}");
        for ((column, hint), (told_column, told_hint)) in found.iter().zip(told) {
            assert_eq!(column, told_column, "{mistakes}");
            assert!(hint.contains(told_hint), "{mistakes}");
        }
    }
}

#[test]
fn a_file_that_is_not_utf_8_is_told_by_its_line_and_read_to_its_end() {
    let bench = Bench::new("");
    let file = bench.sources.file.as_ref().unwrap();
    std::fs::write(
        file,
        b"listen = \"127.0.0.1:1\"\n# caf\xe9\nchian = \"off\"\n",
    )
    .unwrap();
    let mistakes = bench.load().unwrap_err();
    let found: Vec<_> = mistakes
        .iter()
        .map(|mistake| {
            (
                mistake.spot.as_ref().unwrap().line,
                mistake.message.as_str(),
            )
        })
        .collect();
    assert!(
        matches!(found[..], [(2, "the file is not UTF-8"), (3, _)]),
        "{mistakes}"
    );
}
