//! Who modgate is to repositories and proxies: logins, keys and certificates, that go where they belong and nowhere else.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

mod common;

use std::fs;
use std::sync::Arc;

use common::{Lab, basic, go_mod, info, list, zip};
use egress::credential::SshKey;
use egress::{Credential, Credentials, Egress, Kind, NetworkSettings};
use forge::{Fault, History, Login, change};
use vcs::discover::Mapping;
use vcs::{Direct, DirectError, DirectSettings, ErrorKind};

const CI: Login = Login {
    user: "ci",
    secret: "s3cret-of-ci",
};

fn small() -> History {
    let mut history = History::new();
    history.commit("main", "one", [change::file("go.mod", "module x.test\n")]);
    history.tag("v1.0.0", "one");
    history.commit("main", "two", [change::file("a.go", "package a\n")]);
    history
}

/// `corp.test/NAME` is the repository NAME at a base URL.
fn mapped(lab: &Lab, base: &str) -> DirectSettings {
    let mut settings = lab.settings();
    settings.mappings = vec![Mapping {
        prefix: "corp.test".to_owned(),
        repo: format!("{base}/{{1}}.git"),
        vcs: vcs::discover::Kind::Git,
        subdir: String::new(),
    }];
    settings
}

/// Without a proxy; the forge may be on loopback.
fn inside(lab: &Lab) -> NetworkSettings {
    NetworkSettings {
        internal_hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        ..lab.without_proxy()
    }
}

fn direct(settings: DirectSettings, network: NetworkSettings, with: Vec<Credential>) -> Direct {
    Direct::new(settings, Egress::new(network, Credentials::new(with)))
}

/// All that can be asked works.
async fn works(direct: &Direct, module: &str) {
    assert_eq!(list(direct, module).await.unwrap(), ["v1.0.0"]);
    let main = info(direct, module, "main").await.unwrap();
    assert!(main.version.as_str().starts_with("v1.0.1-0."));
    let text = go_mod(direct, module, "v1.0.0").await.unwrap();
    assert_eq!(text, b"module x.test\n");
    zip(direct, module, "v1.0.0").await.unwrap();
}

fn shown(error: &DirectError) -> String {
    format!("{error:?} {} {:?}", error.text, error.hint)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn basic_login_over_https() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    lab.forge.guard("127.0.0.1/private.git", CI);
    let host = lab.forge.https().replace("https://", "");

    let nobody = direct(mapped(&lab, &lab.forge.https()), inside(&lab), vec![]);
    let error = list(&nobody, "corp.test/private").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error:?}");
    assert!(shown(&error).contains("127.0.0.1"), "{error:?}");

    let wrong = basic(&host, "ci", "not-the-s3cret");
    let wrong = direct(mapped(&lab, &lab.forge.https()), inside(&lab), vec![wrong]);
    let error = list(&wrong, "corp.test/private").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error:?}");
    let text = shown(&error);
    assert!(text.contains("ci") && text.contains(&host), "{text}");
    assert!(!text.contains("not-the-s3cret"), "{text}");

    let right = basic(&host, CI.user, CI.secret);
    let right = direct(mapped(&lab, &lab.forge.https()), inside(&lab), vec![right]);
    works(&right, "corp.test/private").await;
    let origin = info(&right, "corp.test/private", "v1.0.0").await.unwrap();
    let json = String::from_utf8(origin.info_json().to_vec()).unwrap();
    assert!(!json.contains(CI.secret), "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_asked_with_the_login_at_once() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let url = "https://git.golden.test/private.git";
    lab.forge
        .import("golden.test/private", &format!("git {url}"));
    lab.forge.guard("golden.test/private", CI);
    lab.forge.guard("git.golden.test/private.git", CI);
    let with = vec![
        basic("golden.test", CI.user, CI.secret),
        basic("git.golden.test/private", CI.user, CI.secret),
    ];
    let right = direct(lab.settings(), lab.network(), with);
    works(&right, "golden.test/private").await;
    let page = "GET https://golden.test/private?go-get=1 by ";
    let pages: Vec<String> = lab
        .forge
        .requests()
        .into_iter()
        .filter(|line| line.starts_with(page))
        .collect();
    assert_eq!(pages, [format!("{page}ci:{}", CI.secret)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_another_host_gets_no_login() {
    let lab = Lab::start().await;
    lab.forge.add("moved", &small());
    lab.forge.guard("127.0.0.1/moved.git", CI);
    let port = lab.forge.https().rsplit(':').next().unwrap().to_owned();
    let elsewhere = format!("https://localhost:{port}/moved.git");
    lab.forge
        .fault("127.0.0.1/moved.git", Some(Fault::Redirect(elsewhere)));
    let with = basic(&format!("127.0.0.1:{port}"), CI.user, CI.secret);
    let direct = direct(mapped(&lab, &lab.forge.https()), inside(&lab), vec![with]);
    works(&direct, "corp.test/moved").await;
    let requests = lab.forge.requests();
    let there: Vec<_> = requests
        .iter()
        .filter(|line| line.contains("//localhost/"))
        .collect();
    assert!(!there.is_empty());
    for line in there {
        assert!(line.ends_with(" by nobody"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_on_no_command_line() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    lab.forge.guard("127.0.0.1/private.git", CI);
    lab.forge
        .fault("127.0.0.1/private.git", Some(Fault::StallPack));
    let host = lab.forge.https().replace("https://", "");
    let with = vec![basic(&host, CI.user, CI.secret)];
    let direct = Arc::new(direct(mapped(&lab, &lab.forge.https()), inside(&lab), with));
    let asking = tokio::spawn({
        let direct = Arc::clone(&direct);
        async move { zip(&direct, "corp.test/private", "v1.0.0").await }
    });
    // The second is for the objects, and hangs: git is there to be looked at.
    lab.forge
        .asked("POST https://127.0.0.1/private.git/git-upload-pack? by ci:")
        .await;
    let mut lines = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = fs::read(process.path().join("cmdline")) {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            lines += usize::from(line.contains("git"));
            assert!(!line.contains(CI.secret), "{line}");
        }
    }
    assert!(lines > 0);
    asking.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_with_a_key() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let settings = || mapped(&lab, &lab.forge.ssh());
    let right = direct(settings(), inside(&lab), vec![lab.ssh_credential()]);
    works(&right, "corp.test/private").await;

    let ssh = |key: SshKey| Credential {
        kind: Kind::Ssh(key),
        ..lab.ssh_credential()
    };
    let stranger = ssh(SshKey {
        key: lab.forge.ssh_stranger().to_owned(),
        known_hosts: Some(lab.forge.known_hosts().to_owned()),
        username: None,
    });
    let mut fresh = settings();
    fresh.folder = lab.folder.path().join("stranger");
    let error = list(
        &direct(fresh, inside(&lab), vec![stranger]),
        "corp.test/private",
    )
    .await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error:?}");

    // A server that is not the one that is known.
    let other = lab.folder.path().join("known_hosts");
    let known = fs::read_to_string(lab.forge.known_hosts()).unwrap();
    let address = known.split(' ').next().unwrap();
    let key = fs::read_to_string(lab.forge.ssh_stranger().with_extension("pub")).unwrap();
    fs::write(&other, format!("{address} {key}")).unwrap();
    let imposter = ssh(SshKey {
        key: lab.forge.ssh_key().to_owned(),
        known_hosts: Some(other),
        username: None,
    });
    let mut fresh = settings();
    fresh.folder = lab.folder.path().join("imposter");
    let error = list(
        &direct(fresh, inside(&lab), vec![imposter]),
        "corp.test/private",
    )
    .await;
    let error = error.unwrap_err();
    assert_ne!(error.kind, ErrorKind::NotFound, "{error:?}");
    assert!(error.text.to_lowercase().contains("key"), "{error:?}");

    // A repository that is not there is not a matter of rights.
    let error = list(&right, "corp.test/absent").await.unwrap_err();
    println!("absent over ssh: {error:?}");
    assert!(!error.text.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority_must_be_known() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let known = direct(mapped(&lab, &lab.forge.https()), inside(&lab), vec![]);
    works(&known, "corp.test/private").await;

    let unknown = NetworkSettings {
        ca_pem: None,
        ca_only: false,
        ..inside(&lab)
    };
    let mut settings = mapped(&lab, &lab.forge.https());
    settings.folder = lab.folder.path().join("unknown");
    let error = list(&direct(settings, unknown, vec![]), "corp.test/private").await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    assert!(error.text.contains("certificate"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_with_a_password() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let url = "git https://git.golden.test/private.git";
    lab.forge.import("golden.test/private", url);
    let through = |proxy: String| NetworkSettings {
        proxy: Some(proxy),
        ..lab.network()
    };
    let refused = direct(lab.settings(), through(lab.forge.guarded_proxy()), vec![]);
    let error = list(&refused, "golden.test/private").await.unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Unauthorized),
        "{error:?}"
    );
    assert!(shown(&error).contains("proxy"), "{error:?}");

    let login = forge::Forge::PROXY_LOGIN;
    let proxy = lab.forge.guarded_proxy();
    let proxy = proxy.replace("//", &format!("//{}:{}@", login.user, login.secret));
    let right = direct(lab.settings(), through(proxy), vec![]);
    works(&right, "golden.test/private").await;
    let requests = lab.forge.requests();
    let connects = |host: &str| {
        let line = format!(
            "proxy CONNECT {host}:443 by {}:{}",
            login.user, login.secret
        );
        requests.contains(&line)
    };
    assert!(
        connects("golden.test") && connects("git.golden.test"),
        "{requests:?}"
    );
}
