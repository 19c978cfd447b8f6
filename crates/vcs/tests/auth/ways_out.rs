//! Proxies on the way, and the authorities that are trusted.

use super::*;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socks_proxy_resolves_the_names_that_git_asks_for() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let url = "git https://git.golden.test/private.git";
    lab.forge.import("golden.test/private", url);
    let login = forge::Forge::PROXY_LOGIN;
    // With either name of the scheme: nobody here would check what the name is here.
    for scheme in ["socks5", "socks5h"] {
        let by = |secret: &str| NetworkSettings {
            proxy: Some(format!(
                "{scheme}://{}:{secret}@{}",
                login.user,
                lab.forge.socks()
            )),
            ..lab.network()
        };
        let mut settings = lab.settings();
        settings.folder = lab.folder.path().join(scheme);
        let right = direct(settings.clone(), by(login.secret), vec![]);
        works(&right, "golden.test/private").await;
        settings.folder = lab.folder.path().join(format!("{scheme}-wrong"));
        let wrong = direct(settings, by("guess"), vec![]);
        let error = list(&wrong, "golden.test/private").await.unwrap_err();
        assert_ne!(error.kind, ErrorKind::NotFound, "{error:?}");
        assert!(!shown(&error).contains("guess"), "{error:?}");
    }
    let requests = lab.forge.requests();
    let connections: Vec<&String> = requests
        .iter()
        .filter(|line| line.starts_with("socks ") && !line.contains("refused"))
        .collect();
    for host in ["golden.test", "git.golden.test"] {
        let line = format!("socks {host}:443 by {}:{}", login.user, login.secret);
        assert!(connections.contains(&&line), "{connections:?}");
    }
    // Never an address: that would have been resolved here.
    assert!(
        connections.iter().all(|line| line.contains("golden.test:")),
        "{connections:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_goes_by_the_proxy_of_its_scheme_or_by_none() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    // https has a proxy that is not there, http none, and so the other way round.
    let dead = Some("http://127.0.0.1:9".to_owned());
    let proxies =
        |http: &Option<String>, https: &Option<String>, no_proxy: &[&str]| NetworkSettings {
            proxy_http: http.clone(),
            proxy_https: https.clone(),
            no_proxy: no_proxy.iter().map(|host| (*host).to_owned()).collect(),
            ..inside(&lab)
        };
    let (plain, secure) = (lab.forge.http(), lab.forge.https());
    for (base, network, reached) in [
        (&plain, proxies(&None, &dead, &[]), true),
        (&secure, proxies(&None, &dead, &[]), false),
        (&plain, proxies(&dead, &None, &[]), false),
        (&secure, proxies(&dead, &None, &[]), true),
        (&secure, proxies(&None, &dead, &["127.0.0.1"]), true),
        (&secure, proxies(&None, &dead, &["127.0.0.0/8"]), true),
        (&secure, proxies(&None, &dead, &["other.test"]), false),
    ] {
        let mut settings = mapped(&lab, base);
        settings.insecure = gomod::pattern::Patterns::parse("corp.test").unwrap();
        settings.folder = tempfile::tempdir_in(lab.folder.path()).unwrap().keep();
        let shown = format!("{network:?}");
        let got = list(&direct(settings, network, vec![]), "corp.test/private").await;
        match got {
            Ok(got) if reached => assert_eq!(got, ["v1.0.0"]),
            Err(error) if !reached => {
                assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
            }
            got => panic!("{base} {shown}: {got:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_is_trusted_beside_those_of_the_system() {
    let lab = Lab::start().await;
    lab.forge.add("private", &small());
    let beside = NetworkSettings {
        ca_only: false,
        ..inside(&lab)
    };
    let settings = mapped(&lab, &lab.forge.https());
    works(&direct(settings, beside, vec![]), "corp.test/private").await;
    let files = fs::read_dir(lab.mirrors()).unwrap().flatten();
    let pem = files
        .filter(|file| {
            file.file_name()
                .to_string_lossy()
                .starts_with("certificates-")
        })
        .map(|file| fs::read_to_string(file.path()).unwrap());
    for pem in pem {
        assert!(pem.contains(lab.forge.ca_pem().trim()));
    }
}
