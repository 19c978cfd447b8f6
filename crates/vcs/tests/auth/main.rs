//! Who modgate is to repositories and proxies: logins, keys and certificates, that go where they belong and nowhere else.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

#[path = "../common/mod.rs"]
mod common;
mod fossil;
mod ways_out;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Lab, basic, go_mod, info, list, zip};
use egress::credential::{ClientCertificate, SshKey};
use egress::{Credential, Credentials, Egress, Hidden, Kind, NetworkSettings, Secret};
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

fn direct(
    settings: DirectSettings,
    network: NetworkSettings,
    with: Vec<Credential>,
) -> Arc<Direct> {
    Direct::new(settings, Egress::new(network, Credentials::new(with)))
}

/// All that can be asked works.
async fn works(direct: &Arc<Direct>, module: &str) {
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
    assert!(shown(&error).contains("none matches it"), "{error:?}");

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
async fn what_moved_gets_the_login_of_its_new_host() {
    let lab = Lab::start().await;
    lab.forge.add("old", &small());
    lab.forge.add("new", &small());
    let there = Login {
        user: "there",
        secret: "s3cret-of-there",
    };
    let port = lab.forge.https().rsplit(':').next().unwrap().to_owned();
    lab.forge.guard("127.0.0.1/old.git", CI);
    lab.forge.guard("localhost/new.git", there);
    let elsewhere = Fault::Redirect(format!("https://localhost:{port}/new.git"));
    lab.forge.fault("127.0.0.1/old.git", Some(elsewhere));
    let with = vec![
        basic(&format!("127.0.0.1:{port}"), CI.user, CI.secret),
        basic(&format!("localhost:{port}"), there.user, there.secret),
    ];
    let mut public = mapped(&lab, &lab.forge.https());
    public.private = gomod::pattern::Patterns::default();
    let told = direct(public, inside(&lab), with);
    works(&told, "corp.test/old").await;
    let mut came = 0;
    for line in lab.forge.requests() {
        if line.contains("//localhost/") {
            came += usize::from(line.contains(there.secret));
            assert!(!line.contains(CI.secret), "{line}");
        } else {
            assert!(!line.contains(there.secret), "{line}");
        }
    }
    assert!(came > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_on_no_command_line() {
    let lab = Lab::start().await;
    let mut history = small();
    history.commit("main", "two", [change::file("a.go", "package a\n")]);
    history.tag("v1.1.0", "two");
    lab.forge.add("private", &history);
    lab.forge.guard("127.0.0.1/private.git", CI);
    let host = lab.forge.https().replace("https://", "");
    let with = vec![basic(&host, CI.user, CI.secret)];
    let direct = direct(mapped(&lab, &lab.forge.https()), inside(&lab), with);
    // From one that speaks no newer version, git itself fetches. From then on it hangs there, to be looked at.
    let old = Some(Fault::OldProtocol);
    lab.forge.fault("127.0.0.1/private.git", old);
    zip(&direct, "corp.test/private", "v1.0.0").await.unwrap();
    lab.forge.fault("127.0.0.1/private.git", Some(Fault::Stall));
    let asking = tokio::spawn({
        let direct = Arc::clone(&direct);
        async move { zip(&direct, "corp.test/private", "v1.1.0").await }
    });
    let seen = Instant::now() + Duration::from_secs(20);
    let mut fetching = false;
    while !fetching {
        assert!(Instant::now() < seen, "no git fetches");
        for process in fs::read_dir("/proc").unwrap().flatten() {
            if let Ok(line) = fs::read(process.path().join("cmdline")) {
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                fetching |= line.contains("remote-https") && line.contains("private.git");
                assert!(!line.contains(CI.secret), "{line}");
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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

/// A credential of a kind for the forge.
fn of(host: &str, kind: Kind) -> Vec<Credential> {
    let matches = host.parse().unwrap();
    vec![Credential { matches, kind }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_with_each_kind_of_login() {
    let lab = Lab::start().await;
    let host = lab.forge.https();
    let secret = |text: &str| Secret::Plain(Hidden::new(text));
    let netrc = lab.folder.path().join("netrc");
    let name = host.replace("https://", "");
    fs::write(
        &netrc,
        format!("machine {name} login netty password s3cret-of-netty\n"),
    )
    .unwrap();
    let script = "[ \"$1\" = get ] && printf 'username=helen\\npassword=s3cret-of-helen\\n'";
    let helper = ["/bin/sh", "-c", script, "helper"].map(str::to_owned);
    let kinds = [
        (
            "bearer",
            "Bearer s3cret-token",
            Kind::Bearer(secret("s3cret-token")),
        ),
        (
            "header",
            "private-token: s3cret-header",
            Kind::Header {
                name: "Private-Token".to_owned(),
                value: secret("s3cret-header"),
            },
        ),
        ("netrc", "netty:s3cret-of-netty", Kind::Netrc(netrc)),
        (
            "helper",
            "helen:s3cret-of-helen",
            Kind::Helper(helper.to_vec()),
        ),
    ];
    for (name, wanted, kind) in kinds {
        lab.forge.add(name, &small());
        let address = format!("127.0.0.1/{name}.git");
        lab.forge.guard_by_header(&address, wanted);
        let module = format!("corp.test/{name}");
        let nobody = direct(mapped(&lab, &host), inside(&lab), vec![]);
        let error = list(&nobody, &module).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthorized, "{name} {error:?}");
        let known = direct(mapped(&lab, &host), inside(&lab), of(&host, kind));
        works(&known, &module).await;
        // It goes where it is wanted with each request, and is told nobody.
        let requests = lab.forge.requests();
        let ours = format!("{address}/git-upload-pack? by {wanted}");
        assert!(requests.iter().any(|line| line.ends_with(&ours)), "{name}");
        lab.forge.fault(&address, Some(Fault::Status(403)));
        let error = list(&known, &module).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthorized, "{name} {error:?}");
        let text = shown(&error);
        assert!(
            text.contains("the ") && text.contains("127.0.0.1"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_with_a_client_certificate() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let host = lab.forge.strict_https();
    let nobody = direct(mapped(&lab, &host), inside(&lab), vec![]);
    let error = list(&nobody, "corp.test/private").await.unwrap_err();
    assert_ne!(error.kind, ErrorKind::NotFound, "{error:?}");
    let (cert, key) = lab.forge.client_certificate();
    let kind = Kind::ClientCertificate(ClientCertificate { cert, key });
    let known = direct(mapped(&lab, &host), inside(&lab), of(&host, kind));
    works(&known, "corp.test/private").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_asked_anew_for_a_secret_that_is_refused() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let url = "https://git.golden.test/private.git";
    lab.forge
        .import("golden.test/private", &format!("git {url}"));
    let file = lab.folder.path().join("secret");
    let set = |secret: &str| {
        fs::write(&file, secret).unwrap();
        for guarded in ["golden.test/private", "git.golden.test/private.git"] {
            let login = format!("ci:{secret}");
            lab.forge.guard_by_header(guarded, &login);
        }
    };
    set("first");
    let by_command = |host: &str| {
        let command = ["/bin/cat", file.to_str().unwrap()].map(str::to_owned);
        let kind = Kind::Basic {
            username: "ci".to_owned(),
            password: Secret::Command(command.to_vec()),
        };
        of(host, kind)
    };
    let with = [by_command("golden.test"), by_command("git.golden.test")].concat();
    let mut settings = lab.settings();
    settings.discovery_life = Duration::ZERO;
    settings.discovery_negative_life = Duration::ZERO;
    let known = direct(settings, lab.network(), with);
    works(&known, "golden.test/private").await;
    // It changes at both ends. A command that was just asked is not asked again at once, however often it is refused;
    // the time until it is has no event to wait for.
    set("second");
    let error = list(&known, "golden.test/private").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized, "{error:?}");
    tokio::time::sleep(Duration::from_secs(11)).await;
    works(&known, "golden.test/private").await;
}
