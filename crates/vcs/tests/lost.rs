//! Objects that a server leaves out, and mirrors that lost some: what is not there for that reason is nowhere taken for absent.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{Lab, MODULE, URL, add, go_mod, info, module, version, zip};
use egress::{Credentials, Egress};
use forge::{Built, Fault, History, change};
use vcs::{Direct, ErrorKind};

const INNER: &str = "golden.test/small/sub/inner";

/// Versions of two modules, with files that most commits have in common.
fn history() -> History {
    let mut history = History::new();
    let required = "go 1.21\n\nrequire example.com/dep v1.2.3\n";
    let first = [
        change::file("go.mod", format!("module {MODULE}\n\n{required}")),
        change::file("LICENSE", "do what you like\n"),
        change::file(
            ".gitattributes",
            "*.txt eol=crlf export-subst\nb.go export-ignore\n",
        ),
        change::file("text.txt", "one\ntwo\n$Format:%H$\n"),
        change::file("sub/inner/go.mod", format!("module {INNER}\n\n{required}")),
        change::file("sub/inner/a.txt", "three\nfour\n"),
        change::file("b.go", "package b\n"),
    ];
    history.commit("main", "c0", first);
    for at in 0..6 {
        let name = format!("c{at}");
        if at > 0 {
            let file = change::file("a.go", format!("package a // {at}\n"));
            history.commit("main", &name, [file]);
        }
        history.tag(&format!("v1.{at}.0"), &name);
        history.tag(&format!("sub/inner/v1.{at}.0"), &name);
    }
    let file = change::file("a.go", "package a // tip\n");
    history.commit("main", "tip", [file]);
    history
}

/// All that is told of some versions.
type Told = Vec<Vec<u8>>;

async fn told(direct: &Arc<Direct>, built: &Built) -> Told {
    let mut told = Vec::new();
    for path in [MODULE, INNER] {
        for at in ["v1.4.0", "v1.5.0"] {
            told.push(info(direct, path, at).await.unwrap().info_json().to_vec());
            told.push(go_mod(direct, path, at).await.unwrap());
            told.push(zip(direct, path, at).await.unwrap());
        }
        for query in ["main", built.hash("c3"), "latest"] {
            told.push(
                info(direct, path, query)
                    .await
                    .unwrap()
                    .info_json()
                    .to_vec(),
            );
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_objects_out() {
    let lab = Lab::start().await;
    let built = add(&lab, &history());
    let truth = told(&lab.direct(), &built).await;
    for (at, filter) in ["blob:none", "blob:limit=20", "tree:0", "tree:1"]
        .into_iter()
        .enumerate()
    {
        let mut settings = lab.settings();
        settings.folder = lab.folder.path().join(at.to_string());
        let folder = settings.folder.clone();
        let direct = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
        lab.forge.fault(URL, Some(Fault::Filter(filter)));
        for path in [MODULE, INNER] {
            let errors = [
                info(&direct, path, "v1.4.0").await.map(drop),
                go_mod(&direct, path, "v1.4.0").await.map(drop),
                zip(&direct, path, "v1.4.0").await.map(drop),
                info(&direct, path, "main").await.map(drop),
                info(&direct, path, built.hash("c3")).await.map(drop),
                info(&direct, path, "latest").await.map(drop),
            ];
            for error in errors {
                let error = error.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Unavailable, "{filter}: {error:?}");
                let said = error.text.contains("did not send all objects");
                assert!(said && error.text.contains(URL), "{filter}: {error:?}");
            }
        }
        // Nothing of it stays.
        let mut packs = Vec::new();
        files(&folder, &mut packs);
        packs.retain(|file| file.components().any(|part| part.as_os_str() == "objects"));
        assert_eq!(packs, Vec::<PathBuf>::new(), "{filter}");
        lab.forge.fault(URL, None);
        assert_eq!(told(&direct, &built).await, truth, "{filter}");
        // What came before does not hide what is left out now, nor goes for it.
        let mut grown = history();
        let change = change::file("new.go", format!("package a // {filter}, which is new\n"));
        grown.commit("main", "new", [change]);
        grown.tag("v1.9.0", "new");
        grown.import(&built.folder);
        lab.forge.fault(URL, Some(Fault::Filter(filter)));
        let error = info(&direct, MODULE, "v1.9.0").await.err();
        let error = match error {
            // Its go.mod is that of all; the rest is not.
            None => zip(&direct, MODULE, "v1.9.0").await.unwrap_err(),
            Some(error) => error,
        };
        assert_eq!(error.kind, ErrorKind::Unavailable, "{filter}: {error:?}");
        lab.forge.fault(URL, None);
        zip(&direct, MODULE, "v1.9.0").await.unwrap();
        fs::remove_dir_all(&built.folder).unwrap();
        history().build(&built.folder);
    }
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// What is done to a file of a mirror.
type Harm = fn(&Path);

fn cut(file: &Path, keep: fn(usize) -> usize) {
    let content = fs::read(file).unwrap();
    // Another file: what a reader has open stays as it is.
    fs::remove_file(file).unwrap();
    fs::write(file, &content[..keep(content.len())]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_and_references_are_damaged() {
    let lab = Lab::start().await;
    let built = add(&lab, &history());
    let truth = told(&lab.direct(), &built).await;
    let harms: [(&str, &str, Harm); 11] = [
        ("cut packs", "pack", |file| cut(file, |length| length / 2)),
        ("empty packs", "pack", |file| cut(file, |_| 0)),
        ("no packs", "pack", |file| fs::remove_file(file).unwrap()),
        ("cut indexes", "idx", |file| cut(file, |length| length / 2)),
        ("empty indexes", "idx", |file| cut(file, |_| 0)),
        ("no indexes", "idx", |file| fs::remove_file(file).unwrap()),
        ("no references", "packed-refs", |file| {
            fs::remove_file(file).unwrap();
        }),
        ("nonsense for references", "packed-refs", |file| {
            fs::write(file, b"\0nonsense\xff\n").unwrap();
        }),
        ("nonsense for borders", "/shallow", |file| {
            fs::write(file, "nonsense\n").unwrap();
        }),
        ("empty attributes", "info/attributes", |file| {
            cut(file, |_| 0)
        }),
        // As a copy without empty folders has it.
        ("no folders of references", "/config", |file| {
            for folder in ["refs/heads", "refs/tags"] {
                fs::remove_dir_all(file.with_file_name(folder)).unwrap();
            }
        }),
    ];
    for (name, ending, harm) in harms {
        for whole in [false, true] {
            for restart in [false, true] {
                println!("{name}, all history: {whole}, after a restart: {restart}");
                let mut settings = lab.settings();
                settings.folder = lab.folder.path().join(format!("{name} {whole} {restart}"));
                let new = || {
                    let egress = Egress::new(lab.network(), Credentials::default());
                    Direct::new(settings.clone(), egress)
                };
                let mut direct = new();
                zip(&direct, MODULE, "v1.0.0").await.unwrap();
                if whole {
                    info(&direct, MODULE, "main").await.unwrap();
                }
                if restart {
                    direct = new();
                }
                let mut all = Vec::new();
                files(&settings.folder, &mut all);
                for file in all
                    .iter()
                    .filter(|file| file.to_str().unwrap().ends_with(ending))
                {
                    harm(file);
                }
                assert_eq!(told(&direct, &built).await, truth);
            }
        }
    }
}

fn git(folder: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(args);
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{args:?} {done:?}");
    done.stdout
}

/// Makes a file of each object of the only mirror. Its folder.
fn loosen(mirrors: &Path) -> PathBuf {
    let mut folders = fs::read_dir(mirrors).unwrap().flatten();
    let mirror = folders.find(|entry| entry.path().join("HEAD").is_file());
    let mirror = mirror.unwrap().path();
    let aside = tempfile::tempdir_in(mirrors.parent().unwrap()).unwrap();
    let packs = mirror.join("objects/pack");
    for file in fs::read_dir(&packs).unwrap().flatten() {
        fs::rename(file.path(), aside.path().join(file.file_name())).unwrap();
    }
    for pack in fs::read_dir(aside.path()).unwrap().flatten() {
        if pack.path().extension().is_some_and(|end| end == "pack") {
            let mut command = Command::new("git");
            command
                .arg("-C")
                .arg(&mirror)
                .args(["unpack-objects", "-q"]);
            command.stdin(fs::File::open(pack.path()).unwrap());
            assert!(command.status().unwrap().success());
        }
    }
    mirror
}

fn object(mirror: &Path, hash: &str) -> PathBuf {
    mirror.join("objects").join(&hash[..2]).join(&hash[2..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_objects_are_lost() {
    let lab = Lab::start().await;
    let built = add(&lab, &history());
    let truth = told(&lab.direct(), &built).await;
    let mirror = loosen(&lab.mirrors());
    let kept = lab.folder.path().join("kept");
    let copy = |from: &Path, to: &Path| {
        let mut command = Command::new("cp");
        command.arg("-a").arg(from).arg(to);
        assert!(command.status().unwrap().success());
    };
    copy(&mirror, &kept);
    let mut names = vec!["v1.3.0", "v1.5.0", "v1.0.0"];
    names.extend(["^{tree}", ":sub", ":sub/inner", ":go.mod", ":LICENSE"]);
    names.extend([
        ":.gitattributes",
        ":sub/inner/go.mod",
        ":sub/inner/a.txt",
        ":a.go",
    ]);
    for name in names {
        for (how, harm) in [("gone", None), ("empty", Some(""))] {
            println!("{name} {how}");
            let _ = fs::remove_dir_all(&mirror);
            copy(&kept, &mirror);
            let full = if name.starts_with('v') {
                format!("{name}^{{commit}}")
            } else {
                format!("v1.5.0{name}")
            };
            let hash = String::from_utf8(git(&built.folder, &["rev-parse", &full])).unwrap();
            let file = object(&mirror, hash.trim());
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            match harm {
                None => fs::remove_file(&file).unwrap(),
                Some(text) => fs::write(&file, text).unwrap(),
            }
            assert_eq!(told(&lab.direct(), &built).await, truth, "{name} {how}");
        }
    }
    // What is not there at all is still absent.
    let direct = lab.direct();
    for query in ["v1.7.0", "1234567", "nothing"] {
        let error = info(&direct, MODULE, query).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_lost_while_a_zip_streams() {
    let lab = Lab::start().await;
    let mut history = History::new();
    let mut state = 1u64;
    let mut changes = vec![change::file("go.mod", format!("module {MODULE}\n"))];
    for at in 0..24 {
        // Noise, which no compression makes small.
        let mut noise = Vec::with_capacity(1 << 20);
        while noise.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        changes.push(change::file(format!("noise{at:02}"), noise));
    }
    history.commit("main", "one", changes);
    history.tag("v1.0.0", "one");
    add(&lab, &history);
    let direct = lab.direct();
    let truth = zip(&direct, MODULE, "v1.0.0").await.unwrap();
    drop(direct);
    let mirror = loosen(&lab.mirrors());
    let direct = lab.direct();
    let asked = lab.forge.requests().len();
    let mut stream = direct
        .zip(&module(MODULE), &version("v1.0.0"), None)
        .await
        .unwrap();
    let mut all = stream.next().await.unwrap().unwrap().to_vec();
    let mut lost = Vec::new();
    files(&mirror.join("objects"), &mut lost);
    for file in &lost {
        fs::remove_file(file).unwrap();
    }
    while let Some(part) = stream.next().await {
        all.extend_from_slice(&part.unwrap());
    }
    assert!(all == truth, "{} bytes of {}", all.len(), truth.len());
    let posts = lab.forge.requests().split_off(asked);
    assert!(
        posts.iter().any(|line| line.starts_with("POST")),
        "{posts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_out_what_was_before_kept_commits() {
    let lab = Lab::start().await;
    let built = add(&lab, &history());
    let truth = told(&lab.direct(), &built).await;
    let mut settings = lab.settings();
    settings.folder = lab.folder.path().join("other");
    let direct = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    for at in ["v1.1.0", "v1.3.0"] {
        zip(&direct, MODULE, at).await.unwrap();
    }
    lab.forge.fault(URL, Some(Fault::HalfHistory));
    info(&direct, MODULE, "main").await.unwrap();
    assert_eq!(told(&direct, &built).await, truth);
}
