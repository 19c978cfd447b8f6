//! Questions answered from repositories of the systems other than git.

use std::time::Duration;

use crate::ErrorKind;
use crate::discover::{Kind, Mapping};
use crate::fixture::Lab;

/// A lab that knows `vcs.example/NAME` as a repository of this system in the lab's folder.
fn lab(vcs: Kind, refs_life: Duration) -> Lab {
    Lab::with(|settings| {
        let mapping = settings.mappings[0].clone();
        settings.refs_life = refs_life;
        settings.govcs = crate::Govcs::parse("*:all").unwrap();
        settings.mappings.push(Mapping {
            prefix: "vcs.example".to_owned(),
            vcs,
            ..mapping
        });
    })
}

/// hg in a folder of the lab.
fn hg(lab: &Lab, args: &[&str]) {
    let output = std::process::Command::new("hg")
        .args(args)
        .current_dir(lab.folder.path().join("h"))
        .envs([("HGPLAIN", "1"), ("HGRCPATH", "/dev/null"), ("HGUSER", "t")])
        .output()
        .expect("hg is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hg {args:?}: {said}");
}

fn hg_repository(lab: &Lab) {
    let folder = lab.folder.path().join("h");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    hg(lab, &["init"]);
    for (name, text) in [
        ("go.mod", "module vcs.example/h\n"),
        ("a.go", "package h\n"),
        ("sub/b.go", "package sub\n"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    hg(lab, &["commit", "-A", "-m", "one", "-d", "1700000000 0"]);
    hg(lab, &["tag", "v1.2.0", "-d", "1700000100 0"]);
}

#[tokio::test]
async fn a_mercurial_repository() {
    let lab = lab(Kind::Hg, Duration::from_mins(1));
    hg_repository(&lab);
    assert_eq!(lab.versions("vcs.example/h").await, ["v1.2.0"]);
    for (query, want) in [("latest", "v1.2.0"), ("v1.2.0", "v1.2.0")] {
        assert_eq!(lab.query("vcs.example/h", query).await.unwrap(), want);
    }
    let tip = lab.query("vcs.example/h", "default").await.unwrap();
    assert!(tip.starts_with("v1.2.1-0.20231114221500-"), "{tip}");
    assert_eq!(
        lab.names("vcs.example/h", "v1.2.0").await.unwrap(),
        ["a.go", "go.mod", "sub/b.go"]
    );
    assert_eq!(
        lab.zip("vcs.example/h", "v1.2.0").await.unwrap(),
        lab.zip("vcs.example/h", "v1.2.0").await.unwrap()
    );
}

/// hg's own way to name a branch of work, and names that are none.
#[tokio::test]
async fn what_names_a_commit_of_mercurial() {
    let lab = lab(Kind::Hg, Duration::from_mins(1));
    hg_repository(&lab);
    hg(&lab, &["bookmark", "-r", "0", "@"]);
    hg(&lab, &["bookmark", "-r", "0", "v1.5.0"]);
    let at = lab.query("vcs.example/h", "@").await.unwrap();
    assert_eq!(at, "v1.2.0", "the tag of that commit");
    for none in [
        "v1.5.0",
        "ffffffff",
        &"f".repeat(40),
        "-@",
        "null",
        "0000000",
    ] {
        let error = lab.query("vcs.example/h", none).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{none}: {error}");
    }
}

/// hg itself takes what is before all commits for the newest one, and archives nothing of it.
#[tokio::test]
async fn a_mercurial_repository_without_commits() {
    let lab = lab(Kind::Hg, Duration::from_mins(1));
    std::fs::create_dir(lab.folder.path().join("h")).unwrap();
    hg(&lab, &["init"]);
    assert!(lab.versions("vcs.example/h").await.is_empty());
    for none in ["latest", "tip", "v0.0.0-19700101000000-000000000000"] {
        let error = lab.query("vcs.example/h", none).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{none}: {error}");
    }
}

/// As with git: what was pulled within `refs_life` answers for canonical versions, without the server.
#[tokio::test]
async fn what_was_pulled_is_believed_for_a_while() {
    let lab = lab(Kind::Hg, Duration::from_mins(10));
    hg_repository(&lab);
    assert_eq!(
        lab.query("vcs.example/h", "v1.2.0").await.unwrap(),
        "v1.2.0"
    );
    // A tag that is new is looked for, though.
    hg(&lab, &["tag", "v1.3.0", "-d", "1700000200 0"]);
    assert_eq!(
        lab.query("vcs.example/h", "v1.3.0").await.unwrap(),
        "v1.3.0"
    );
    let (here, away) = (lab.folder.path().join("h"), lab.folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    assert_eq!(
        lab.query("vcs.example/h", "v1.2.0").await.unwrap(),
        "v1.2.0"
    );
    assert!(lab.zip("vcs.example/h", "v1.3.0").await.is_ok());
    // Lists and what is not known ask the server.
    assert!(lab.query("vcs.example/h", "default").await.is_err());
    assert!(lab.query("vcs.example/h", "v1.4.0").await.is_err());
}

/// A tag of hg that moves is seen by whoever pulls it, not by lists alone.
#[tokio::test]
async fn a_moved_tag_is_seen_by_every_question() {
    let lab = lab(Kind::Hg, Duration::ZERO);
    hg_repository(&lab);
    assert_eq!(
        lab.query("vcs.example/h", "v1.2.0").await.unwrap(),
        "v1.2.0"
    );
    assert_eq!(lab.direct.incidents().moved_tags, 0);
    hg(
        &lab,
        &["tag", "-f", "-r", "1", "v1.2.0", "-d", "1700000300 0"],
    );
    assert_eq!(
        lab.query("vcs.example/h", "v1.2.0").await.unwrap(),
        "v1.2.0"
    );
    assert_eq!(lab.direct.incidents().moved_tags, 1);
}

/// Runs a program in a folder, with nothing of the machine's own configuration.
fn run(folder: &std::path::Path, program: &str, args: &[&str]) {
    let output = std::process::Command::new(program)
        .args(args)
        .current_dir(folder)
        .envs([
            ("HOME", folder),
            ("FOSSIL_HOME", folder),
            ("BRZ_HOME", folder),
        ])
        .envs([
            ("USER", "ann"),
            ("BRZ_EMAIL", "Ann <ann@test.example>"),
            ("BRZ_LOG", "/dev/null"),
        ])
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

fn files(folder: &std::path::Path) {
    std::fs::create_dir_all(folder.join("lib")).unwrap();
    for (name, text) in [
        ("go.mod", "module vcs.example/h\n"),
        ("a.go", "package h\n"),
        ("lib/with space.txt", "x\n"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("a.go", folder.join("link")).unwrap();
}

#[tokio::test]
async fn a_fossil_repository() {
    let lab = lab(Kind::Fossil, Duration::from_mins(10));
    let (top, work) = (lab.folder.path(), lab.folder.path().join("work"));
    let init = ["init", "--sha1", "--date-override", "2023-12-31", "h"];
    run(top, "fossil", &init);
    std::fs::create_dir(&work).unwrap();
    let fossil = |args: &[&str]| run(&work, "fossil", args);
    fossil(&["open", "-f", "../h"]);
    files(&work);
    fossil(&["settings", "allow-symlinks", "1"]);
    fossil(&["add", "go.mod", "a.go", "lib", "link"]);
    let commit = |message: &str, date: &str, tag: &str| {
        let flags = ["--no-warnings", "--nosign", "--allow-older", "--tag", tag];
        let what = ["commit", "-m", message, "--date-override", date];
        fossil(&[&what[..], &flags].concat());
    };
    commit("one", "2024-01-01T00:00:00", "v1.0.0");
    let path = "vcs.example/h";
    assert!(lab.versions(path).await.is_empty());
    assert_eq!(lab.query(path, "v1.0.0").await.unwrap(), "v1.0.0");
    let names = lab.names(path, "v1.0.0").await.unwrap();
    assert_eq!(names, ["a.go", "go.mod", "lib/with space.txt"]);
    let tip = lab.query(path, "latest").await.unwrap();
    assert!(tip.starts_with("v0.0.0-20240101000000-"), "{tip}");
    assert!(lab.zip(path, &tip).await.is_ok());
    // What is new is pulled when it is asked for.
    std::fs::write(work.join("a.go"), "package h // 2\n").unwrap();
    commit("two", "2024-01-01T01:00:00", "v1.1.0");
    assert_eq!(lab.query(path, "v1.1.0").await.unwrap(), "v1.1.0");
    for bad in ["nothing", "-R", "v1.2.0"] {
        let error = lab.query(path, bad).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{bad}: {error}");
    }
    // A server that is not there is an outage, though fossil says that all went well.
    std::fs::rename(top.join("h"), top.join("away")).unwrap();
    let error = lab.query(path, "trunk").await.unwrap_err();
    assert_ne!(error.kind, ErrorKind::NotFound, "{error}");
    let module = crate::fixture::module(path);
    let error = lab.direct.versions(&module).await.unwrap_err();
    assert_ne!(error.kind, ErrorKind::NotFound, "{error}");
    assert_eq!(lab.query(path, "v1.1.0").await.unwrap(), "v1.1.0");
    std::fs::rename(top.join("away"), top.join("h")).unwrap();
    // A clone that is damaged is made anew.
    let mirrors = std::fs::read_dir(top.join("mirrors")).unwrap();
    let mut found = mirrors.map(|entry| entry.unwrap().path().join("repository.fossil"));
    let clone = found.find(|clone| clone.is_file()).unwrap();
    std::fs::write(&clone, "junk").unwrap();
    assert_eq!(lab.query(path, "v1.1.0").await.unwrap(), "v1.1.0");
}

#[tokio::test]
async fn a_bazaar_branch() {
    let lab = lab(Kind::Bzr, Duration::from_mins(10));
    let work = lab.folder.path().join("h");
    std::fs::create_dir(&work).unwrap();
    let bzr = |args: &[&str]| run(&work, "bzr", args);
    bzr(&["init", "-q", "."]);
    files(&work);
    bzr(&["add", "-q"]);
    let commit = |hour: &str| {
        let date = format!("2024-01-01 {hour}:00:00 +0000");
        bzr(&["commit", "-q", "-m", "x", "--commit-time", &date]);
    };
    commit("00");
    bzr(&["tag", "-q", "v1.0.0"]);
    let path = "vcs.example/h";
    assert_eq!(lab.versions(path).await, ["v1.0.0"]);
    assert_eq!(lab.query(path, "v1.0.0").await.unwrap(), "v1.0.0");
    let names = lab.names(path, "v1.0.0").await.unwrap();
    // A link is what bzr makes of it.
    assert_eq!(names, ["a.go", "go.mod", "lib/with space.txt", "link.lnk"]);
    std::fs::write(work.join("a.go"), "package h // 2\n").unwrap();
    commit("01");
    bzr(&["tag", "-q", "v1.1.0"]);
    assert_eq!(lab.query(path, "v1.1.0").await.unwrap(), "v1.1.0");
    assert!(lab.zip(path, "v1.1.0").await.is_ok());
    for bad in ["nothing", "--help", "branch:/etc", "v1.2.0"] {
        let error = lab.query(path, bad).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{bad}: {error}");
    }
    // What was tagged in a branch before it was merged is no version here, and hides none.
    let side = lab.folder.path().join("side");
    let bzr_side = |args: &[&str]| run(&side, "bzr", args);
    bzr(&["branch", "-q", ".", "../side"]);
    std::fs::write(side.join("b.go"), "package h\n").unwrap();
    bzr_side(&["add", "-q"]);
    bzr_side(&["commit", "-q", "-m", "x"]);
    bzr_side(&["tag", "-q", "v1.6.0"]);
    std::fs::write(work.join("a.go"), "package h // 3\n").unwrap();
    commit("02");
    bzr(&["merge", "-q", "../side"]);
    commit("03");
    bzr(&["tag", "-q", "v2.0.0"]);
    assert_eq!(lab.versions(path).await, ["v1.0.0", "v1.1.0"]);
    assert_eq!(lab.query(path, "latest").await.unwrap(), "v1.1.0");
    std::fs::rename(&work, lab.folder.path().join("away")).unwrap();
    assert_eq!(lab.query(path, "v1.1.0").await.unwrap(), "v1.1.0");
    assert!(lab.query(path, "latest").await.is_err());
}

/// Where the program is not installed, the refusal names it.
#[tokio::test]
async fn a_missing_program_is_named() {
    for (vcs, name) in [("fossil", "fossil"), ("brz", "Breezy"), ("hg", "Mercurial")] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = crate::process::command(&format!("no-such-{vcs}"), folder.path());
        command.arg("--version");
        let limit = Duration::from_secs(20);
        let error = crate::process::output(command, "x", 1, limit)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::MissingProgram);
        assert!(error.text.contains(vcs), "{error}");
        let hint = crate::process::package(vcs);
        assert!(hint.contains(name), "{hint}");
    }
}
