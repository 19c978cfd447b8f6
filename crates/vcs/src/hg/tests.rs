//! The real program on repositories of its own.

// Clippy does not see that helpers outside `#[test]` are tests.
#![allow(clippy::unwrap_used)]

use egress::Hidden;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::DirectSettings;

/// Runs hg in a folder.
fn hg(folder: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("hg")
        .current_dir(folder)
        .env("HGPLAIN", "1")
        .env("HGRCPATH", "/dev/null")
        .env("HGUSER", "t <t@t.example>")
        .args(arguments)
        .output()
        .expect("hg is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The repository at the end of a way, with its clone in `folder`.
fn repository(folder: &Path, way: Way) -> HgRepository {
    let settings = DirectSettings::new(folder.to_owned());
    let mirror = Arc::new(Mirror::new(folder, "clone.hg", Arc::default()));
    HgRepository::new(Whole::new(mirror, way, &settings, Duration::ZERO)).unwrap()
}

fn way(url: &str) -> Way {
    Way {
        url: url.to_owned(),
        ..Way::default()
    }
}

#[tokio::test]
async fn a_repository_of_the_real_program() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    std::fs::create_dir(&origin).unwrap();
    hg(&origin, &["init"]);
    std::fs::write(origin.join("go.mod"), "module h.example/m\n").unwrap();
    std::fs::create_dir(origin.join("sub")).unwrap();
    std::fs::write(origin.join("sub/a.go"), "package sub\n").unwrap();
    std::os::unix::fs::symlink("go.mod", origin.join("link")).unwrap();
    hg(
        &origin,
        &["commit", "-A", "-m", "one", "-d", "1700000000 0"],
    );
    hg(&origin, &["tag", "v1.0.0", "-d", "1700000100 0"]);
    std::fs::write(origin.join("go.mod"), "module h.example/m // two\n").unwrap();
    hg(&origin, &["commit", "-m", "two", "-d", "1700000200 0"]);

    let url = origin.to_str().unwrap();
    let mut first = repository(&dir.path().join("mirror"), way(url));
    let tags = first.tags("v").await.unwrap();
    assert_eq!(
        tags.iter().map(|tag| tag.name.as_str()).collect::<Vec<_>>(),
        ["v1.0.0"]
    );
    assert_eq!(first.tags("sub/").await.unwrap(), []);
    let tagged = first.stat("v1.0.0").await.unwrap();
    assert_eq!(tagged.time.unix_timestamp(), 1_700_000_000);
    assert_eq!(tagged.tag.as_deref(), Some("v1.0.0"));
    assert_eq!(tagged.hash, tags[0].hash);
    assert_eq!(tagged.short, tagged.hash[..12]);
    let tip = first.latest().await.unwrap();
    assert_eq!(
        (tip.time.unix_timestamp(), tip.tag.clone()),
        (1_700_000_200, None)
    );
    assert_eq!(first.stat("default").await.unwrap().hash, tip.hash);
    assert_eq!(first.stat(&tip.short).await.unwrap().hash, tip.hash);
    assert_eq!(first.merged_tags(&tip, "v").await.unwrap(), ["v1.0.0"]);
    assert!(first.descends_from(&tip, &tags[0]).await.unwrap());
    let newest = Tag {
        name: "x".to_owned(),
        hash: tip.hash.clone(),
    };
    assert!(!first.descends_from(&tagged, &newest).await.unwrap());
    for unknown in ["v9.9.9", "all()", "--config=x", "a b", "\"", "", "0:tip"] {
        let error = first.stat(unknown).await.unwrap_err();
        assert!(
            matches!(error, Trouble::Other(ref e) if e.kind == ErrorKind::NotFound),
            "{unknown}: {error:?}"
        );
    }

    let go_mod = first.read(&tagged.hash, "go.mod", 100).await.unwrap();
    assert_eq!(go_mod.as_deref(), Some(&b"module h.example/m\n"[..]));
    for missing in ["none", "glob:*", "set:all()", "../origin/go.mod"] {
        let got = first.read(&tagged.hash, missing, 100).await;
        assert!(!matches!(got, Ok(Some(_))), "{missing}");
    }
    assert!(first.read(&tagged.hash, "go.mod", 3).await.is_err());
    let list = first.list(&tagged.hash, "").await.unwrap();
    let shown: Vec<(String, u64, bool)> = list
        .iter()
        .map(|file| {
            (
                String::from_utf8(file.name.clone()).unwrap(),
                file.size,
                file.link,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("go.mod".to_owned(), 19, false),
            ("link".to_owned(), 6, true),
            ("sub/a.go".to_owned(), 12, false)
        ]
    );
    assert_eq!(first.list(&tagged.hash, "sub").await.unwrap().len(), 1);
    assert_eq!(first.list(&tagged.hash, "none").await.unwrap(), []);
    let mut running = first.archive(&tagged.hash, "sub").await.unwrap();
    let mut tar = Vec::new();
    running
        .take_stdout()
        .unwrap()
        .read_to_end(&mut tar)
        .await
        .unwrap();
    assert!(running.finish().await.unwrap().success());
    let names: Vec<&[u8]> = tar
        .chunks(512)
        .map(|block| block.split(|byte| *byte == 0).next().unwrap())
        .collect();
    assert!(names.contains(&&b"p/sub/a.go"[..]), "{:?}", names[0]);
    assert!(!names.contains(&&b"p/go.mod"[..]));

    // What is new comes with the next question, what is known whole needs none.
    std::fs::write(origin.join("new"), "").unwrap();
    hg(
        &origin,
        &["commit", "-A", "-m", "three", "-d", "1700000300 0"],
    );
    let mut again = repository(&dir.path().join("mirror"), way(url));
    assert_eq!(again.stat(&tagged.hash).await.unwrap().hash, tagged.hash);
    assert!(!again.whole.is_new());
    assert_eq!(
        again.latest().await.unwrap().time.unix_timestamp(),
        1_700_000_300
    );
}

#[tokio::test]
async fn tags_that_are_lost_are_no_lack_of_tags() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    std::fs::create_dir(&origin).unwrap();
    hg(&origin, &["init"]);
    std::fs::write(origin.join("go.mod"), "module h.example/m\n").unwrap();
    hg(&origin, &["commit", "-A", "-m", "one"]);
    let folder = dir.path().join("mirror");
    let url = origin.to_str().unwrap();
    let mut untagged = repository(&folder, way(url));
    assert_eq!(untagged.tags("").await.unwrap(), []);
    hg(&origin, &["tag", "v1.0.0"]);
    let mut tagged = repository(&folder, way(url));
    let tip = tagged.latest().await.unwrap();
    assert_eq!(tagged.merged_tags(&tip, "v").await.unwrap(), ["v1.0.0"]);
    let clone = folder.join("clone.hg/.hg");
    std::fs::remove_file(clone.join("store/data/~2ehgtags.i")).unwrap();
    let _ = std::fs::remove_dir_all(clone.join("cache"));
    let mut damaged = repository(&folder, way(url));
    for trouble in [
        damaged.merged_tags(&tip, "v").await.unwrap_err(),
        damaged.tags("").await.unwrap_err(),
        damaged.stat("v1.0.0").await.unwrap_err(),
    ] {
        assert!(matches!(trouble, Trouble::Mirror(_)), "{trouble:?}");
    }
}

#[tokio::test]
async fn failures() {
    let dir = tempfile::tempdir().unwrap();
    let mut nobody = repository(dir.path(), way("http://127.0.0.1:1/x"));
    let Trouble::Other(error) = nobody.latest().await.unwrap_err() else {
        panic!("the mirror is fine");
    };
    assert_eq!(error.kind, ErrorKind::Unavailable, "{}", error.text);
}

#[test]
fn settings_hold_no_more_than_they_should() {
    let mut way = way("https://h.example/x");
    way.login = Some(("ci".to_owned(), Hidden::new("s3cret")));
    way.config
        .push(("http.proxy".to_owned(), "http://u:p@proxy:3128".to_owned()));
    way.env
        .push(("GIT_SSH_COMMAND".to_owned(), "ssh -o 'A=b'".to_owned()));
    let text = settings(&way);
    for line in [
        "own.prefix = https://h.example/x",
        "own.password = s3cret",
        "host = proxy:3128",
        "passwd = p",
        "ssh = ssh -o 'A=b'",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\n{text}");
    }
    way.login = Some(("ci\n[hooks]".to_owned(), Hidden::new("x")));
    assert!(!settings(&way).contains("hooks"));
}

/// hg takes its settings, logs in through a proxy, and comes to no address that was not checked.
#[tokio::test]
async fn over_http_by_the_relay() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    std::fs::create_dir(&origin).unwrap();
    hg(&origin, &["init"]);
    std::fs::write(origin.join("go.mod"), "module h.example/m\n").unwrap();
    hg(
        &origin,
        &["commit", "-A", "-m", "one", "-d", "1700000000 0"],
    );
    // What the server says a clone could begin with: a file of this machine, with commits that it does not have.
    let secret = dir.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    hg(&secret, &["init"]);
    std::fs::write(secret.join("key"), "TOPSECRET\n").unwrap();
    hg(
        &secret,
        &["commit", "-A", "-m", "one", "-d", "1700000000 0"],
    );
    hg(&secret, &["bundle", "--all", "-t", "gzip-v2", "all.hg"]);
    let own = hg(&secret, &["log", "--template", "{node}"]);
    let bundle = format!(
        "file://{} BUNDLESPEC=gzip-v2\n",
        secret.join("all.hg").display()
    );
    std::fs::write(origin.join(".hg/clonebundles.manifest"), bundle).unwrap();
    let mut server = tokio::process::Command::new("hg")
        .current_dir(&origin)
        .env("HGPLAIN", "1")
        .env("HGRCPATH", "/dev/null")
        .args([
            "--config",
            "extensions.clonebundles=",
            "serve",
            "--address",
            "127.0.0.1",
            "--port",
            "0",
            "--print-url",
        ])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)
        .await
        .unwrap();
    let port = line
        .trim()
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();

    let lookup: egress::Lookup =
        std::sync::Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }));
    let network = egress::NetworkSettings {
        internal_hosts: vec!["hg.example".to_owned()],
        ..egress::NetworkSettings::default()
    };
    let egress = egress::Egress::with_lookup(network, egress::Credentials::default(), lookup);
    let relay = crate::relay::Relay::start(egress).await.unwrap();
    let at = |host: &str| {
        let mut way = way(&format!("http://{host}:{port}/"));
        way.config.push((
            "http.proxy".to_owned(),
            relay.url(crate::relay::Rights::new(true, true)),
        ));
        repository(&dir.path().join(host), way)
    };
    let tip = at("hg.example").latest().await.unwrap();
    assert_eq!(tip.time.unix_timestamp(), 1_700_000_000);
    let Trouble::Other(error) = at("hg.example").stat(&own).await.unwrap_err() else {
        panic!("the mirror is fine");
    };
    assert_eq!(error.kind, ErrorKind::NotFound, "{}", error.text);
    for inside in ["evil.example", "127.0.0.1"] {
        let Trouble::Other(error) = at(inside).latest().await.unwrap_err() else {
            panic!("the mirror is fine");
        };
        assert!(error.text.contains("403"), "{inside}: {}", error.text);
    }
}

/// Clones are cared for as git's mirrors are.
#[tokio::test]
async fn clones_are_kept_counted_and_made_anew() {
    let lab = crate::fixture::Lab::with(|settings| {
        settings.max_mirrors = 1;
        settings.govcs = crate::Govcs::parse("*:all").unwrap();
        for mapping in &mut settings.mappings {
            mapping.vcs = crate::discover::Kind::Hg;
        }
    });
    let origin = |name: &str| {
        let origin = lab.folder.path().join(name);
        std::fs::create_dir(&origin).unwrap();
        hg(&origin, &["init"]);
        std::fs::write(
            origin.join("go.mod"),
            format!("module test.example/{name}\n"),
        )
        .unwrap();
        hg(&origin, &["commit", "-A", "-m", "x", "-d", "1700000000 0"]);
        hg(&origin, &["tag", "v1.0.0", "-d", "1700000100 0"]);
        origin
    };
    let first = origin("m");
    // A crowd.
    let asked = (0..8).map(|_| lab.query("test.example/m", "v1.0.0"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.unwrap(), "v1.0.0");
    }
    let mirrors = lab.folder.path().join("mirrors");
    let clone = || {
        let mut found = std::fs::read_dir(&mirrors).unwrap().flatten();
        found.find(|entry| entry.path().extension().is_some_and(|end| end == "hg"))
    };
    let store = clone().unwrap().path().join(".hg/store");
    std::fs::write(store.join("00changelog.i"), b"junk").unwrap();
    let tip = lab.query("test.example/m", "default").await.unwrap();
    assert!(tip.starts_with("v1.0.1-0.20231114221500-"), "{tip}");
    std::fs::remove_dir_all(&store).unwrap();
    let names = lab.names("test.example/m", "v1.0.0").await.unwrap();
    assert_eq!(names, ["go.mod"]);
    hg(
        &first,
        &["tag", "-f", "-r", "tip", "v1.0.0", "-d", "1700000200 0"],
    );
    lab.versions("test.example/m").await;
    assert_eq!(lab.direct.incidents().moved_tags, 1);
    // There is room for one.
    origin("n");
    assert_eq!(lab.versions("test.example/n").await, ["v1.0.0"]);
    let count = std::fs::read_dir(&mirrors).unwrap().count();
    assert_eq!(
        count, 3,
        "a clone, and the files with its name and its tags"
    );
    lab.direct.tidy().await;
}
