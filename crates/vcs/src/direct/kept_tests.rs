//! What is kept across questions and settings: bounds of mirrors, eviction, care.

// Clippy does not see that helpers outside `#[test]` are tests.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::fixture::{Lab, Repo, module, no_network};

const T: u32 = 1_600_000_000;

/// Text that no compression makes small.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let _ = write!(text, "{state:016x}");
    }
    text
}

/// A commit with a file of noise.
fn grow(repo: &Repo, name: &str, seed: u32, bytes: usize) -> String {
    repo.write(name, &noise(u64::from(seed), bytes));
    repo.commit(T + seed)
}

/// The names in the folder of mirrors with this ending.
fn ending(lab: &Lab, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.folder.path().join("mirrors")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect()
}

#[tokio::test]
async fn new_settings_work_on_under_the_same_locks() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    assert_eq!(lab.versions("test.example/m").await, ["v1.0.0"]);
    let root = lab.direct.discovery.find(&module("test.example/m")).await;
    let mirror = lab.direct.mirror(&root.unwrap()).await.unwrap();
    // As if a fetch went on.
    let disk = mirror.disk.lock().await;
    let mut settings = lab.direct.settings.clone();
    settings.max_zip_bytes = 1;
    settings.folder = lab.folder.path().join("elsewhere");
    let renewed = lab.direct.renewed(settings, no_network());
    assert_eq!(renewed.settings.folder, lab.direct.settings.folder);
    let begun = tokio::time::Instant::now();
    let asking = tokio::spawn({
        let renewed = Arc::clone(&renewed);
        async move { renewed.revision(&module("test.example/m"), "main").await }
    });
    // It asks for the references, and comes as far as the lock.
    let heard = async || mirror.asked.lock().await.said.as_ref().unwrap().1;
    while heard().await < begun {
        tokio::task::yield_now().await;
    }
    assert!(!asking.is_finished());
    assert!(
        ending(&lab, ".git").is_empty(),
        "it was fetched beside the lock"
    );
    drop(disk);
    let revision = asking.await.unwrap().unwrap();
    assert_eq!(revision.version.to_string(), "v1.0.0");
    // The new settings hold.
    let version = Version::parse("v1.0.0").unwrap();
    let zip = renewed.zip(&module("test.example/m"), &version, None).await;
    let kind = zip.unwrap_err().kind;
    assert!(
        matches!(kind, ErrorKind::Invalid | ErrorKind::TooLarge),
        "{kind:?}"
    );
    assert_eq!(ending(&lab, ".git").len(), 1);
}

#[tokio::test]
async fn a_question_ends_whatever_holds_it_up() {
    let lab = Lab::with(|settings| settings.process_timeout = Duration::from_millis(100));
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    let root = lab.direct.discovery.find(&module("test.example/m")).await;
    let mirror = lab.direct.mirror(&root.unwrap()).await.unwrap();
    let _disk = mirror.disk.lock().await;
    let error = lab.query("test.example/m", "v1.0.0").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_repository_that_is_too_large_is_refused_and_no_other() {
    let lab = Lab::with(|settings| settings.max_repository_bytes = 100_000);
    let (large, small) = (lab.repository("large"), lab.repository("small"));
    large.release("test.example/large", "v1.0.0", T);
    grow(&large, "noise", 1, 400_000);
    small.release("test.example/small", "v1.0.0", T);
    for _ in 0..2 {
        let error = lab.query("test.example/large", "main").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
        assert!(
            error.hint.unwrap().contains("max_repository_bytes"),
            "{}",
            error.text
        );
    }
    assert_eq!(
        lab.query("test.example/small", "main").await.unwrap(),
        "v1.0.0"
    );
}

#[tokio::test]
async fn a_mirror_that_grew_too_large_is_made_anew() {
    let lab = Lab::with(|settings| {
        settings.max_repository_bytes = 200_000;
        settings.refs_life = Duration::ZERO;
    });
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    repo.git(&["branch", "base"]);
    // A branch that is thrown away again and again: nothing is left of it but in the mirror.
    for round in 1..8 {
        repo.git(&["reset", "-q", "--hard", "base"]);
        let tip = grow(&repo, "noise", round, 60_000);
        let got = lab.query("test.example/m", "main").await.unwrap();
        assert!(got.ends_with(&tip[..12]), "{got} {tip}");
        assert_eq!(
            lab.names("test.example/m", &got).await.unwrap(),
            ["go.mod", "noise", "x.go"]
        );
    }
    let size = crate::git::mirror::bytes(&lab.mirror());
    assert!(size < 400_000, "{size}");
}

#[tokio::test]
async fn what_is_too_much_goes_after_each_fetch() {
    let lab = Lab::with(|settings| {
        settings.max_mirror_bytes = 500_000;
        settings.max_repository_bytes = 400_000;
    });
    for (at, name) in (0..).zip(["a", "b", "c", "d"]) {
        let repo = lab.repository(name);
        let path = format!("test.example/{name}");
        repo.write("go.mod", &format!("module {path}\n"));
        grow(&repo, "noise", at, 600_000);
        lab.query(&path, "main").await.unwrap();
        // Whoever asked held his own.
        lab.direct.enforce().await;
        let size = crate::git::mirror::bytes(&lab.direct.settings.folder);
        assert!(size < 500_000, "{size}");
        assert_eq!(ending(&lab, ".git").len(), 1, "{name}");
    }
    assert!(ending(&lab, ".gone").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eviction_is_in_nobodys_way() {
    let lab = Arc::new(Lab::with(|settings| {
        settings.max_mirrors = 1;
        settings.refs_life = Duration::ZERO;
    }));
    let names = ["a", "b", "c"];
    for name in names {
        let repo = lab.repository(name);
        repo.release(&format!("test.example/{name}"), "v1.0.0", T);
    }
    let mut asking = tokio::task::JoinSet::new();
    for name in names {
        let lab = Arc::clone(&lab);
        asking.spawn(async move {
            let path = format!("test.example/{name}");
            for _ in 0..6 {
                assert_eq!(lab.query(&path, "main").await.unwrap(), "v1.0.0");
                assert_eq!(
                    lab.names(&path, "v1.0.0").await.unwrap(),
                    ["go.mod", "x.go"]
                );
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    lab.direct.enforce().await;
    assert_eq!(ending(&lab, ".git").len(), 1);
    assert!(ending(&lab, ".gone").is_empty());
}

#[tokio::test]
async fn what_an_earlier_process_left_is_swept_out() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    let mirrors = lab.folder.path().join("mirrors");
    let left = ["scratch-0123-4567", "abcd.git-0.gone"].map(|name| mirrors.join(name));
    for folder in &left {
        fs::create_dir_all(folder.join("deep")).unwrap();
    }
    let ours = crate::program::Scratch::new(&mirrors).unwrap();
    assert_eq!(lab.versions("test.example/m").await, ["v1.0.0"]);
    for folder in &left {
        assert!(!folder.exists(), "{}", folder.display());
    }
    assert!(ours.path().exists());
    // Nothing but the tags was asked: it has a last use all the same.
    assert!(ending(&lab, ".git").is_empty());
    let stamps = ending(&lab, ".url");
    assert_eq!(stamps.len(), 1);
    assert!(
        fs::read_to_string(&stamps[0])
            .unwrap()
            .starts_with("file://")
    );
}

/// A mirror with so many packs that they are due to be made one.
async fn many_packs(lab: &Lab, repo: &Repo) -> Arc<Mirror> {
    for minor in 0..25 {
        let version = format!("v1.{minor}.0");
        repo.release("test.example/m", &version, T + minor);
        assert_eq!(
            lab.query("test.example/m", &version).await.unwrap(),
            version
        );
    }
    let root = lab.direct.discovery.find(&module("test.example/m")).await;
    lab.direct.mirror(&root.unwrap()).await.unwrap()
}

fn packs(lab: &Lab) -> usize {
    let packs = fs::read_dir(lab.mirror().join("objects/pack")).unwrap();
    packs
        .filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|end| end == "pack")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_answered_while_a_mirror_is_packed_again() {
    let lab = Lab::with(|settings| settings.refs_life = Duration::ZERO);
    let repo = lab.repository("m");
    drop(many_packs(&lab, &repo).await);
    assert!(packs(&lab) >= 20);
    let caring = async {
        lab.direct.tidy().await;
    };
    let asking = async {
        for minor in 25..30 {
            let version = format!("v1.{minor}.0");
            repo.release("test.example/m", &version, T + minor);
            assert_eq!(lab.query("test.example/m", "main").await.unwrap(), version);
            lab.names("test.example/m", &version).await.unwrap();
        }
    };
    tokio::join!(caring, asking);
    assert!(packs(&lab) < 20, "{}", packs(&lab));
    for version in ["v1.0.0", "v1.24.0", "v1.29.0"] {
        assert_eq!(
            lab.names("test.example/m", version).await.unwrap(),
            ["go.mod", "x.go"]
        );
    }
}

#[tokio::test]
async fn care_makes_way_for_who_throws_a_mirror_away() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    lab.query("test.example/m", "main").await.unwrap();
    let root = lab.direct.discovery.find(&module("test.example/m")).await;
    let mirror = lab.direct.mirror(&root.unwrap()).await.unwrap();
    let (held, mine) = (mirror.hold_care().await, Arc::clone(&mirror));
    let discard = tokio::spawn(async move { mine.discard(mine.generation()).await });
    // It is told to stop, and only then is the mirror thrown away.
    mirror.told_to_stop().await;
    assert!(lab.mirror().join("HEAD").is_file());
    drop(held);
    discard.await.unwrap().unwrap();
    assert!(ending(&lab, ".git").is_empty());
    assert_eq!(
        lab.names("test.example/m", "v1.0.0").await.unwrap(),
        ["go.mod", "x.go"]
    );
}

#[tokio::test]
async fn one_that_has_no_place_is_no_reason_to_leave_the_others() {
    let lab = Lab::with(|settings| {
        settings.max_processes = 1;
        settings.process_timeout = Duration::from_secs(30);
        settings.max_mirror_bytes = 1;
    });
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    assert_eq!(lab.versions("test.example/m").await, ["v1.0.0"]);
    let mirrors = lab.folder.path().join("mirrors");
    // Due for care, but there is no place: what is too much goes all the same.
    let packs = mirrors.join("0123.git/objects/pack");
    fs::create_dir_all(&packs).unwrap();
    for number in 0..50 {
        fs::write(packs.join(number.to_string()), "x").unwrap();
    }
    let again = Direct::new(lab.direct.settings.clone(), no_network());
    let place = again.places.enter(None).await.unwrap();
    let impatient = Places::new(1, Duration::from_millis(10));
    let taken = impatient.enter(None).await.unwrap();
    again.mirrors.tidy(&impatient).await.unwrap();
    drop((place, taken));
    assert!(ending(&lab, ".git").is_empty());
}
