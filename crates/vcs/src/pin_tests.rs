//! One commit for all files of a version, and what is no damage of a mirror.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use gomod::Version;

use crate::ErrorKind;
use crate::fixture::{Lab, module};

const T: u32 = 1_600_000_000;
const PATH: &str = "test.example/m";

async fn zip_names(lab: &Lab, version: &str, pin: &str) -> Result<String, crate::DirectError> {
    let version = Version::parse(version).unwrap();
    let mut stream = lab.direct.zip(&module(PATH), &version, Some(pin)).await?;
    let mut all = Vec::new();
    while let Some(block) = stream.next().await {
        all.extend_from_slice(&block?);
    }
    let zip = zip::ZipArchive::new(std::io::Cursor::new(all)).unwrap();
    let mut names: Vec<_> = zip
        .file_names()
        .map(|name| name.unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    names.sort();
    Ok(names.join(" "))
}

#[tokio::test]
async fn a_version_stays_on_its_commit() {
    let lab = Lab::with(|settings| settings.refs_life = std::time::Duration::ZERO);
    let repo = lab.repository("m");
    let first = repo.release(PATH, "v1.0.0", T);
    assert_eq!(lab.query(PATH, "v1.0.0").await.unwrap(), "v1.0.0");
    repo.write("go.mod", &format!("module {PATH}\n\ngo 1.22\n"));
    repo.write("evil.go", "package x\n");
    let second = repo.commit(T + 60);
    repo.tag("v1.0.0");
    let version = Version::parse("v1.0.0").unwrap();
    let go_mod = async |pin: &str| {
        let got = lab.direct.go_mod(&module(PATH), &version, Some(pin)).await;
        got.map(|text| String::from_utf8_lossy(&text).contains("go 1.22"))
    };
    assert_eq!(
        zip_names(&lab, "v1.0.0", &first).await.unwrap(),
        "go.mod x.go"
    );
    assert!(!go_mod(&first).await.unwrap());
    assert_eq!(
        zip_names(&lab, "v1.0.0", &second).await.unwrap(),
        "evil.go go.mod x.go"
    );
    assert!(go_mod(&second).await.unwrap());
    // The tag goes: what is in the history of a branch can still be had.
    repo.git(&["tag", "-d", "v1.0.0"]);
    assert!(!go_mod(&first).await.unwrap());
    assert_eq!(
        lab.query(PATH, "v1.0.0").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    // What never was there, or names something else, is refused and never answered with another commit.
    repo.tag("v1.0.0");
    for pin in [&"0".repeat(40), "main", "--all", "v1.0.0"] {
        let error = go_mod(pin).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{pin}: {error}");
        assert!(error.text.contains(&second), "{error}");
    }
}

#[tokio::test]
async fn a_commit_under_a_moved_tag_is_a_pseudo_version() {
    let lab = Lab::with(|settings| settings.refs_life = std::time::Duration::ZERO);
    let repo = lab.repository("m");
    repo.release(PATH, "v1.0.0", T);
    repo.release(PATH, "v1.1.0", T + 60);
    repo.write("more.go", "package x\n");
    let last = repo.commit(T + 120);
    repo.tag("v1.1.0");
    let query = async |query: &str, moved: &[&str]| {
        let moved: Vec<_> = moved.iter().map(|v| Version::parse(v).unwrap()).collect();
        let direct = &lab.direct;
        let found = direct.revision_without(&module(PATH), query, &moved).await;
        let found = found.unwrap();
        assert_eq!(found.origin.unwrap().hash, last);
        found.version.to_string()
    };
    let pseudo = format!("v1.0.1-0.20200913122840-{}", &last[..12]);
    for asked in ["main", &last, &last[..12]] {
        assert_eq!(query(asked, &[]).await, "v1.1.0");
        assert_eq!(query(asked, &["v1.1.0"]).await, pseudo, "{asked}");
    }
    // As a version by itself it can be had, whatever tag is on the commit.
    assert_eq!(lab.query(PATH, &pseudo).await.unwrap(), pseudo);
}

#[tokio::test]
async fn attributes_that_git_dies_of_are_no_damage() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.write("attributes", "* working-tree-encoding\n");
    repo.release(PATH, "v0.9.0", T);
    // git dies of it too when it adds files, so it comes in by the back door.
    let hash = repo.git(&["hash-object", "-w", "--no-filters", "attributes"]);
    let tree =
        format!("(git ls-tree HEAD; printf '100644 blob {hash}\\t.gitattributes\\n') | git mktree");
    let tree = std::process::Command::new("sh")
        .args(["-c", &tree])
        .current_dir(&repo.0)
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let commit = repo.git(&["commit-tree", "-m", "x", "-p", "HEAD", tree.trim()]);
    repo.git(&["tag", "v1.0.0", &commit]);
    assert_eq!(lab.query(PATH, "v1.0.0").await.unwrap(), "v1.0.0");
    let made = |lab: &Lab| fs::metadata(lab.mirror()).unwrap().ino();
    let before = made(&lab);
    for _ in 0..2 {
        let error = lab.zip(PATH, "v1.0.0").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.text.contains("working-tree-encoding"), "{error}");
    }
    assert_eq!(made(&lab), before, "the mirror is kept");
}

#[tokio::test]
async fn limits_of_ours_are_no_rule_of_go() {
    let lab = Lab::with(|settings| settings.max_zip_bytes = 1000);
    let repo = lab.repository("m");
    repo.write("big.txt", &"b".repeat(2000));
    repo.release(PATH, "v1.0.0", T);
    let error = lab.zip(PATH, "v1.0.0").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    // A name that no module may have stays Go's matter.
    repo.write("a?b", "x");
    repo.git(&["rm", "-q", "big.txt"]);
    repo.release(PATH, "v1.0.1", T + 60);
    let error = lab.zip(PATH, "v1.0.1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
}
