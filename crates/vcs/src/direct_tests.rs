//! Questions answered from repositories that git makes.

mod damage;
mod mapped;

use std::fmt::Write as _;
use std::fs;

use crate::ErrorKind;
use crate::fixture::{Lab, module};

const T: u32 = 1_600_000_000;

#[tokio::test]
async fn the_life_of_a_module() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    let first = repo.release("test.example/m", "v1.0.0", T);
    repo.release("test.example/m", "v1.1.0", T + 60);
    repo.write("x.go", "package x // more\n");
    let tip = repo.commit(T + 120);
    assert_eq!(lab.versions("test.example/m").await, ["v1.0.0", "v1.1.0"]);
    let pseudo = format!("v1.1.1-0.20200913122840-{}", &tip[..12]);
    for (query, want) in [
        ("v1.0.0", "v1.0.0"),
        ("latest", "v1.1.0"),
        ("v1", "v1.1.0"),
        ("v1.0", "v1.0.0"),
        ("<v1.1.0", "v1.0.0"),
        ("main", &pseudo),
        ("HEAD", &pseudo),
        (&tip[..8], &pseudo),
        (&pseudo, &pseudo),
        (&first, "v1.0.0"),
    ] {
        assert_eq!(
            lab.query("test.example/m", query).await.unwrap(),
            want,
            "{query}"
        );
    }
    for bad in [
        "v1.2.0",
        "nothing",
        "abcdef",
        "deadbeef",
        "v2",
        "v0.0.0-20200913122840-deadbeef0000",
        "--upload-pack=x",
        "x\ny",
    ] {
        let error = lab.query("test.example/m", bad).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{bad}: {error}");
    }
    let info = lab
        .direct
        .revision(&module("test.example/m"), "v1.0.0")
        .await
        .unwrap()
        .info_json();
    let info = String::from_utf8(info.to_vec()).unwrap();
    assert!(info.starts_with(r#"{"Version":"v1.0.0","Time":"2020-09-13T12:26:40Z","Origin":{"VCS":"git","URL":"file://"#), "{info}");
    assert!(
        info.ends_with(&format!(
            r#","Hash":"{first}","Ref":"refs/tags/v1.0.0"}}}}"#
        )),
        "{info}"
    );
    assert_eq!(
        lab.names("test.example/m", "v1.0.0").await.unwrap(),
        ["go.mod", "x.go"]
    );
    assert_eq!(
        lab.names("test.example/m", &pseudo).await.unwrap(),
        ["go.mod", "x.go"]
    );
    let same = lab.zip("test.example/m", "v1.0.0").await.unwrap();
    assert_eq!(same, lab.zip("test.example/m", "v1.0.0").await.unwrap());
}

fn settings(lab: &Lab) -> crate::DirectSettings {
    let mut settings = crate::DirectSettings::new(lab.folder.path().join("mirrors"));
    settings.mappings.push(crate::discover::Mapping {
        prefix: "test.example".to_owned(),
        repo: format!("file://{}/{{1}}", lab.folder.path().display()),
        vcs: crate::discover::Kind::Git,
        subdir: String::new(),
    });
    settings
}

#[tokio::test]
async fn zips_have_what_they_should() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.write("LICENSE", "free");
    repo.write("sub/go.mod", "module test.example/m/sub\n");
    repo.write("sub/a.go", "package a\n");
    repo.write("sub/crlf.txt", "one\n");
    repo.write("go.mod", "module test.example/m\n");
    std::os::unix::fs::symlink("go.mod", repo.0.join("link")).unwrap();
    repo.write("ignored.txt", "x");
    repo.commit(T);
    repo.tag("v1.0.0");
    repo.tag("sub/v1.0.0");
    repo.write(
        ".gitattributes",
        "*.txt eol=crlf\nignored.txt export-ignore\n",
    );
    repo.commit(T + 60);
    repo.tag("v1.1.0");
    repo.tag("sub/v1.1.0");
    assert_eq!(
        lab.names("test.example/m", "v1.0.0").await.unwrap(),
        ["LICENSE", "go.mod", "ignored.txt"]
    );
    assert_eq!(
        lab.names("test.example/m/sub", "v1.0.0").await.unwrap(),
        ["LICENSE", "a.go", "crlf.txt", "go.mod"]
    );
    let names = lab.names("test.example/m", "v1.1.0").await.unwrap();
    assert_eq!(
        names,
        [".gitattributes", "LICENSE", "go.mod", "ignored.txt"]
    );
    let bytes = lab.zip("test.example/m/sub", "v1.1.0").await.unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut file = zip.by_name("test.example/m/sub@v1.1.0/crlf.txt").unwrap();
    assert_eq!(std::io::read_to_string(&mut file).unwrap(), "one\r\n");
    drop(file);
    assert!(zip.by_name("test.example/m/sub@v1.1.0/LICENSE").is_ok());
    repo.write("bad:name", "x");
    repo.commit(T + 120);
    repo.tag("v1.2.0");
    assert_eq!(
        lab.query("test.example/m", "v1.2.0").await.unwrap(),
        "v1.2.0"
    );
    assert_eq!(
        lab.zip("test.example/m", "v1.2.0").await.unwrap_err().kind,
        ErrorKind::Invalid
    );
}

#[tokio::test]
async fn what_moves_and_goes() {
    let lab = Lab::with(|settings| settings.max_mirrors = 1);
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    assert_eq!(lab.query("test.example/m", "main").await.unwrap(), "v1.0.0");
    // A forced move of the tag, and of the branch.
    repo.write("x.go", "package x // other\n");
    let moved = repo.commit(T + 60);
    repo.tag("v1.0.0");
    let revision = lab
        .direct
        .revision(&module("test.example/m"), "main")
        .await
        .unwrap();
    assert_eq!(revision.origin.unwrap().hash, moved);
    assert_eq!(lab.direct.incidents().moved_tags, 1);
    // Gone: not to be had, and an outage is not absence.
    fs::rename(&repo.0, lab.folder.path().join("away")).unwrap();
    let error = lab.query("test.example/m", "main").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    let other = lab.repository("other");
    other.release("test.example/other", "v1.0.0", T);
    assert_eq!(
        lab.query("test.example/other", "v1.0.0").await.unwrap(),
        "v1.0.0"
    );
    // There is room for one.
    let count = fs::read_dir(lab.folder.path().join("mirrors"))
        .unwrap()
        .count();
    assert_eq!(
        count, 3,
        "a mirror, and the files with its name and its tags"
    );
    lab.direct.tidy().await;
}

#[tokio::test]
async fn a_tag_on_no_commit_is_no_version_and_spoils_no_other() {
    let lab = Lab::with(|settings| settings.refs_life = std::time::Duration::ZERO);
    let repo = lab.repository("m");
    let first = repo.release("test.example/m", "v1.0.0", T);
    repo.write("y.go", "package x\n");
    let second = repo.commit(T + 60);
    let tip = format!("v1.0.1-0.20200913122740-{}", &second[..12]);
    let blob = repo.git(&["rev-parse", "HEAD:x.go"]);
    repo.git(&["tag", "-a", "-m", "x", "annotated", &blob]);
    for target in ["HEAD^{tree}", "HEAD:x.go", "annotated"] {
        repo.git(&[
            "update-ref",
            "refs/tags/v1.1.0",
            &repo.git(&["rev-parse", target]),
        ]);
        let query = async |query: &str| lab.query("test.example/m", query).await;
        assert_eq!(query("main").await.unwrap(), tip, "{target}");
        assert_eq!(query(&first).await.unwrap(), "v1.0.0", "{target}");
        assert_eq!(query("v1.0.0").await.unwrap(), "v1.0.0", "{target}");
        for none in ["v1.1.0", &blob] {
            let error = query(none).await.unwrap_err();
            assert_eq!(error.kind, crate::ErrorKind::NotFound, "{target}: {error}");
        }
    }
}

#[tokio::test]
async fn many_at_once() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    for minor in 0..30 {
        repo.release("test.example/m", &format!("v1.{minor}.0"), T + minor);
    }
    let asks = (0..30).map(|minor| {
        let lab = &lab;
        async move {
            lab.query("test.example/m", &format!("v1.{minor}.0"))
                .await
                .unwrap()
        }
    });
    let mut asks: Vec<_> = asks.map(Box::pin).collect();
    let answers = std::future::poll_fn(|context| {
        use std::task::Poll;
        asks.retain_mut(|ask| ask.as_mut().poll(context).is_pending());
        if asks.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    answers.await;
    let packs = fs::read_dir(lab.mirror().join("objects/pack"))
        .unwrap()
        .count();
    assert!(packs < 20, "they share fetches: {packs} files");
}

#[tokio::test]
async fn questions_may_move_between_threads() {
    let lab = Lab::new();
    let direct = lab.direct;
    let asked = tokio::spawn(async move {
        let (module, version) = (
            module("test.example/nothing"),
            gomod::Version::parse("v1.0.0").unwrap(),
        );
        let failed = [
            direct.versions(&module).await.is_err(),
            direct.latest(&module).await.is_err(),
            direct.go_mod(&module, &version, None).await.is_err(),
            direct.zip(&module, &version, None).await.is_err(),
        ];
        direct.tidy().await;
        failed
    });
    assert_eq!(asked.await.unwrap(), [true; 4]);
}

#[tokio::test]
async fn hashes_of_either_kind_and_care() {
    let lab = Lab::new();
    let folder = lab.folder.path().join("m");
    fs::create_dir(&folder).unwrap();
    let repo = crate::fixture::Repo(folder);
    repo.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    for minor in 0..25 {
        let version = format!("v1.{minor}.0");
        let hash = repo.release("test.example/m", &version, T + minor);
        assert_eq!(hash.len(), 64);
        assert_eq!(
            lab.query("test.example/m", &version).await.unwrap(),
            version
        );
    }
    repo.write("x.go", "package x\n");
    let tip = repo.commit(T + 100);
    let want = format!("v1.24.1-0.20200913122820-{}", &tip[..12]);
    assert_eq!(lab.query("test.example/m", "main").await.unwrap(), want);
    let packs = || {
        fs::read_dir(lab.mirror().join("objects/pack"))
            .unwrap()
            .count()
    };
    assert!(packs() > 40);
    lab.direct.tidy().await;
    assert!(packs() < 6, "{} files", packs());
    for version in ["v1.0.0", "v1.24.0", &want] {
        assert_eq!(
            lab.names("test.example/m", version).await.unwrap(),
            ["go.mod", "x.go"]
        );
    }
    repo.release("test.example/m", "v1.25.0", T + 200);
    assert_eq!(
        lab.query("test.example/m", "main").await.unwrap(),
        "v1.25.0"
    );
}

#[tokio::test]
async fn an_outage_spares_what_is_known() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    assert_eq!(
        lab.query("test.example/m", "v1.0.0").await.unwrap(),
        "v1.0.0"
    );
    fs::rename(&repo.0, lab.folder.path().join("away")).unwrap();
    assert!(lab.query("test.example/m", "main").await.is_err());
    // Of canonical versions it is still believed, and its files are here.
    assert_eq!(
        lab.query("test.example/m", "v1.0.0").await.unwrap(),
        "v1.0.0"
    );
    assert_eq!(
        lab.names("test.example/m", "v1.0.0").await.unwrap(),
        ["go.mod", "x.go"]
    );
}

#[tokio::test]
async fn many_tags() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    let mut hashes = Vec::new();
    for minor in 0..5 {
        hashes.push(repo.release("test.example/m", &format!("v1.{minor}.0"), T + minor));
    }
    let mut updates = String::new();
    for patch in 1..3000 {
        let hash = &hashes[patch % 4];
        let _ = writeln!(updates, "create refs/tags/v0.1.{patch} {hash}");
    }
    repo.update_refs(&updates);
    repo.write("x.go", "package x\n");
    let tip = repo.commit(T + 100);
    assert_eq!(lab.versions("test.example/m").await.len(), 3004);
    let want = format!("v1.4.1-0.20200913122820-{}", &tip[..12]);
    assert_eq!(lab.query("test.example/m", "main").await.unwrap(), want);
    assert_eq!(lab.query("test.example/m", "main").await.unwrap(), want);
    assert!(lab.mirror().join("packed-refs").exists());
    assert!(!lab.mirror().join("refs/tags/v0.1.1").exists());
}

#[tokio::test]
async fn long_names_of_converted_files() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.write("sub/go.mod", "module test.example/m/sub\n");
    repo.write("sub/.gitattributes", "*.txt eol=crlf\n");
    let long = "x".repeat(90);
    // Of a tar's header's first field, of both its fields, and of none of them.
    for (depth, name) in [(0, "a.txt"), (1, "b.txt"), (2, "c.txt"), (5, "d.txt")] {
        let folder = format!("{long}/").repeat(depth);
        repo.write(
            &format!("sub/{folder}{name}"),
            &"line\n".repeat(depth * 200),
        );
    }
    repo.commit(T);
    repo.tag("sub/v1.0.0");
    let bytes = lab.zip("test.example/m/sub", "v1.0.0").await.unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    for (depth, name) in [(0, "a.txt"), (1, "b.txt"), (2, "c.txt"), (5, "d.txt")] {
        let folder = format!("{long}/").repeat(depth);
        let mut file = zip
            .by_name(&format!("test.example/m/sub@v1.0.0/{folder}{name}"))
            .unwrap();
        assert_eq!(
            std::io::read_to_string(&mut file).unwrap(),
            "line\r\n".repeat(depth * 200)
        );
    }
}

#[tokio::test]
async fn a_zip_that_nobody_reads_on() {
    let lab = Lab::with(|settings| settings.max_processes = 1);
    let repo = lab.repository("m");
    for file in 0..200 {
        let noise = (0..4000_u32).fold(String::new(), |mut noise, at| {
            let _ = write!(noise, "{:x}", at.wrapping_mul(2_654_435_761 + file));
            noise
        });
        repo.write(&format!("f{file}.txt"), &noise);
    }
    repo.release("test.example/m", "v1.0.0", T);
    let version = gomod::Version::parse("v1.0.0").unwrap();
    let mut stream = lab
        .direct
        .zip(&module("test.example/m"), &version, None)
        .await
        .unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    // The only place there is becomes free.
    assert_eq!(
        lab.query("test.example/m", "v1.0.0").await.unwrap(),
        "v1.0.0"
    );
}

#[tokio::test]
async fn a_tag_that_moved_while_nobody_looked_is_an_incident() {
    let lab = Lab::with(|settings| settings.refs_life = std::time::Duration::ZERO);
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    repo.release("test.example/m", "v1.1.0", T + 60);
    // The list alone makes no mirror, and is remembered too.
    assert_eq!(lab.versions("test.example/m").await.len(), 2);
    repo.git(&["tag", "-f", "v1.0.0", "v1.1.0"]);
    repo.git(&["branch", "-f", "v1.1.0x", "v1.1.0"]);
    let again = Lab {
        direct: crate::Direct::new(settings(&lab), crate::fixture::no_network()),
        folder: lab.folder,
    };
    let (sender, told) = std::sync::mpsc::channel();
    again.direct.on_moved_tag(move || {
        let _ = sender.send(());
    });
    assert_eq!(again.versions("test.example/m").await.len(), 2);
    assert_eq!(again.versions("test.example/m").await.len(), 2);
    assert_eq!(again.direct.incidents().moved_tags, 1);
    assert_eq!(told.try_iter().count(), 1);
    // An annotated tag on the same commit is no move.
    repo.git(&["tag", "-f", "-a", "-m", "x", "v1.1.0", "v1.1.0"]);
    again.versions("test.example/m").await;
    assert_eq!(again.direct.incidents().moved_tags, 1);
}
