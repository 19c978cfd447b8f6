//! Every kind of mistake: what it says, where it points, what it suggests.

use modgate::config::Mistake;
use testkit::tls::{Certificate, Pem};

use super::{Bench, CERT, KEY};

/// The only mistake of a file.
#[track_caller]
pub(super) fn only(toml: &str) -> Mistake {
    let mistakes = Bench::new(toml).load().unwrap_err();
    let all: Vec<&Mistake> = mistakes.iter().collect();
    assert_eq!(all.len(), 1, "{toml}\n{mistakes}");
    all[0].clone()
}

/// File, line of the mistake, words of its message, words of its hint.
pub(super) type Row = (&'static str, usize, &'static str, &'static str);

#[track_caller]
pub(super) fn check(rows: &[Row]) {
    for (toml, line, message, hint) in rows {
        let mistake = only(toml);
        let spot = mistake.spot.as_ref().expect(toml);
        assert_eq!(spot.line, *line, "{mistake}");
        assert!(mistake.message.contains(message), "{mistake}");
        let hinted = mistake.hint.as_deref().unwrap_or_default();
        assert!(hinted.contains(hint), "{mistake}");
    }
}

#[test]
fn vanity_paths_need_an_address_to_name() {
    check(&[
        (
            "[[vanity]]\nprefix = \"go.corp.example\"",
            2,
            "without `public_url`",
            "public_url",
        ),
        (
            "public_url = \"https://a:b@m.example\"\n[[vanity]]\nprefix = \"go.corp.example\"",
            3,
            "shown to everybody",
            "public_url",
        ),
        (
            "public_url = \"https://m.example\"\n[[vanity]]\nprefix = \"*.corp.example\"",
            3,
            "begins no module path",
            "without scheme and `*`",
        ),
    ]);
}

#[test]
fn unknown_keys_have_a_nearest_name() {
    check(&[
        (
            "\nlisen = \"127.0.0.1:1\"",
            2,
            "unknown key `lisen`",
            "`listen`",
        ),
        (
            "[limit]\nmax_connections = 1",
            1,
            "unknown key `limit`",
            "`limits`",
        ),
        (
            "[limits]\nmax_conections = 1",
            2,
            "in [limits]",
            "`max_connections`",
        ),
        (
            "max_connections = 1",
            1,
            "at the top",
            "belongs in [limits]",
        ),
        (
            "[log]\nlisten = \"127.0.0.1:1\"",
            2,
            "in [log]",
            "top of the file",
        ),
        (
            "[sumdb]\nfolder = 1",
            2,
            "in [sumdb]",
            "known here: `name`, `url`",
        ),
        (
            "[[route]]\nmatch = [\"a.example\"]\nmod = \"sync\"",
            3,
            "in `route`",
            "`mode`",
        ),
        (
            "chain = \"https://u.example\"\n[upstream.\"https://u.example\"]\nretry = 1",
            3,
            "in `upstream`",
            "`retries`",
        ),
    ]);
}

#[test]
fn types_are_checked() {
    check(&[
        (
            "listen = 3000",
            1,
            "expected IP address and port, found an integer",
            "\"127.0.0.1:3000\"",
        ),
        (
            "chain = [\"https://a.example\", \"direct\"]",
            1,
            "found an array",
            "write one string",
        ),
        (
            "[upstream.\"https://a.example\"]\nstatus_map = \"403=404\"",
            2,
            "found a string",
            "{ 403 = 404 }",
        ),
        (
            "private = \"git.corp.example\"",
            1,
            "found a string",
            "[\"git.corp.example\"]",
        ),
        ("private = [1]", 1, "expected string, found an integer", ""),
        (
            "[log]\naccess = \"yes\"",
            2,
            "expected boolean",
            "true or false",
        ),
        (
            "[limits]\nmax_connections = \"many\"",
            2,
            "expected integer",
            "",
        ),
        ("[limits]\nmax_connections = 1.5", 2, "found a float", ""),
        (
            "limits = 3",
            1,
            "expected a table in [limits]",
            "`max_connections`",
        ),
        ("[[limits]]\nmax_connections = 3", 1, "expected a table", ""),
        (
            "[route]\nmatch = [\"a.example\"]",
            1,
            "expected an array of tables",
            "[[route]]",
        ),
        ("route = [1]", 1, "expected a table", ""),
        (
            "[[upstream]]\nretries = 1",
            1,
            "expected a table by URL",
            "[upstream.",
        ),
        (
            "[upstream]\nretries = 1",
            2,
            "not the URL of an upstream",
            "with quotes",
        ),
        ("data = \"\"", 1, "empty", ""),
        ("data = \"~/modgate\"", 1, "`~` is not replaced", "in full"),
    ]);
}

#[test]
fn ranges_units_and_words_are_checked() {
    check(&[
        (
            "[limits]\nmax_connections = 0",
            2,
            "0 is out of range",
            "1 to 1000000",
        ),
        (
            "[limits]\nmax_connections = -1",
            2,
            "-1 is out of range",
            "1 to",
        ),
        (
            "[limits]\nmax_zip_bytes = \"1GiB\"",
            2,
            "1GiB is out of range",
            "500MiB",
        ),
        (
            "[limits]\nheader_timeout = \"1ms\"",
            2,
            "1ms is out of range",
            "100ms to 1h",
        ),
        (
            "[limits]\nheader_timeout = \"10\"",
            2,
            "the unit is missing",
            "\"10s\"",
        ),
        (
            "[limits]\nheader_timeout = 10",
            2,
            "found an integer",
            "\"10s\"",
        ),
        (
            "[limits]\nheader_timeout = \"10sec\"",
            2,
            "`sec` is no unit",
            "10",
        ),
        (
            "[cache]\nmemory = \"24MB\"",
            2,
            "`MB` is no unit",
            "\"24MiB\"",
        ),
        // 600MiB would be refused too.
        (
            "[limits]\nmax_zip_bytes = \"600MB\"",
            2,
            "`MB` is no unit",
            "the range is 1MiB to 500MiB",
        ),
        (
            "[cache]\nmemory = \"lots\"",
            2,
            "start with a number",
            "\"64KiB\"",
        ),
        ("[freshness]\nlist = \"forever\"", 2, "not a duration", ""),
        ("mode = \"asinc\"", 1, "`asinc`", "\"async\""),
        ("mode = \"teapot\"", 1, "`teapot`", "choose one of"),
        ("[sumdb]\nunknown = \"alow\"", 2, "`alow`", "\"allow\""),
        ("listen = \":3000\"", 1, "`:3000`", "\"0.0.0.0:3000\""),
        (
            "listen = \"localhost:4000\"",
            1,
            "localhost",
            "\"127.0.0.1:4000\"",
        ),
        ("listen = \"10.0.0.1\"", 1, "10.0.0.1", "\"10.0.0.1:3000\""),
        ("listen = \"::1:4000\"", 1, "`::1:4000`", "\"[::1]:4000\""),
        ("listen = \"::\"", 1, "`::`", "\"[::]:3000\""),
        // Neither a day nor a minute was meant.
        (
            "[limits]\nidle_timeout = \"1.5s\"",
            2,
            "`.` is no unit",
            "\"200ms\"",
        ),
        (
            "[limits]\nidle_timeout = \"1m 30s\"",
            2,
            "is no unit",
            "\"1h30m\"",
        ),
    ]);
}

#[test]
fn syntaxes_of_the_field_are_checked() {
    check(&[
        (
            "chain = \"https://a.example,drect\"",
            1,
            "bad chain",
            "`direct`",
        ),
        ("chain = \"\"", 1, "empty", "`direct`"),
        (
            "chain = \"http://127.0.0.1:3000\"",
            1,
            "this gateway itself",
            "name the upstream",
        ),
        ("private = [\"a.example/[x\"]", 1, "bad pattern", ""),
        (
            "private = [\"a.example,b.example\"]",
            1,
            "no comma",
            "of its own",
        ),
        (
            "private = [\"a.example b.example\"]",
            1,
            "no space",
            "of its own",
        ),
        (
            "private = [\"a.example/...\"]",
            1,
            "for packages",
            "leave it out",
        ),
        (
            "private = [\"a.example:8443/x\"]",
            1,
            "without port and user",
            "leave them out",
        ),
        ("private = [\"A.example/x\"]", 1, "lower case", "lower case"),
        ("private = [\"/a.example/x\"]", 1, "slash", "host/path"),
        ("private = [\".a.example\"]", 1, "dot", "*.corp.example"),
        ("private = [\"a.example./x\"]", 1, "dot", "leave the dot"),
        ("private = [\"github.com/!corp/*\"]", 1, "letters", "go.mod"),
        (
            "private = [\"a.example;b.example\"]",
            1,
            "letters",
            "go.mod",
        ),
        (
            "private = [\"gitlab/team\"]",
            1,
            "host name",
            "all of the host",
        ),
        (
            "private = [\"https://a.example\"]",
            1,
            "no scheme",
            "host/path",
        ),
        ("public_url = \"modgate\"", 1, "is not a URL", "https://"),
        (
            "[sumdb]\nname = \"sum.golang.ogr\"",
            2,
            "no known checksum database",
            "sum.golang.org",
        ),
        (
            "[sumdb]\nname = \"sum.golang.org+033de0ae+AAAA\"",
            2,
            "bad verifier key",
            "whole key",
        ),
        (
            "[sumdb]\nname = \"sum.golang.org https://a.example\"\nurl = \"https://b.example\"",
            3,
            "has a URL already",
            "one of the two",
        ),
        (
            "[direct]\nvcs = \"public:got\"",
            2,
            "`got` is no version control",
            "`git`",
        ),
        ("[direct]\nvcs = \"git\"", 2, "no colon", "public:git|hg"),
        ("[direct]\nvcs = \"public:git|all\"", 2, "stand alone", ""),
        (
            "[network]\nno_proxy = [\"http://a.example\"]\nproxy = \"http://p:1\"",
            2,
            "no scheme",
            "",
        ),
    ]);
}

#[test]
fn columns_point_into_lists_and_texts() {
    let mistake = only("chain = \"https://a.example,drect\"");
    let spot = mistake.spot.unwrap();
    assert_eq!((spot.column, spot.marked_len), (28, 5));
    let mistake = only("private = [\"a.example\", \"[b\"]");
    assert_eq!(mistake.spot.unwrap().column, 25);
}

#[test]
fn files_are_looked_at() {
    check(&[
        (
            "[network]\nca_file = \"/nowhere/ca.pem\"",
            2,
            "cannot be read: no such file",
            "is there",
        ),
        ("[network]\nca_file = \"/\"", 2, "it is a folder", ""),
        (
            "[network]\nca_file = \"/dev/null\"",
            2,
            "no certificate",
            "DER",
        ),
    ]);
    let bench = Bench::new("");
    let (one, other) = (Pem::new(Certificate::Good), Pem::new(Certificate::Good));
    let (cert, key) = bench.tls(&one);
    let mistake = only(&format!("[tls]\ncert = {cert:?}"));
    assert!(mistake.message.contains("`tls.key` is not"), "{mistake}");
    let mistake = only(&format!("[tls]\nkey = {key:?}"));
    assert!(mistake.message.contains("`tls.cert` is not"), "{mistake}");
    bench.write(
        "modgate.toml",
        &format!("[tls]\ncert = {key:?}\nkey = {cert:?}"),
    );
    let mistakes = bench.load().unwrap_err().render(false);
    assert!(mistakes.contains("swapped"), "{mistakes}");
    assert!(
        mistakes.ends_with("2 mistakes in the configuration"),
        "{mistakes}"
    );
    let toml = format!("[tls]\ncert = {cert:?}\nkey = {key:?}");
    for (cert, key, told) in [
        (&*one.cert, &*other.key, "not that of the certificate"),
        (&one.cert, KEY, "cannot be used"),
        (CERT, &one.key, "cannot be used"),
    ] {
        bench.write("tls.crt", cert);
        bench.write("tls.key", key);
        bench.write("modgate.toml", &toml);
        let mistakes = bench.load().unwrap_err().render(false);
        assert!(mistakes.contains("modgate.toml:3"), "{mistakes}");
        assert!(mistakes.contains(told), "{mistakes}");
        assert!(mistakes.ends_with("1 mistake in the configuration"));
    }
}

#[test]
fn a_certificate_that_has_ended_is_told() {
    let bench = Bench::new("");
    for (which, told) in [(Certificate::Expired, true), (Certificate::Good, false)] {
        let (cert, key) = bench.tls(&Pem::new(which));
        bench.write(
            "modgate.toml",
            &format!("[tls]\ncert = {cert:?}\nkey = {key:?}"),
        );
        let notices = bench.load().unwrap().notices.join("\n");
        assert_eq!(
            notices.contains("modgate.toml:2) ended at 2001-01-01T00:00:00Z: clients refuse it"),
            told,
            "{notices}"
        );
    }
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let mut bench = Bench::new("");
    std::fs::write(bench.path("modgate.toml"), b"data = \"\xff\"").unwrap();
    let mistakes = bench.load().unwrap_err().to_string();
    assert!(
        mistakes.contains("modgate.toml:1:9") && mistakes.contains("not UTF-8"),
        "{mistakes}"
    );
    bench.sources.file = Some(bench.path("nowhere.toml"));
    let mistakes = bench.load().unwrap_err().to_string();
    assert!(mistakes.contains("no such file"), "{mistakes}");
    assert!(mistakes.contains("--config"), "{mistakes}");
}
