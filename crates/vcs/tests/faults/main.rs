//! Repositories that vanish, move, break and stall. What was asked then fails for the right reason and in bounded
//! time, and works again when the trouble is over.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

#[path = "../common/mod.rs"]
mod common;
mod large;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Lab, MODULE, URL, add, go_mod, info, list, module, small, version, zip};
use egress::{Credentials, Egress};
use forge::{Fault, History, Pages, change};
use vcs::{Direct, DirectSettings, ErrorKind};

/// The processes that speak of the mirrors, and their command lines.
fn children(lab: &Lab) -> Vec<(String, String)> {
    let mirrors = lab.mirrors();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let folder = process.path();
        let text = fs::read(folder.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&text).replace('\0', " ");
        let cwd = fs::read_link(folder.join("cwd")).unwrap_or_default();
        if cwd.starts_with(&mirrors) || line.contains(mirrors.to_str().unwrap()) {
            found.push((process.file_name().into_string().unwrap(), line));
        }
    }
    found
}

/// Waits until no process speaks of the mirrors any more; a test that leaves some fails by its time limit.
async fn no_children(lab: &Lab) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let left = children(lab);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "a child is left: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills those who read objects of the mirrors, as a machine without memory does.
fn kill_readers(lab: &Lab) {
    let readers = children(lab).into_iter();
    let mut readers = readers
        .filter(|(_, line)| line.contains("cat-file"))
        .peekable();
    assert!(readers.peek().is_some(), "nobody reads");
    for (id, _) in readers {
        let killed = std::process::Command::new("kill")
            .args(["-9", &id])
            .status();
        assert!(killed.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_vanishes() {
    let lab = Lab::start().await;
    add(&lab, &small());
    let direct = lab.direct();
    let before = zip(&direct, MODULE, "v1.0.0").await.unwrap();
    let info_before = info(&direct, MODULE, "v1.0.0").await.unwrap();
    lab.forge.forget(URL);
    assert_eq!(zip(&direct, MODULE, "v1.0.0").await.unwrap(), before);
    let after = info(&direct, MODULE, "v1.0.0").await.unwrap();
    assert_eq!(after.info_json(), info_before.info_json());
    // The server works and says that there is no such repository.
    let error = list(&direct, MODULE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
    // It is back.
    lab.forge.serve("small");
    assert_eq!(list(&direct, MODULE).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_not_absence() {
    let lab = Lab::start().await;
    add(&lab, &small());
    for status in [500, 502, 503, 429] {
        lab.forge.fault(URL, Some(Fault::Status(status)));
        let direct = lab.direct();
        for query in ["v1.0.0", "main", "latest"] {
            let error = info(&direct, MODULE, query).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "{status} {error:?}");
        }
        let error = list(&direct, MODULE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{status} {error:?}");
    }
    lab.forge.fault(URL, None);
    // Many servers of git have no page at a repository's address.
    let asked = format!("{URL}/info");
    for status in [500, 503, 429] {
        lab.forge.fault(&asked, Some(Fault::Status(status)));
        let error = list(&lab.direct(), MODULE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{status} {error:?}");
    }
    lab.forge.fault(&asked, None);
    assert_eq!(list(&lab.direct(), MODULE).await.unwrap().len(), 2);
    // What has references has commits.
    let asked = format!("{URL}/git-upload-pack");
    lab.forge.fault(&asked, Some(Fault::Status(404)));
    for query in ["v1.0.0", "main"] {
        let error = info(&lab.direct(), MODULE, query).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_place_of_references_is_no_empty_repository() {
    let lab = Lab::start().await;
    add(&lab, &small());
    lab.forge.forget(URL);
    for (kind, body) in [
        ("text/html", "<html>Who are you?</html>"),
        ("text/html", "<html>\nWho are you?\n</html>\n"),
        ("text/html", ""),
        ("text/plain", "OK"),
        ("text/plain; charset=utf-8", "OK\n"),
        ("application/json", "{\"error\":\"maintenance\"}"),
        ("application/json", ""),
    ] {
        lab.forge.fault(URL, Some(Fault::Type(kind)));
        let page = Pages {
            body: body.to_owned(),
            status: 200,
            below: true,
        };
        lab.forge.page(URL, page);
        let error = list(&lab.direct(), MODULE).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{body:?} {error:?}");
        let error = info(&lab.direct(), MODULE, "v1.0.0").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{body:?} {error:?}");
        let hint = error.hint.unwrap_or_default();
        assert!(hint.contains("no git repository"), "{body:?} {hint}");
    }
    // So a server of files alone shows a repository without references.
    lab.forge.fault(URL, Some(Fault::Type("text/plain")));
    assert_eq!(list(&lab.direct(), MODULE).await.unwrap(), [""; 0]);
}

/// The references by one request, the commit by another, which is told what is here already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_costs_two_requests() {
    let lab = Lab::start().await;
    let mut history = small();
    history.commit("main", "four", [change::file("b.go", "package a\n")]);
    history.annotated("v1.2.0", "four");
    add(&lab, &history);
    let mut settings = lab.settings();
    settings.refs_life = Duration::ZERO;
    let direct = |settings: &DirectSettings| {
        let egress = Egress::new(lab.network(), Credentials::default());
        Direct::new(settings.clone(), egress)
    };
    let grown = direct(&settings);
    for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        let before = lab.forge.requests().len();
        info(&grown, MODULE, version).await.unwrap();
        let asked = lab.forge.requests().split_off(before);
        let git: Vec<&str> = asked
            .iter()
            .filter(|line| line.contains("git-upload-pack"))
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(git, ["GET", "POST"], "{version}: {asked:#?}");
    }
    // To git it is as good as what it fetches itself, and history can be had beside it.
    let of_branch = info(&grown, MODULE, "main").await.unwrap();
    settings.folder = lab.folder.path().join("fresh");
    let fresh = direct(&settings);
    let again = info(&fresh, MODULE, "main").await.unwrap();
    assert_eq!(again.info_json(), of_branch.info_json());
    for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        let again = zip(&fresh, MODULE, version).await.unwrap();
        assert_eq!(zip(&grown, MODULE, version).await.unwrap(), again);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_gives_no_commit_by_its_hash() {
    let lab = Lab::start().await;
    let mut history = small();
    for (commit, tag) in [("four", "v1.2.0"), ("five", "v1.3.0")] {
        let file = change::file("b.go", format!("package a // {tag}\n"));
        history.commit("main", commit, [file]);
        // What the server lists for it is the tag itself.
        history.annotated(tag, commit);
    }
    history.commit("main", "six", [change::file("c.go", "package a\n")]);
    add(&lab, &history);
    lab.forge.fault(URL, Some(Fault::OldProtocol));
    let direct = lab.direct();
    let mut asked = Vec::new();
    for version in ["v1.2.0", "v1.3.0"] {
        let before = lab.forge.requests().len();
        zip(&direct, MODULE, version).await.unwrap();
        asked.push(lab.forge.requests().len() - before);
    }
    assert!(asked[1] < asked[0], "it is asked by hash once: {asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_files_alone() {
    let lab = Lab::start().await;
    let built = add(&lab, &small());
    let smart = lab.direct();
    let mut settings = lab.settings();
    settings.refs_life = Duration::ZERO;
    settings.folder = lab.folder.path().join("files");
    let files = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    let fault = |fault| lab.forge.fault(URL, fault);
    let same = async |query: &str| {
        fault(None);
        let said = info(&smart, MODULE, query).await.unwrap();
        let whole = zip(&smart, MODULE, said.version.as_str()).await.unwrap();
        fault(Some(Fault::Files));
        let again = info(&files, MODULE, query).await.unwrap();
        assert_eq!(again.info_json(), said.info_json(), "{query}");
        let again = zip(&files, MODULE, said.version.as_str()).await.unwrap();
        assert_eq!(again, whole, "{query}");
    };
    for query in ["v1.0.0", "v1.1.0", "main", "latest", built.hash("two")] {
        same(query).await;
    }
    let mut grown = small();
    grown.commit("main", "four", [change::file("b.go", "package a\n")]);
    grown.annotated("v1.2.0", "four");
    grown.import(&built.folder);
    for query in ["v1.2.0", "main"] {
        same(query).await;
    }
    assert_eq!(list(&files, MODULE).await.unwrap().len(), 3);
    // One that gave commits without their history before.
    let mut settings = lab.settings();
    settings.folder = lab.folder.path().join("changed");
    let changed = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    fault(None);
    info(&changed, MODULE, "v1.0.0").await.unwrap();
    fault(Some(Fault::Files));
    zip(&changed, MODULE, "v1.1.0").await.unwrap();
    let main = info(&changed, MODULE, "main").await.unwrap();
    assert_eq!(main.version.as_str(), "v1.2.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lets_only_git_in() {
    let lab = Lab::start().await;
    add(&lab, &small());
    lab.forge.fault(URL, Some(Fault::OnlyGit));
    let direct = lab.direct();
    assert_eq!(list(&direct, MODULE).await.unwrap().len(), 2);
    zip(&direct, MODULE, "v1.0.0").await.unwrap();
    info(&direct, MODULE, "main").await.unwrap();
    // Also where it is tried out whether the repository that a path names answers.
    let named = "git.golden.test/small";
    lab.forge.alias(named, "small");
    lab.forge.fault(named, Some(Fault::OnlyGit));
    assert_eq!(list(&direct, URL).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_moved() {
    let lab = Lab::start().await;
    let built = add(&lab, &small());
    let mut settings = lab.settings();
    settings.refs_life = Duration::ZERO;
    let egress = || Egress::new(lab.network(), Credentials::default());
    let direct = Direct::new(settings.clone(), egress());
    let before = zip(&direct, MODULE, "v1.0.0").await.unwrap();
    let mut moved = small();
    moved.tag("v1.0.0", "three");
    moved.import(&built.folder);
    for (direct, seen) in [(direct, 1), (Direct::new(settings, egress()), 0)] {
        let said = info(&direct, MODULE, "v1.0.0").await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&said.info_json()).unwrap();
        let hash = json["Origin"]["Hash"].as_str().unwrap();
        let now = zip(&direct, MODULE, "v1.0.0").await.unwrap();
        // Old or new, but not a mixture.
        if hash == built.hash("one") {
            assert_eq!(now, before);
        } else {
            assert_eq!(hash, built.hash("three"));
            assert_ne!(now, before);
        }
        // Told once, not again after a restart.
        assert_eq!(direct.incidents().moved_tags, seen);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_rewritten() {
    let lab = Lab::start().await;
    let built = add(&lab, &small());
    let direct = lab.direct();
    info(&direct, MODULE, "main").await.unwrap();
    zip(&direct, MODULE, "v1.1.0").await.unwrap();
    let mut other = History::new();
    other.commit("main", "new", [change::file("go.mod", "module new.test\n")]);
    other.tag("v1.0.0", "new");
    other.commit("main", "tip", [change::file("b.go", "package b\n")]);
    fs::remove_dir_all(&built.folder).unwrap();
    let built = other.build(&built.folder);
    let main = info(&direct, MODULE, "main").await.unwrap();
    assert_eq!(main.version.as_str(), built.fill("v1.0.1-0.{tip:p}"));
    assert_eq!(list(&direct, MODULE).await.unwrap(), ["v1.0.0"]);
    let tip = main.version.as_str();
    assert_eq!(
        go_mod(&direct, MODULE, tip).await.unwrap(),
        b"module new.test\n"
    );
    zip(&direct, MODULE, tip).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_broken_on_disk() {
    let lab = Lab::start().await;
    add(&lab, &small());
    let breakers: [(&str, Harm); 5] = [
        ("packs and objects cut", |path| {
            if path.to_str().unwrap().contains("/objects/") {
                fs::write(path, b"PA").unwrap();
            }
        }),
        ("packs and objects gone", |path| {
            if path.to_str().unwrap().contains("/objects/") {
                fs::remove_file(path).unwrap();
            }
        }),
        ("HEAD and config gone", |path| {
            if path.ends_with("HEAD") || path.ends_with("config") {
                fs::remove_file(path).unwrap();
            }
        }),
        ("nonsense everywhere", |path| {
            fs::write(path, b"\0nonsense").unwrap()
        }),
        ("empty files", |path| fs::write(path, b"").unwrap()),
    ];
    for (name, harm) in breakers {
        println!("{name}");
        let direct = lab.direct();
        let before = zip(&direct, MODULE, "v1.0.0").await.unwrap();
        let main = info(&direct, MODULE, "main").await.unwrap();
        drop(direct);
        each_file(&lab.mirrors(), &harm);
        let direct = lab.direct();
        assert_eq!(
            zip(&direct, MODULE, "v1.0.0").await.unwrap(),
            before,
            "{name}"
        );
        let again = info(&direct, MODULE, "main").await.unwrap();
        assert_eq!(again.version, main.version, "{name}");
        // While it runs.
        each_file(&lab.mirrors(), &harm);
        let again = zip(&direct, MODULE, "v1.1.0").await;
        assert!(again.is_ok(), "{name}: {:?}", again.err());
    }
}

/// It is no damage: what is kept stays, and nothing is asked of the server again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_mirror_is_killed() {
    let lab = Lab::start().await;
    let mut history = small();
    // More than all buffers on the way.
    let large = change::file("large", noise(&mut 1, 16 << 20));
    history.commit("main", "large", [large]);
    history.tag("v1.2.0", "large");
    add(&lab, &history);
    let direct = lab.direct();
    let version = version("v1.2.0");
    info(&direct, MODULE, "v1.2.0").await.unwrap();
    let asked = lab.forge.requests().len();
    // It waits for the next question.
    kill_readers(&lab);
    go_mod(&direct, MODULE, "v1.2.0").await.unwrap();
    let whole = zip(&direct, MODULE, "v1.2.0").await.unwrap();
    let mut stream = direct.zip(&module(MODULE), &version, None).await.unwrap();
    let mut all = stream.next().await.unwrap().unwrap().to_vec();
    kill_readers(&lab);
    while let Some(part) = stream.next().await {
        all.extend_from_slice(&part.unwrap());
    }
    assert!(all == whole, "{} bytes of {}", all.len(), whole.len());
    assert_eq!(lab.forge.requests().len(), asked);
}

/// What is done to a file of a mirror.
type Harm = fn(&Path);

fn each_file(folder: &Path, act: &impl Fn(&Path)) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            each_file(&entry.path(), act);
        } else {
            let mut mode = fs::metadata(entry.path()).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
            fs::set_permissions(entry.path(), mode).unwrap();
            act(&entry.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_breaks_off() {
    let lab = Lab::start().await;
    add(&lab, &small());
    let direct = lab.direct();
    for bytes in [0, 1, 40, 200] {
        lab.forge.fault(URL, Some(Fault::CutPack(bytes)));
        let error = zip(&direct, MODULE, "v1.0.0").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{bytes} {error:?}");
    }
    lab.forge.fault(URL, None);
    zip(&direct, MODULE, "v1.0.0").await.unwrap();
    info(&direct, MODULE, "main").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_goes_away() {
    let lab = Lab::start().await;
    add(&lab, &small());
    lab.forge.fault(URL, Some(Fault::StallPack));
    let direct = Arc::new(lab.direct());
    let asking = tokio::spawn({
        let direct = Arc::clone(&direct);
        async move { zip(&direct, MODULE, "v1.0.0").await }
    });
    lab.forge
        .asked("POST https://git.golden.test/small.git/git-upload-pack")
        .await;
    asking.abort();
    let _ = asking.await;
    lab.forge.fault(URL, None);
    zip(&direct, MODULE, "v1.0.0").await.unwrap();
    drop(direct);
    no_children(&lab).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stalls() {
    let lab = Lab::start().await;
    add(&lab, &small());
    let mut settings = lab.settings();
    settings.process_timeout = Duration::from_secs(1);
    let egress = Egress::new(lab.network(), Credentials::default());
    let direct = Direct::new(settings, egress);
    for fault in [Fault::Stall, Fault::StallPack] {
        lab.forge.fault(URL, Some(fault.clone()));
        let start = Instant::now();
        let error = zip(&direct, MODULE, "v1.0.0").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout, "{fault:?} {error:?}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        no_children(&lab).await;
    }
    lab.forge.fault(URL, None);
    zip(&direct, MODULE, "v1.0.0").await.unwrap();
    no_children(&lab).await;
}

/// Bytes that no compression makes small.
fn noise(state: &mut u64, bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise
}
