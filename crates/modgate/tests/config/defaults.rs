//! What is asked where nothing is set: the chain and the checksum database of the machine's Go.

use super::*;

/// Chain in effect, the words of its origin, and all notices.
fn chain_of(bench: &Bench) -> (String, String, String) {
    let loaded = bench.loaded();
    let origin = loaded.origins.get("chain").unwrap().to_string();
    (
        loaded.config.chain.to_string(),
        origin,
        loaded.notices.join("\n"),
    )
}

#[test]
fn the_chain_defaults_to_what_go_uses() {
    let bench = Bench::new("");
    bench.write("go.env", "GOPROXY=https://root.example,direct\n");
    let (chain, origin, _) = chain_of(&bench);
    assert_eq!(chain, "https://root.example,direct");
    assert!(origin.contains("go.env"), "{origin}");

    bench.write(".config/go/env", "GOPROXY=https://user.example|direct\n");
    assert_eq!(chain_of(&bench).0, "https://user.example|direct");

    let bench = bench.var("GOPROXY", "https://env.example");
    let (chain, origin, notices) = chain_of(&bench);
    assert_eq!(chain, "https://env.example");
    assert_eq!(origin, "default: GOPROXY in the environment");
    // It is said where the chain is; a default is nothing to be warned of.
    assert_eq!(notices, "");
}

#[test]
fn the_gateway_itself_is_left_out_of_the_chain() {
    let bench = Bench::new("public_url = \"https://go.corp.example\"").var(
        "GOPROXY",
        "https://go.corp.example,http://localhost:3000,direct",
    );
    bench.write("go.env", "GOPROXY=https://root.example,direct\n");
    let (chain, _, notices) = chain_of(&bench);
    assert_eq!(chain, "https://root.example,direct");
    assert!(notices.contains("is this gateway itself"), "{notices}");

    let bench = bench.var("GOPROXY", "http://127.0.0.1:3000|https://up.example,direct");
    assert_eq!(chain_of(&bench).0, "https://up.example,direct");

    // Another port is another program.
    let bench = bench.var("MODGATE_LISTEN", "127.0.0.1:4000");
    let (chain, ..) = chain_of(&bench);
    assert_eq!(chain, "http://127.0.0.1:3000|https://up.example,direct");

    let bench = bench.var("MODGATE_CHAIN", "http://127.0.0.1:4000,https://up.example");
    let (chain, _, notices) = chain_of(&bench);
    assert_eq!(chain, "https://up.example");
    assert!(notices.contains("left out"), "{notices}");
}

#[test]
fn a_command_that_does_not_listen_may_ask_who_listens_there_by_default() {
    let mut bench = Bench::new("chain = \"http://127.0.0.1:3000\"");
    assert!(Config::load(&bench.sources).is_err());
    bench.sources.silent = true;
    assert_eq!(chain_of(&bench).0, "http://127.0.0.1:3000");
    // Somebody's own address is none to ask, and what Go asks on this machine is meant for clients.
    let bench = bench.var("MODGATE_LISTEN", "127.0.0.1:3000");
    assert!(Config::load(&bench.sources).is_err());
    let mut bench = Bench::new("").var("GOPROXY", "http://127.0.0.1:3000");
    bench.sources.silent = true;
    assert_eq!(chain_of(&bench).0, "direct");
}

#[test]
fn the_checksum_database_defaults_to_what_go_uses() {
    let bench = Bench::new("").var("GOSUMDB", "sum.golang.google.cn");
    let database = bench.loaded().config.sumdb.database.unwrap();
    assert_eq!(database.key.name(), "sum.golang.org");
    assert!(
        database
            .url
            .unwrap()
            .to_string()
            .starts_with("https://sum.golang.google.cn")
    );

    let own = "sum.golang.org http://127.0.0.1:3000/sumdb/sum.golang.org";
    let bench = bench.var("GOSUMDB", own);
    let loaded = bench.loaded();
    assert!(loaded.config.sumdb.database.unwrap().url.is_none());

    let bench = bench.var("GOSUMDB", "off");
    let loaded = bench.loaded();
    assert!(loaded.config.sumdb.database.is_none());
    assert!(
        loaded
            .notices
            .iter()
            .any(|notice| notice.contains("no module is verified"))
    );
    assert!(
        loaded
            .notices
            .iter()
            .any(|notice| notice.contains("GOSUMDB"))
    );
}

#[test]
fn a_url_of_another_database_is_not_used() {
    let mut bench = Bench::new("[sumdb]\nname = \"sum.golang.org\"\nurl = \"https://a.example\"");
    assert!(bench.loaded().config.sumdb.database.unwrap().url.is_some());
    bench.sources.flags.sumdb = Some("sum.golang.org".to_owned());
    let loaded = bench.loaded();
    assert!(loaded.config.sumdb.database.unwrap().url.is_none());
    assert!(
        loaded
            .notices
            .iter()
            .any(|notice| notice.contains("sumdb.url"))
    );
}

#[test]
fn what_stands_behind_the_end_of_a_chain_is_told() {
    for (chain, told) in [
        (
            "direct,https://u:p@a.example",
            "`https://***@a.example` in the chain",
        ),
        ("off, |https://a.example,https://b.example", "behind `off`"),
        ("https://a.example,direct", ""),
        ("https://a.example|off,", ""),
    ] {
        let top = Bench::new(&format!("chain = {chain:?}\n")).loaded();
        let route = format!("[[route]]\nmatch = [\"x.example\"]\nchain = {chain:?}\n");
        for notices in [top.notices, Bench::new(&route).loaded().notices] {
            let notices = notices.join("\n");
            assert!(notices.contains(told), "{chain}: {notices}");
            assert_eq!(notices.is_empty(), told.is_empty(), "{chain}: {notices}");
        }
    }
}
