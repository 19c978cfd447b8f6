//! Repositories and pages that attack: zip bombs, names that lead elsewhere, pages that cost much or lead inside.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use common::{Lab, MODULE, URL, add, info, list, small, zip};
use egress::{Credentials, Egress, NetworkSettings};
use forge::truth::{Go, Questions, h1};
use forge::{Fault, Pages, change};
use vcs::{Direct, ErrorKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zip_bomb() {
    let lab = Lab::start().await;
    let mut history = small();
    history.commit("main", "bomb", [change::file("zeros", vec![0; 64 << 20])]);
    history.tag("v1.2.0", "bomb");
    history.commit(
        "main",
        "many",
        (0..80)
            .map(|at| change::file(format!("z{at}"), vec![at; 1 << 20]))
            .chain([change::gone("zeros")]),
    );
    history.tag("v1.3.0", "many");
    add(&lab, &history);
    let mut settings = lab.settings();
    settings.max_zip_bytes = 8 << 20;
    let egress = Egress::new(lab.network(), Credentials::default());
    let direct = Direct::new(settings, egress);
    for version in ["v1.2.0", "v1.3.0"] {
        let error = zip(&direct, MODULE, version).await.unwrap_err();
        // By a limit of ours: Go would take as much.
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error:?}");
    }
    zip(&direct, MODULE, "v1.1.0").await.unwrap();
}

/// Trees that git itself would not write. What the real `go` makes of them decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malicious_names() {
    let lab = Lab::start().await;
    let built = add(&lab, &small());
    let names: [&[u8]; 18] = [
        b"..",
        b".",
        b".git",
        b"../../evil",
        b"/etc/evil",
        b"a/b",
        b".git/config",
        b"two\nlines",
        b"--option",
        b"-",
        b":(glob)x",
        b"a\\..\\b",
        b".GIT",
        b"git~1",
        b".git.",
        b".gitmodules",
        b".gitattributes",
        b".g\xe2\x80\x8cit",
    ];
    let git = |args: &[&str], input: &[u8]| {
        use std::io::Write as _;
        let mut child = std::process::Command::new("git")
            .args(args)
            .env("GIT_DIR", &built.folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "x")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "x")))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let raw = |hash: &str| {
        let byte = |at| u8::from_str_radix(&hash[at..at + 2], 16).unwrap();
        (0..40).step_by(2).map(byte).collect::<Vec<u8>>()
    };
    let go_mod = git(&["hash-object", "-w", "--stdin"], b"module x.test\n");
    let blob = git(&["hash-object", "-w", "--stdin"], b"evil\n");
    let mut queries = Vec::new();
    for (at, name) in names.iter().enumerate() {
        for (kind, mode) in ["100644", "120000", "40000"].iter().enumerate() {
            let inner = if *mode == "40000" {
                let entry = [b"100644 x\0".as_slice(), &raw(&blob)].concat();
                git(
                    &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"],
                    &entry,
                )
            } else {
                blob.clone()
            };
            let mut entries = [
                (name.to_vec(), *mode, inner),
                (b"go.mod".to_vec(), "100644", go_mod.clone()),
            ];
            entries.sort();
            let mut tree = Vec::new();
            for (name, mode, hash) in &entries {
                tree.extend([mode.as_bytes(), b" ", name, b"\0"].concat());
                tree.extend(raw(hash));
            }
            let tree = git(
                &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"],
                &tree,
            );
            let commit = git(&["commit-tree", "-m", "x", &tree], b"");
            let tag = format!("v1.{}.{at}", kind + 5);
            git(&["update-ref", &format!("refs/tags/{tag}"), &commit], b"");
            queries.push(tag);
        }
    }
    let questions = Questions {
        modules: vec![(MODULE.to_owned(), queries.clone())],
        ..Questions::default()
    };
    let truth = Go::new(&lab.forge).ask(&questions).await;
    let direct = lab.direct();
    let mut text = String::new();
    for query in queries {
        let key = (MODULE.to_owned(), query.clone());
        let theirs = truth
            .artifacts
            .get(&key)
            .and_then(|artifact| artifact.sum.clone());
        let ours = zip(&direct, MODULE, &query).await;
        let ours_sum = ours.as_ref().ok().map(|bytes| h1(bytes.clone()));
        if theirs != ours_sum {
            let at: usize = query.rsplit('.').next().unwrap().parse().unwrap();
            let why = ours.err().map(|error| error.text);
            let name = String::from_utf8_lossy(names[at]);
            let go = truth.artifacts.get(&key).map(|artifact| &artifact.error);
            let _ = writeln!(
                text,
                "{name:?} ({query}): go {theirs:?} {go:?}, modgate {ours_sum:?} {why:?}"
            );
        }
    }
    assert!(text.is_empty(), "{text}");
    // Nothing was written beside the mirrors.
    let beside: Vec<_> = fs::read_dir(lab.folder.path()).unwrap().flatten().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_page() {
    let lab = Lab::start().await;
    add(&lab, &small());
    let network = NetworkSettings {
        internal_hosts: vec![],
        ..lab.network()
    };
    let direct = Direct::new(lab.settings(), Egress::new(network, Credentials::default()));
    let page = |name: &str, body: String| {
        let path = format!("evil.golden.test/{name}");
        lab.forge.page(
            &path,
            Pages {
                body,
                status: 200,
                below: true,
            },
        );
        path
    };
    let tag = |name: &str, rest: &str| {
        format!("<meta name=\"go-import\" content=\"evil.golden.test/{name} {rest}\">")
    };
    // Addresses that are nobody's business, also through a proxy.
    let https = lab.forge.https();
    for (name, url) in [
        ("loopback", format!("{https}/small.git")),
        ("v6", "https://[::1]/small.git".to_owned()),
        ("mapped", "https://[::ffff:127.0.0.1]/small.git".to_owned()),
        ("metadata", "https://169.254.169.254/latest".to_owned()),
        ("number", "https://2130706433/small.git".to_owned()),
        ("hexnumber", "https://0x7f000001/small.git".to_owned()),
        ("short", "https://127.1/small.git".to_owned()),
        ("private", "https://10.0.0.1/small.git".to_owned()),
        ("file", "file:///etc/passwd".to_owned()),
        ("ext", "ext::sh -c touch% /tmp/evil".to_owned()),
        ("option", "--upload-pack=touch /tmp/evil".to_owned()),
        ("sshoption", "ssh://-oProxyCommand=touch/x".to_owned()),
        (
            "sshuser",
            "ssh://-oProxyCommand=touch@git.golden.test/x".to_owned(),
        ),
        ("sshloopback", format!("{}/small.git", lab.forge.ssh())),
        ("plain", "http://git.golden.test/small.git".to_owned()),
        ("git", "git://git.golden.test/small.git".to_owned()),
        ("fd", "fd::17".to_owned()),
        ("newline", "https://git.golden.test/a%0ab.git".to_owned()),
    ] {
        let path = page(name, tag(name, &format!("git {url}")));
        let error = info(&direct, &path, "v1.0.0").await.unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::Refused | ErrorKind::NotFound),
            "{name}: {error:?}"
        );
    }
    let requests = lab.forge.requests();
    assert!(
        !requests.iter().any(|line| line.contains("//127.0.0.1")),
        "{requests:?}"
    );
    // Bodies that cost much to read.
    for (name, body) in [
        ("long", "x".repeat(20 << 20)),
        ("deep", "<a>".repeat(100_000)),
        ("attributes", format!("<meta {}>", "a=b ".repeat(100_000))),
        ("entities", "&amp;".repeat(100_000)),
        (
            "tags",
            tag("tags", "git https://git.golden.test/small.git").repeat(10_000),
        ),
        ("open", "<!--".repeat(50_000)),
        ("quote", format!("<meta name=\"{}", "x".repeat(1 << 20))),
    ] {
        let path = page(name, body);
        let start = Instant::now();
        let error = info(&direct, &path, "v1.0.0").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{name}: {error:?}");
        let cut = error.text.contains("the first 64 KiB of the page");
        assert_eq!(cut, name != "tags", "{name}: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
    }
    // A page that leads to this machine, and a repository that does.
    for (name, to) in [
        ("redirect", https.clone()),
        ("metaredirect", "http://169.254.169.254".to_owned()),
    ] {
        let path = page(name, String::new());
        lab.forge
            .fault(&path, Some(Fault::Redirect(format!("{to}/x"))));
        let error = info(&direct, &path, "v1.0.0").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{name}: {error:?}");
    }
    lab.forge
        .fault(URL, Some(Fault::Redirect(format!("{https}/small.git"))));
    let error = info(&direct, MODULE, "v1.0.0").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error:?}");
    // A page that never comes.
    let path = page("stall", String::new());
    lab.forge.fault(&path, Some(Fault::Stall));
    let asking = tokio::time::timeout(Duration::from_mins(1), info(&direct, &path, "v1.0.0"));
    let error = asking.await.expect("it ends by itself").unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::Timeout | ErrorKind::Unavailable),
        "{error:?}"
    );
}

/// Without a proxy modgate resolves the names itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_is_not_asked() {
    let lab = Lab::start().await;
    lab.forge.add("small", &small());
    let egress = Egress::new(lab.without_proxy(), Credentials::default());
    let direct = Direct::new(lab.settings(), egress);
    for module in [
        "127.0.0.1/small",
        "169.254.169.254/latest/meta-data",
        "127.0.0.1/small.git",
    ] {
        let error = list(&direct, module).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{module}: {error:?}");
    }
}
