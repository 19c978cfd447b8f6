//! Where credentials come from, and that they are never shown.

// Clippy does not see that helpers outside `#[test]` are tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{basic, credentials};
use egress::credential::SshKey;
use egress::{Credential, Credentials, Hidden, Kind, Secret};

fn one(prefix: &str, kind: Kind) -> Credential {
    Credential {
        matches: prefix.parse().unwrap(),
        kind,
    }
}

/// The secret in an environment variable.
fn from_env(name: &str) -> Secret {
    Secret::Env {
        name: name.to_owned(),
        value: Hidden::new(std::env::var(name).unwrap()),
    }
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

/// The header for a URL, or why there is none.
async fn header(all: &Credentials, url: &str) -> String {
    match all.for_url(&url.parse().unwrap()).await {
        Ok(Some(grant)) => {
            let (name, value) = grant.header().unwrap();
            assert!(value.is_sensitive());
            format!("{name}: {}", value.to_str().unwrap())
        }
        Ok(None) => "none".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

#[tokio::test]
async fn kinds_and_precedence() {
    let token = Secret::Plain(Hidden::new(" t0ken\n"));
    let all = credentials(vec![
        basic("h.example", "whole", "host"),
        one("h.example/team", Kind::Bearer(token.clone())),
        one(
            "h.example/team/x",
            Kind::Header {
                name: "Private-Token".to_owned(),
                value: token,
            },
        ),
        one(
            "ssh://git@h.example",
            Kind::Ssh(SshKey {
                key: PathBuf::from("/k"),
                known_hosts: None,
                username: None,
            }),
        ),
    ]);
    for (url, want) in [
        (
            "https://h.example/other",
            "authorization: Basic d2hvbGU6aG9zdA==",
        ),
        (
            "https://h.example/team/y.git",
            "authorization: Bearer t0ken",
        ),
        ("https://h.example/team/x.git", "private-token: t0ken"),
        ("http://h.example/team/x.git", "none"),
        ("https://other.example/team", "none"),
    ] {
        assert_eq!(header(&all, url).await, want, "{url}");
    }
    let ssh = all
        .for_url(&"ssh://git@h.example/x".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ssh.ssh().unwrap().key, PathBuf::from("/k"));
    assert!(ssh.header().is_none());
    let shown = format!("{all:?}");
    assert!(
        !shown.contains("t0ken") && !shown.contains("\"host\""),
        "{shown}"
    );
    let grant = all
        .for_url(&"https://h.example/other".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        format!("{grant:?}"),
        "Some(Grant(\"the credential for h.example (user whole)\"))"
    );
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let (token, netrc) = (dir.path().join("token"), dir.path().join("netrc"));
    let all = credentials(vec![
        one("t.example", Kind::Bearer(Secret::File(token.clone()))),
        one("*", Kind::Netrc(netrc.clone())),
    ]);
    let missing = header(&all, "https://t.example/").await;
    assert!(
        missing.starts_with("error: the credential for t.example cannot be used: "),
        "{missing}"
    );
    assert!(missing.contains("cannot be read"), "{missing}");
    fs::write(&token, "one\n").unwrap();
    assert_eq!(
        header(&all, "https://t.example/").await,
        "authorization: Bearer one"
    );
    fs::write(&token, "two\n").unwrap();
    assert_eq!(
        header(&all, "https://t.example/").await,
        "authorization: Bearer two"
    );
    fs::write(&token, " \n").unwrap();
    assert!(
        header(&all, "https://t.example/")
            .await
            .ends_with("it is empty")
    );
    fs::write(&token, "a\nb").unwrap();
    assert!(
        header(&all, "https://t.example/")
            .await
            .contains("characters that no header may have")
    );

    fs::write(&netrc, "machine n.example login ci password one").unwrap();
    assert_eq!(
        header(&all, "https://n.example:8443/x").await,
        "none",
        "another port than a prefix without one"
    );
    assert_eq!(
        header(&all, "https://n.example/x").await,
        "authorization: Basic Y2k6b25l"
    );
    assert_eq!(header(&all, "https://m.example/x").await, "none");
    fs::write(&netrc, "machine n.example login ci password tw").unwrap();
    assert_eq!(
        header(&all, "https://n.example/x").await,
        "authorization: Basic Y2k6dHc="
    );
}

#[tokio::test]
async fn commands_are_asked_once_in_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!(
        "echo x >> {0}; echo run-$(wc -l < {0} | tr -d ' ')",
        count.display()
    );
    let all = credentials(vec![
        one("c.example", Kind::Bearer(Secret::Command(sh(&script)))),
        one(
            "bad.example",
            Kind::Bearer(Secret::Command(sh("echo s3cret; exit 7"))),
        ),
        one("env.example", Kind::Bearer(from_env("PATH"))),
        one(
            "seen.example",
            Kind::Bearer(Secret::Command(sh("echo seen:$PATH"))),
        ),
    ]);
    let url = "https://c.example/x";
    let (a, b) = tokio::join!(header(&all, url), header(&all, url));
    assert_eq!(
        (a.as_str(), b.as_str()),
        ("authorization: Bearer run-1", "authorization: Bearer run-1")
    );
    let grant = all.for_url(&url.parse().unwrap()).await.unwrap().unwrap();
    all.refused(&grant).await;
    assert_eq!(
        header(&all, url).await,
        "authorization: Bearer run-1",
        "not again at once"
    );

    let bad = header(&all, "https://bad.example/").await;
    assert!(bad.contains("`/bin/sh` failed: exit status: 7"), "{bad}");
    assert!(!bad.contains("s3cret"), "{bad}");
    assert!(header(&all, "https://env.example/").await.contains("/bin"));
    // The shell has a PATH of its own; ours, which holds a secret here, it does not see.
    let seen = header(&all, "https://seen.example/").await;
    assert_ne!(
        seen,
        format!(
            "authorization: Bearer seen:{}",
            std::env::var("PATH").unwrap()
        )
    );
}

#[tokio::test]
async fn git_credential_helpers() {
    let dir = tempfile::tempdir().unwrap();
    let asked = dir.path().join("asked");
    let script = format!(
        "[ \"$0\" = get ] || exit 1; tee -a {} | grep -q host=h.example && printf 'username=ci\\npassword=p\\n'; true",
        asked.display()
    );
    let all = credentials(vec![
        one("*", Kind::Helper(sh(&script))),
        one("h.example/team", Kind::Helper(sh(&script))),
    ]);
    for _ in 0..3 {
        assert_eq!(
            header(&all, "https://h.example/x").await,
            "authorization: Basic Y2k6cA=="
        );
    }
    assert_eq!(header(&all, "https://other.example/x").await, "none");
    assert_eq!(
        fs::read_to_string(&asked).unwrap(),
        "protocol=https\nhost=h.example\n\nprotocol=https\nhost=other.example\n\n"
    );
    header(&all, "https://h.example/team/x").await;
    let asked = fs::read_to_string(&asked).unwrap();
    assert!(
        asked.ends_with("protocol=https\nhost=h.example\npath=team\n\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_certificate_and_a_token_go_together() {
    let files = egress::credential::ClientCertificate {
        cert: PathBuf::from("/c"),
        key: PathBuf::from("/k"),
    };
    let all = credentials(vec![
        one("h.example", Kind::ClientCertificate(files)),
        basic("h.example/team", "ci", "x"),
    ]);
    let grant = all
        .for_url(&"https://h.example/team/x".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(grant.header().is_some() && grant.client_certificate().is_some());
    assert_eq!(
        grant.name(),
        "the credential for h.example/team (user ci) and the client certificate for h.example"
    );
}

#[tokio::test]
async fn no_command_sees_the_secrets_of_other_settings() {
    // One that surely is there, as if some other setting had its secret in it.
    const NAME: &str = "CARGO_MANIFEST_DIR";
    let command = sh(&format!("printf '%s' \"${{{NAME}-hidden}}\""));
    let token = || {
        vec![one(
            "https://h.example",
            Kind::Bearer(Secret::Command(command.clone())),
        )]
    };
    let url = "https://h.example/x";
    let seen = format!("authorization: Bearer {}", std::env::var(NAME).unwrap());
    assert_eq!(header(&Credentials::new(token()), url).await, seen);
    let hiding = Credentials::hiding(token(), vec![NAME.to_owned()]);
    assert_eq!(header(&hiding, url).await, "authorization: Bearer hidden");
}
