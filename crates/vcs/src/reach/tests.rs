//! Real programs by the ways given to them.

// Clippy does not see that helpers outside `#[test]` are tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use egress::credential::SshKey;
use egress::{Credential, Credentials, Hidden, Lookup, NetworkSettings, Secret};

use super::*;
use crate::discover::tests::web::Web;

const HASH: &str = "abcdef6789012345678901234567890123456789";

fn root(url: &str, credentials: bool) -> Root {
    Root {
        prefix: "x.example/x".to_owned(),
        vcs: Kind::Git,
        url: url.to_owned(),
        subdir: String::new(),
        credentials,
    }
}

fn basic(prefix: &str) -> Credentials {
    Credentials::new(vec![Credential {
        matches: prefix.parse().unwrap(),
        kind: egress::Kind::Basic {
            username: "ci".to_owned(),
            password: Secret::Plain(Hidden::new("s3cret")),
        },
    }])
}

/// What git says of the references of a repository, by a way.
async fn ls_remote(reach: &Reach, root: &Root) -> String {
    let way = match reach.way(root).await {
        Ok(way) => way,
        Err(error) => return format!("{:?}: {}", error.kind, error.text),
    };
    let mut git = tokio::process::Command::new("git");
    git.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs([
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("HOME", "/nonexistent"),
        ])
        .env("GIT_CONFIG_COUNT", way.config.len().to_string());
    for (i, (key, value)) in way.config.iter().enumerate() {
        git.env(format!("GIT_CONFIG_KEY_{i}"), key)
            .env(format!("GIT_CONFIG_VALUE_{i}"), value);
    }
    git.envs(way.env.iter().map(|(key, value)| (key, value)));
    git.args(["ls-remote", "-q", "--", &way.url]);
    let output = git.output().await.unwrap();
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    String::from_utf8(text).unwrap()
}

/// A lookup that knows one answer.
fn always(address: &str) -> Lookup {
    let address: IpAddr = address.parse().unwrap();
    Arc::new(move |_| Box::pin(async move { Ok(vec![address]) }))
}

#[tokio::test]
async fn git_over_https_with_a_password_a_private_authority_and_a_proxy() {
    let web = Web::start_with_heads(|url, head| {
        let knows = head
            .to_lowercase()
            .contains("authorization: basic y2k6czNjcmV0".to_lowercase().as_str());
        match url {
            "https://git.corp.example/x/info/refs?service=git-upload-pack" if knows => {
                Some(format!("{HASH}\trefs/heads/main\n"))
            }
            "https://git.corp.example/x/HEAD" => Some("ref: refs/heads/main\n".to_owned()),
            "https://git.corp.example/x/info/refs?service=git-upload-pack" => {
                Some("403 ".to_owned())
            }
            _ => None,
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let egress = web.egress(NetworkSettings::default(), basic("git.corp.example"));
    let reach = Reach::new(egress, dir.path().to_owned());
    let ours = ls_remote(&reach, &root("https://git.corp.example/x", true)).await;
    assert_eq!(ours, format!("{HASH}\tHEAD\n{HASH}\trefs/heads/main\n"));
    let way = reach
        .way(&root("https://git.corp.example/x", true))
        .await
        .unwrap();
    assert_eq!(
        way.credential.as_deref(),
        Some("the credential for git.corp.example (user ci)")
    );
    assert!(!format!("{way:?} {reach:?}").contains("czNjcmV0"));
    // Named by a stranger, it is asked without.
    let theirs = ls_remote(&reach, &root("https://git.corp.example/x", false)).await;
    assert!(theirs.contains("error: 403"), "{theirs}");

    // A certificate of nobody we trust.
    let network = NetworkSettings {
        ca_pem: None,
        ca_only: false,
        ..reach.egress.network().clone()
    };
    let stranger = Reach::new(
        Egress::new(network, Credentials::default()),
        dir.path().to_owned(),
    );
    let refused = ls_remote(&stranger, &root("https://git.corp.example/x", true)).await;
    assert!(refused.contains("certificate"), "{refused}");
}

#[tokio::test]
async fn checked_addresses_are_what_git_connects_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://pinned.example:{port}/x");
    let dir = tempfile::tempdir().unwrap();
    let reach = |lookup: Lookup| {
        let egress =
            Egress::with_lookup(NetworkSettings::default(), Credentials::default(), lookup);
        Reach::new(egress, dir.path().to_owned())
    };
    let inside = ls_remote(&reach(always("127.0.0.1")), &root(&url, true)).await;
    assert!(
        inside.starts_with("Refused: the repository http://pinned.example"),
        "{inside}"
    );
    let way = reach(always("2606:4700::1"))
        .way(&root(&url, true))
        .await
        .unwrap();
    let resolve = way
        .config
        .iter()
        .find(|(key, _)| key == "http.curloptResolve")
        .unwrap();
    assert_eq!(resolve.1, format!("pinned.example:{port}:[2606:4700::1]"));
    // Programs that cannot be told go by a proxy of ours.
    let mut hg = root(&url, true);
    hg.vcs = Kind::Hg;
    let way = reach(always("2606:4700::1")).way(&hg).await.unwrap();
    let proxy = way
        .config
        .iter()
        .find(|(key, _)| key == "http.proxy")
        .unwrap();
    assert!(proxy.1.starts_with("http://modgate-plain:"), "{}", proxy.1);
    // git knows the option: it goes where it is told, whatever the name service says.
    let mut git = tokio::process::Command::new("git");
    git.env("GIT_TERMINAL_PROMPT", "0").env("no_proxy", "*");
    let pin = format!("http.curloptResolve=pinned.example:{port}:127.0.0.1");
    let asked = git
        .args(["-c", &pin, "ls-remote", &url])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listener.accept().await.unwrap();
    drop(asked);
}

#[tokio::test]
async fn ssh_goes_to_the_checked_address_with_the_key_that_is_meant() {
    let credential = Credential {
        matches: "ssh://git.example".parse().unwrap(),
        kind: egress::Kind::Ssh(SshKey {
            key: PathBuf::from("/keys/it's 100%"),
            known_hosts: Some(PathBuf::from("/keys/hosts")),
            username: Some("git".to_owned()),
        }),
    };
    let egress = Egress::with_lookup(
        NetworkSettings {
            internal_hosts: vec!["inside.example".to_owned()],
            ..NetworkSettings::default()
        },
        Credentials::new(vec![credential]),
        // Of what is inside, the host that a ProxyJump goes by may alone know the name.
        Arc::new(|name| {
            Box::pin(async move {
                match &*name {
                    "inside.example" => Err(std::io::Error::other("no such host")),
                    _ => Ok(vec![IpAddr::from([1, 1, 1, 1])]),
                }
            })
        }),
    );
    let reach = Reach::new(egress, PathBuf::from("/nonexistent"));
    let command =
        async |url: &str, ours: bool| reach.way(&root(url, ours)).await.unwrap().env[0].1.clone();
    // What ssh itself makes of it.
    let settings = async |url: &str, ours: bool| {
        let script = format!("{} -G git.example", command(url, ours).await);
        let output = tokio::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = settings("ssh://git.example/x", true).await;
    for line in [
        "hostname 1.1.1.1",
        "hostkeyalias git.example",
        "user git",
        "batchmode yes",
        "stricthostkeychecking true",
        "identitiesonly yes",
        "userknownhostsfile /keys/hosts",
        "globalknownhostsfile /dev/null",
    ] {
        assert!(ours.lines().any(|said| said == line), "{line}\n{ours}");
    }
    assert!(ours.contains("identityfile /keys/it's 100%"), "{ours}");
    let theirs = settings("ssh://git@other.example:2222/x", false).await;
    assert!(
        theirs.contains("hostkeyalias [other.example]:2222"),
        "{theirs}"
    );
    assert!(
        theirs.contains("identityfile none") && !theirs.contains("/keys/"),
        "{theirs}"
    );
    let inside = command("ssh://git@inside.example/x", true).await;
    assert!(
        !inside.contains("HostName") && !inside.contains("IdentityFile"),
        "{inside}"
    );
}

#[tokio::test]
async fn a_server_that_redirects_is_asked_where_it_says() {
    let web = Web::start(|url| {
        Some(match url {
            "https://a.example/old/info/refs?service=git-upload-pack" => {
                "302 https://a.example/new.git/info/refs?service=git-upload-pack".to_owned()
            }
            "https://a.example/away/info/refs?service=git-upload-pack" => {
                "302 https://b.example/x/info/refs?service=git-upload-pack".to_owned()
            }
            "https://a.example/inside/info/refs?service=git-upload-pack" => {
                "302 https://git.corp.example/x/info/refs?service=git-upload-pack".to_owned()
            }
            "https://a.example/login/info/refs?service=git-upload-pack" => {
                "302 https://a.example/sign_in".to_owned()
            }
            url if url.contains("/info/refs") => "refs".to_owned(),
            _ => "page".to_owned(),
        })
    })
    .await;
    let network = NetworkSettings {
        internal_hosts: vec!["git.corp.example".to_owned()],
        ..NetworkSettings::default()
    };
    let reach = Reach::new(
        web.egress(network, Credentials::default()),
        PathBuf::from("/nonexistent"),
    );
    for (path, ours, want) in [
        ("old", false, "https://a.example/new.git true"),
        ("away", false, "https://b.example/x false"),
        // With the credential for b.example, if there is one.
        ("away", true, "https://b.example/x true"),
        (
            "inside",
            true,
            "the repository https://a.example/inside redirects to an internal host",
        ),
        ("login", false, "not moved"),
        ("stays", false, "not moved"),
    ] {
        let got = match reach
            .moved(&root(&format!("https://a.example/{path}"), true), ours)
            .await
        {
            Ok(Some(root)) => format!("{} {}", root.url, root.credentials),
            Ok(None) => "not moved".to_owned(),
            Err(error) => error.text,
        };
        assert_eq!(got, want, "{path}");
    }
}

#[test]
fn advice_tells_none_from_one_that_is_withheld() {
    let advice = |withheld| {
        let way = Way {
            withheld,
            ..Way::default()
        };
        way.advice()
    };
    assert!(advice(true).contains("withheld") && advice(true).contains("[[vcs]]"));
    assert!(advice(false).contains("none matches it"));
}

#[tokio::test]
async fn of_several_addresses_one_that_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = |port: u16| format!("ssh://x.example:{port}/x").parse().unwrap();
    let [open, closed, other] = [1, 2, 3].map(|end| IpAddr::from([127, 0, 0, end]));
    for (checked, want) in [
        (vec![closed, open], open),
        (vec![open, closed], open),
        // Nobody answers: then the program says so of the first.
        (vec![closed, other], closed),
        (vec![closed], closed),
    ] {
        let got = answering(&url(port), Some(&checked)).await;
        assert_eq!(got, Some(want), "{checked:?}");
    }
    assert_eq!(answering(&url(port), None).await, None);
}
