//! The real program on a repository of its own.

// Clippy does not see that helpers outside `#[test]` are tests.
#![allow(clippy::unwrap_used)]

use super::*;

fn run(program: &str, folder: &Path, arguments: &[&str]) {
    let output = std::process::Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_repository_of_the_real_program() {
    let dir = tempfile::tempdir().unwrap();
    run("svnadmin", dir.path(), &["create", "repo"]);
    let base = format!("file://{}/repo", dir.path().display());
    run("svn", dir.path(), &["-q", "checkout", &base, "work"]);
    let work = dir.path().join("work");
    for (name, content) in [
        ("trunk/go.mod", "module h.example/m\n"),
        ("trunk/lib/a & <b>é.txt", "$Id$\n"),
        ("tags/v1.0.0/x", "x"),
        ("tags/v1.1.0", "x"),
    ] {
        std::fs::create_dir_all(work.join(name).parent().unwrap()).unwrap();
        std::fs::write(work.join(name), content).unwrap();
    }
    let utf8 = |arguments: &[&str]| {
        let mut all = vec!["LC_ALL=C.UTF-8", "svn", "-q"];
        all.extend_from_slice(arguments);
        run("env", &work, &all);
    };
    utf8(&["add", "trunk", "tags"]);
    utf8(&["propset", "svn:keywords", "Id", "trunk/lib/a & <b>é.txt"]);
    utf8(&["commit", "-m", "one"]);
    std::fs::write(work.join("trunk/go.mod"), "module h.example/m // 2\n").unwrap();
    utf8(&["commit", "-m", "two"]);
    std::os::unix::fs::symlink("go.mod", work.join("trunk/link")).unwrap();
    utf8(&["add", "trunk/link"]);
    utf8(&["commit", "-m", "three"]);

    let scratch = dir.path().join("scratch");
    let repository = |path: &str| {
        let way = Way {
            url: format!("{base}{path}"),
            ..Way::default()
        };
        SvnRepository::new(&scratch, way, Duration::from_mins(1), 1000).unwrap()
    };
    let mut trunk = repository("/trunk");
    let names = |tags: Vec<Tag>| tags.into_iter().map(|tag| tag.name).collect::<Vec<_>>();
    assert_eq!(names(trunk.tags("v").await.unwrap()), ["v1.0.0/", "v1.1.0"]);
    assert_eq!(names(repository("/none").tags("v").await.unwrap()), [""; 0]);
    let latest = trunk.latest().await.unwrap();
    assert_eq!((&*latest.hash, &*latest.short), ("3", "000000000003"));
    for (asked, want) in [
        ("1", "1"),
        ("r2", "2"),
        ("HEAD", "3"),
        ("000000000002", "2"),
    ] {
        assert_eq!(trunk.stat(asked).await.unwrap().hash, want, "{asked}");
    }
    for unknown in [
        "9",
        "v1.0.0",
        "trunk",
        "",
        "{2020-01-01}",
        "--x",
        "99999999999999999999",
    ] {
        let error = trunk.stat(unknown).await.unwrap_err();
        assert!(
            matches!(error, Trouble::Other(ref e) if e.kind == ErrorKind::NotFound),
            "{unknown}: {error:?}"
        );
    }
    let go_mod = trunk.read("1", "go.mod", 100).await.unwrap();
    assert_eq!(go_mod.as_deref(), Some(&b"module h.example/m\n"[..]));
    for missing in ["none", "lib", "none/go.mod"] {
        assert_eq!(trunk.read("1", missing, 100).await.unwrap(), None);
    }
    // Where there is nothing at all, nothing is said of a file.
    let nowhere = repository("/none").read("1", "go.mod", 100).await;
    assert!(nowhere.is_err(), "{nowhere:?}");
    let files = repository("/trunk").files("2", "").await.unwrap();
    let shown: Vec<_> = files
        .entries
        .iter()
        .map(|entry| (String::from_utf8(entry.name.clone()).unwrap(), entry.size))
        .collect();
    assert_eq!(
        shown,
        [
            ("go.mod".to_owned(), 24),
            ("lib/a & <b>é.txt".to_owned(), 5)
        ]
    );
    let Content::Exported(mut exported) = files.content else {
        panic!("not exported");
    };
    assert_eq!(
        exported.next("lib/a & <b>é.txt".as_bytes()).await.unwrap(),
        5
    );
    let mut block = [0; 100];
    let read = exported.block(&mut block).await.unwrap();
    assert_eq!(&block[..read], b"$Id$\n");
    assert_eq!(exported.block(&mut block).await.unwrap(), 0);
    drop(exported);
    // A link is refused, as the go command does.
    let error = repository("/trunk").files("3", "").await.unwrap_err();
    assert!(
        matches!(error, Trouble::Other(ref e) if e.kind == ErrorKind::Invalid),
        "{error:?}"
    );
    drop(trunk);
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}

#[tokio::test]
async fn an_outage_is_not_absence() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way {
        // Nobody listens at port 1.
        url: "svn://127.0.0.1:1/x".to_owned(),
        ..Way::default()
    };
    let mut repository = SvnRepository::new(dir.path(), way, Duration::from_mins(1), 1000).unwrap();
    for error in [
        repository.tags("v").await.map(drop).unwrap_err(),
        repository.latest().await.map(drop).unwrap_err(),
        repository
            .read("1", "go.mod", 10)
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(
            matches!(error, Trouble::Other(ref e) if e.kind == ErrorKind::Unavailable),
            "{error:?}"
        );
    }
}

#[test]
fn settings_of_servers() {
    let mut way = Way::default();
    way.config
        .push(("http.proxy".to_owned(), "http://u:p@h:8080".to_owned()));
    let authorities = ["/a".to_owned(), "/b".to_owned()];
    let text = servers(&way, &authorities).unwrap();
    assert!(text.contains("ssl-authority-files = /a;/b\n"), "{text}");
    let text = servers(&way, &["/x\n[y]".to_owned()]).unwrap();
    assert!(
        text.contains("http-proxy-host = h\nhttp-proxy-port = 8080\n"),
        "{text}"
    );
    assert!(!text.contains("[y]"), "{text}");
    way.config[0].1 = "socks5://h:1".to_owned();
    assert_eq!(servers(&way, &[]).unwrap_err().kind, ErrorKind::Refused);
}
