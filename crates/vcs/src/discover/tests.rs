//! Discovery against a small web of its own.

// Clippy does not see that helpers outside `#[test]` are tests.
#![allow(clippy::unwrap_used)]

pub(crate) mod web;

use std::sync::Mutex;

use egress::{Credential, Credentials, Hidden, NetworkSettings, Secret};

use super::*;
use web::{Web, tag};

/// Settings with these private and insecure patterns.
fn settings(private: &str, insecure: &str) -> DirectSettings {
    DirectSettings {
        private: Patterns::parse(private).unwrap(),
        insecure: Patterns::parse(insecure).unwrap(),
        ..DirectSettings::new(std::path::PathBuf::new())
    }
}

/// A probe to which these URLs answer.
fn probe(answering: &'static [&'static str]) -> Probe {
    Arc::new(move |_, url| {
        let answers = answering.contains(&url.as_str());
        Box::pin(async move { Ok(answers) })
    })
}

async fn found(discovery: &Discovery, path: &str) -> String {
    match discovery.find(&ModulePath::parse(path).unwrap()).await {
        Ok(root) => {
            let credentials = if root.credentials {
                ""
            } else {
                " (no credentials)"
            };
            format!("{} {} {} {}", root.vcs, root.prefix, root.url, root.subdir)
                .trim_end()
                .to_owned()
                + credentials
        }
        Err(error) => format!("{:?}: {}", error.kind, error.text),
    }
}

fn discovery(web: &Web, settings: &DirectSettings) -> Discovery {
    Discovery::new(
        settings,
        web.egress(NetworkSettings::default(), Credentials::default()),
        probe(&[]),
    )
}

#[tokio::test]
async fn pages_are_believed_where_they_may_be() {
    let web = Web::start(|url| {
        Some(match url {
            "https://a.example/x?go-get=1" | "https://a.example/x/sub?go-get=1" => {
                tag("a.example/x git https://h.example/x.git")
            }
            "https://a.example/m/deep?go-get=1" | "https://a.example/m?go-get=1" => {
                tag("a.example/m git https://h.example/g")
                    + &tag("a.example/m mod https://p.example/base")
            }
            "https://a.example/liar/x?go-get=1" => tag("a.example/liar git https://evil.example/x"),
            "https://a.example/liar?go-get=1" => tag("a.example/liar git https://h.example/good"),
            "https://a.example/claims?go-get=1" => tag("b.example git https://evil.example/x"),
            "https://a.example/two?go-get=1" => {
                tag("a.example/two git https://h/1") + &tag("a.example/two hg https://h/2")
            }
            "https://a.example/sub?go-get=1" => {
                tag("a.example/sub git https://h.example/mono pkgs/go")
            }
            "https://a.example/loosesub?go-get=1" => {
                tag("a.example/loosesub git https://h.example/mono ./pkgs/go/")
            }
            "https://a.example/badsub?go-get=1" => {
                tag("a.example/badsub git https://h.example/mono ../../etc")
            }
            "https://a.example/cvs?go-get=1" => tag("a.example/cvs cvs https://h.example/mono"),
            "https://a.example/file?go-get=1" => tag("a.example/file git file:///etc"),
            "https://a.example/ext?go-get=1" => tag("a.example/ext git ext::sh"),
            "https://a.example/opt?go-get=1" => tag("a.example/opt git ssh://-oProxyCommand=id/x"),
            "https://a.example/http?go-get=1" => tag("a.example/http git http://h.example/x"),
            "https://a.example/none?go-get=1" => "<html>nothing".to_owned(),
            "https://a.example/late?go-get=1" => {
                "x".repeat(70_000) + &tag("a.example/late git https://h/x")
            }
            "https://a.example/404?go-get=1" => {
                "404 ".to_owned() + &tag("a.example/404 git https://a.example/r")
            }
            "https://a.example/500?go-get=1" => "500 ".to_owned(),
            "https://a.example/401?go-get=1" => "401 ".to_owned(),
            "https://a.example/302?go-get=1" => "302 https://b.example/there".to_owned(),
            "https://b.example/there" => tag("a.example/302 git https://h.example/x"),
            "https://a.example/inside?go-get=1" => "302 https://127.0.0.1/".to_owned(),
            "https://a.example/down?go-get=1" => "302 http://b.example/there".to_owned(),
            "https://root.example/?go-get=1" => tag("root.example svn https://h.example/svn"),
            "https://gopkg.in/yaml.v3?go-get=1" => {
                tag("gopkg.in/yaml.v3 git https://gopkg.in/yaml.v3")
            }
            _ => return None,
        })
    })
    .await;
    let discovery = discovery(&web, &settings("", ""));
    for (path, want) in [
        (
            "a.example/x",
            "git a.example/x https://h.example/x.git (no credentials)",
        ),
        (
            "a.example/x/sub",
            "git a.example/x https://h.example/x.git (no credentials)",
        ),
        (
            "a.example/m/deep",
            "mod a.example/m https://p.example/base (no credentials)",
        ),
        (
            "a.example/liar/x",
            "NotFound: unrecognized import path \"a.example/liar/x\": the page of a.example/liar does not confirm its go-import meta tag",
        ),
        (
            "a.example/claims",
            "NotFound: unrecognized import path \"a.example/claims\": the page's go-import meta tags are for b.example, no prefix of it",
        ),
        (
            "a.example/two",
            "NotFound: unrecognized import path \"a.example/two\": the page has several go-import meta tags that match",
        ),
        (
            "a.example/sub",
            "git a.example/sub https://h.example/mono pkgs/go (no credentials)",
        ),
        (
            "a.example/loosesub",
            "git a.example/loosesub https://h.example/mono pkgs/go (no credentials)",
        ),
        (
            "a.example/badsub",
            "NotFound: unrecognized import path \"a.example/badsub\": invalid subdirectory \"../../etc\" in the page of a.example/badsub",
        ),
        (
            "a.example/cvs",
            "NotFound: unrecognized import path \"a.example/cvs\": unknown version control system \"cvs\" in the page of a.example/cvs",
        ),
        (
            "a.example/file",
            "Refused: the repository file:///etc is not asked: git is not spoken over file",
        ),
        (
            "a.example/ext",
            "Refused: the repository ext::sh is not asked: it has no scheme",
        ),
        (
            "a.example/opt",
            "Refused: the repository ssh://-oProxyCommand=id/x is not asked: a program could take part of it for an option",
        ),
        (
            "a.example/http",
            "Refused: the repository http://h.example/x is not asked: http is not encrypted",
        ),
        (
            "a.example/none",
            "NotFound: unrecognized import path \"a.example/none\": the page has no go-import meta tags",
        ),
        (
            "a.example/late",
            "NotFound: unrecognized import path \"a.example/late\": the first 64 KiB of the page, which is longer, have no go-import meta tags",
        ),
        ("a.example/404", "git a.example/404 https://a.example/r"),
        (
            "a.example/missing",
            "NotFound: unrecognized import path \"a.example/missing\": a.example answered 404",
        ),
        (
            "a.example/500",
            "Unavailable: unrecognized import path \"a.example/500\": a.example answered 500",
        ),
        (
            "a.example/401",
            "Unauthorized: unrecognized import path \"a.example/401\": a.example answered 401 without a credential",
        ),
        (
            "a.example/302",
            "git a.example/302 https://h.example/x (no credentials)",
        ),
        (
            "a.example/inside",
            "Refused: unrecognized import path \"a.example/inside\": 127.0.0.1 is not a public address",
        ),
        (
            "a.example/down",
            "Refused: unrecognized import path \"a.example/down\": redirected from https to http",
        ),
        (
            "root.example",
            "svn root.example https://h.example/svn (no credentials)",
        ),
        (
            "gopkg.in/yaml.v3",
            "git gopkg.in/yaml.v3 https://gopkg.in/yaml.v3",
        ),
        (
            "github.com/u/r/v2",
            "git github.com/u/r https://github.com/u/r",
        ),
    ] {
        assert_eq!(found(&discovery, path).await, want, "{path}");
    }
    let before = web.asked().len();
    for path in ["a.example/x/sub", "a.example/missing", "a.example/500"] {
        found(&discovery, path).await;
    }
    assert_eq!(web.asked().len(), before, "kept, good or bad");
}

#[tokio::test]
async fn without_encryption_only_where_listed() {
    let web = Web::start(|url| match url {
        "http://plain.example/x?go-get=1" => {
            Some(tag("plain.example/x git http://plain.example/r"))
        }
        "http://other.example/x?go-get=1" => Some(tag("other.example/x git git://other.example/r")),
        _ => None,
    })
    .await;
    let secure = discovery(&web, &settings("", ""));
    let got = found(&secure, "plain.example/x").await;
    assert!(got.starts_with("NotFound"), "{got}");
    assert!(web.asked().iter().all(|url| url.starts_with("https://")));
    // https answers there, though with 404: only an https that does not answer at all is followed by http.
    let insecure = discovery(&web, &settings("", "plain.example,other.example/x"));
    let got = found(&insecure, "plain.example/x").await;
    assert!(got.starts_with("NotFound"), "{got}");
    let web = Web::without_tls(|url| match url {
        "http://plain.example/x?go-get=1" => {
            Some(tag("plain.example/x git http://plain.example/r"))
        }
        "http://other.example/x?go-get=1" => Some(tag("other.example/x git git://other.example/r")),
        _ => None,
    })
    .await;
    let insecure = discovery(&web, &settings("", "plain.example,other.example/x"));
    assert_eq!(
        found(&insecure, "plain.example/x").await,
        "git plain.example/x http://plain.example/r"
    );
    assert_eq!(
        found(&insecure, "other.example/x").await,
        "git other.example/x git://other.example/r"
    );
    let got = found(&insecure, "other.example/y").await;
    assert!(got.starts_with("Unavailable"), "{got}");
    let insecure = discovery(&web, &settings("", "git.example:8080"));
    assert!(insecure.is_insecure("x.example/m", "http://git.example:8080/r"));
    assert!(!insecure.is_insecure("x.example/m", "http://git.example/r"));
}

#[tokio::test]
async fn a_qualifier_ends_the_root_and_schemes_are_tried() {
    let web = Web::start(|url| match url {
        "https://h.example/a/info/refs?service=git-upload-pack" => Some("refs".to_owned()),
        "https://h.example/locked/info/refs?service=git-upload-pack" => Some("401 ".to_owned()),
        "https://h.example/ill/info/refs?service=git-upload-pack" => Some("503 ".to_owned()),
        _ => None,
    })
    .await;
    let egress = web.egress(NetworkSettings::default(), Credentials::default());
    let answering = &[
        "ssh://h.example/b",
        "https://h.example/c",
        "ssh://h.example/d",
    ];
    let mut settings = settings("", "");
    settings.govcs = crate::Govcs::parse("no.example:git,public:all").unwrap();
    let discovery = Discovery::new(&settings, egress, probe(answering));
    for (path, want) in [
        // Nobody is asked whom GOVCS does not let be asked.
        (
            "no.example/b.hg",
            "Refused: no.example/b.hg: hg is not allowed for public modules of no.example/b.hg",
        ),
        ("h.example/a.git", "git h.example/a.git https://h.example/a"),
        (
            "h.example/a.git/sub/v2",
            "git h.example/a.git https://h.example/a",
        ),
        ("h.example/b.git", "git h.example/b.git ssh://h.example/b"),
        ("h.example/c.hg/x", "hg h.example/c.hg https://h.example/c"),
        ("h.example/d.hg", "hg h.example/d.hg ssh://h.example/d"),
        (
            "h.example/e.svn",
            "NotFound: no secure protocol found for repository h.example/e",
        ),
        (
            "h.example/e.fossil",
            "fossil h.example/e.fossil https://h.example/e",
        ),
        (
            "h.example/locked.git",
            "Unauthorized: h.example answered 401 without a credential",
        ),
        (
            "h.example/ill.git",
            "Unavailable: the repository h.example answered 503",
        ),
    ] {
        assert_eq!(found(&discovery, path).await, want, "{path}");
    }
}

#[tokio::test]
async fn mappings_come_first() {
    let web = Web::start(|_| None).await;
    let mut settings = settings("", "plain.corp.example");
    let mapping = |prefix: &str, repo: &str| Mapping {
        prefix: prefix.to_owned(),
        repo: repo.to_owned(),
        vcs: Kind::Git,
        subdir: String::new(),
    };
    settings.mappings = vec![
        mapping("github.com/corp", "ssh://git@mirror.corp.example/{1}.git"),
        mapping("git.corp.example/team", "git@git.corp.example:team/{1}.git"),
        mapping("plain.corp.example", "http://plain.corp.example/{1}"),
        mapping("bad.corp.example", "http://bad.corp.example/{1}"),
    ];
    let discovery = discovery(&web, &settings);
    for (path, want) in [
        (
            "github.com/corp/x/v3",
            "git github.com/corp/x ssh://git@mirror.corp.example/x.git",
        ),
        (
            "git.corp.example/team/x/sub/v2",
            "git git.corp.example/team/x ssh://git@git.corp.example/team/x.git",
        ),
        (
            "git.corp.example/team",
            "NotFound: git.corp.example/team is no module: a repository has 1 path elements behind git.corp.example/team",
        ),
        (
            "git.corp.example/team/v2",
            "NotFound: git.corp.example/team/v2 is no module: a repository has 1 path elements behind git.corp.example/team",
        ),
        (
            "plain.corp.example/x",
            "git plain.corp.example/x http://plain.corp.example/x",
        ),
        (
            "bad.corp.example/x",
            "Refused: the repository http://bad.corp.example/x is not asked: http is not encrypted",
        ),
    ] {
        assert_eq!(found(&discovery, path).await, want, "{path}");
    }
    assert_eq!(web.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn strangers_cannot_have_our_repositories_read_to_them() {
    let web = Web::start(|url| match url {
        "https://evil.example/x?go-get=1" => {
            Some(tag("evil.example/x git https://git.corp.example/secret"))
        }
        "https://go.corp.example/x?go-get=1" => {
            Some(tag("go.corp.example/x git https://git.corp.example/x"))
        }
        "https://git.corp.example/own?go-get=1" => Some(tag(
            "git.corp.example/own git https://git.corp.example/own.git",
        )),
        _ => None,
    })
    .await;
    let network = NetworkSettings {
        internal_hosts: vec!["git.corp.example".to_owned()],
        ..NetworkSettings::default()
    };
    let egress = web.egress(network, Credentials::default());
    let discovery = Discovery::new(&settings("go.corp.example", ""), egress, probe(&[]));
    for (path, want) in [
        (
            "evil.example/x",
            "Refused: the page of evil.example/x names a repository on an internal host, and evil.example/x is not private",
        ),
        (
            "go.corp.example/x",
            "git go.corp.example/x https://git.corp.example/x",
        ),
        (
            "git.corp.example/own",
            "git git.corp.example/own https://git.corp.example/own.git",
        ),
    ] {
        assert_eq!(found(&discovery, path).await, want, "{path}");
    }
}

#[tokio::test]
async fn pages_behind_a_password() {
    let web = Web::start_with_heads(|url, head| {
        (url == "https://git.corp.example/x?go-get=1").then(|| {
            if head.contains("authorization: Basic Y2k6czNjcmV0") {
                tag("git.corp.example/x git https://git.corp.example/x.git")
            } else {
                "403 ".to_owned()
            }
        })
    })
    .await;
    for (password, want) in [
        (
            "s3cret",
            "git git.corp.example/x https://git.corp.example/x.git",
        ),
        (
            "wr0ng",
            "Unauthorized: unrecognized import path \"git.corp.example/x\": git.corp.example answered 403 to the credential for git.corp.example (user ci)",
        ),
    ] {
        let credential = Credential {
            matches: "git.corp.example".parse().unwrap(),
            kind: egress::Kind::Basic {
                username: "ci".to_owned(),
                password: Secret::Plain(Hidden::new(password)),
            },
        };
        let egress = web.egress(
            NetworkSettings::default(),
            Credentials::new(vec![credential]),
        );
        let discovery = Discovery::new(&settings("", ""), egress, probe(&[]));
        assert_eq!(found(&discovery, "git.corp.example/x").await, want);
    }
}

#[tokio::test]
async fn a_crowd_asks_once_and_a_moved_repository_is_noticed() {
    let moved = Arc::new(Mutex::new("https://h.example/old"));
    let told = Arc::clone(&moved);
    let web =
        Web::start(move |_| Some(tag(&format!("a.example/m git {}", told.lock().unwrap())))).await;
    let mut settings = settings("", "");
    settings.discovery_negative_life = Duration::ZERO;
    let discovery = discovery(&web, &settings);
    let crowd = (0..50).map(|_| found(&discovery, "a.example/m/x"));
    for got in futures_util::future::join_all(crowd).await {
        assert_eq!(
            got,
            "git a.example/m https://h.example/old (no credentials)"
        );
    }
    assert_eq!(web.asked().len(), 2);
    *moved.lock().unwrap() = "https://h.example/new";
    assert_eq!(
        found(&discovery, "a.example/m/y").await,
        "git a.example/m https://h.example/new (no credentials)"
    );
}
