//! Direct fetches that are killed half-way, or go on while the configuration is read again.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use forge::{Fault, Forge, History, change};
use testkit::gate::{Modgate, Options, Reply};

use crate::common::{bin, eventually, files};

const URL: &str = "127.0.0.1/lib.git";
const ZIP: &str = "/corp.test/lib/@v/v1.0.0.zip";

/// A repository whose objects come in more than one piece.
fn history() -> History {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut noise = String::new();
    while noise.len() < 2 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let _ = write!(noise, "{state:016x}");
    }
    let mut history = History::new();
    let first = [
        change::file("go.mod", "module corp.test/lib\n\ngo 1.21\n"),
        change::file("noise.txt", &noise),
    ];
    history.commit("main", "one", first);
    history.tag("v1.0.0", "one");
    let second = [change::file("more.go", "package lib\n")];
    history.commit("main", "two", second);
    history.tag("v1.1.0", "two");
    history
}

fn config(forge: &Forge, more: &str) -> String {
    format!(
        "chain = \"off\"\nprivate = [\"corp.test/*\"]\n\
         [negative]\nabsent = \"0s\"\ntrouble = \"0s\"\n\
         [network]\nca_file = \"{}\"\nca_only = true\n\
         [[vcs]]\nprefix = \"corp.test\"\nrepo = \"{}/{{1}}.git\"\n{more}",
        forge.ca_file().display(),
        forge.https()
    )
}

async fn gateway(forge: &Forge, data: &Path, more: &str) -> Modgate {
    let options = Options {
        data: Some(data.to_owned()),
        sumdb: Some("off".to_owned()),
        config: Some(config(forge, more)),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// Processes that work in the folder of mirrors, git itself and what it started.
fn children(data: &Path) -> Vec<u32> {
    let mirrors = data.join("vcs").canonicalize().unwrap_or_default();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let inside = |id: &u32| {
        let cwd = fs::read_link(format!("/proc/{id}/cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(&mirrors))
    };
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    ids.filter(inside).collect()
}

/// What came of a pack so far.
fn halves(data: &Path) -> Vec<PathBuf> {
    let half = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("tmp_pack") && fs::metadata(file).is_ok_and(|data| data.len() > 100_000)
    };
    files(&data.join("vcs")).into_iter().filter(half).collect()
}

/// Asks for the zip, and waits until half of it is on the disk.
async fn half_way(gate: &Modgate) -> tokio::task::JoinHandle<Option<Reply>> {
    let url = gate.url() + ZIP;
    let client = gate.client();
    let asking = tokio::spawn(async move {
        let reply = client.get(url).send().await.ok()?;
        let status = reply.status().as_u16();
        let headers = reply.headers().clone();
        let body = reply.bytes().await.ok()?;
        Some(Reply {
            status,
            headers,
            body,
        })
    });
    eventually("half of a pack is there", async || {
        !halves(gate.data_dir()).is_empty()
    })
    .await;
    asking
}

/// The zip as one gets it whom nobody disturbs.
async fn truth(forge: &Forge) -> Vec<u8> {
    let data = tempfile::tempdir().unwrap();
    let gate = gateway(forge, data.path(), "").await;
    let zip = gate.get(ZIP).await;
    assert_eq!(zip.status, 200, "{}", zip.text());
    zip.body.to_vec()
}

/// Everything that can be asked of the repository is answered.
async fn answers(gate: &Modgate, zip: &[u8]) {
    let list = gate.get("/corp.test/lib/@v/list").await;
    assert_eq!(list.text(), "v1.0.0\nv1.1.0\n");
    let got = gate.get(ZIP).await;
    assert_eq!(got.status, 200, "{}\n{}", got.text(), gate.logs());
    assert!(got.body == zip, "another zip than before");
    for what in ["v1.1.0.info", "v1.1.0.mod", "v1.1.0.zip", "main.info"] {
        let got = gate.get(&format!("/corp.test/lib/@v/{what}")).await;
        assert_eq!(got.status, 200, "{what}: {}", got.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn modgate_is_killed_in_the_middle_of_a_fetch() {
    let forge = Forge::start().await;
    forge.add("lib", &history());
    let zip = truth(&forge).await;
    let data = tempfile::tempdir().unwrap();
    for hang in [300_000, 1_000_000] {
        forge.fault(URL, Some(Fault::HangPack(hang)));
        let mut gate = gateway(&forge, data.path(), "").await;
        let asking = half_way(&gate).await;
        let orphans = children(data.path());
        assert!(!orphans.is_empty());
        gate.kill9().await;
        assert!(asking.await.unwrap().is_none());
        // git knows nothing of it, and is at work still.
        forge.fault(URL, None);
        let mut gate = gateway(&forge, data.path(), "").await;
        answers(&gate, &zip).await;
        eventually("what was left is swept out", async || {
            halves(data.path()).is_empty()
        })
        .await;
        let left = children(data.path());
        assert!(
            orphans.iter().all(|id| !left.contains(id)),
            "an orphan lives"
        );
        gate.kill9().await;
        fs::remove_dir_all(data.path().join("go")).unwrap();
        fs::remove_dir_all(data.path().join("vcs")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_is_killed_in_the_middle_of_a_fetch() {
    let forge = Forge::start().await;
    forge.add("lib", &history());
    let zip = truth(&forge).await;
    let data = tempfile::tempdir().unwrap();
    forge.fault(URL, Some(Fault::HangPack(500_000)));
    let gate = gateway(&forge, data.path(), "").await;
    let asking = half_way(&gate).await;
    // From here on all is well again, but for what is killed.
    forge.fault(URL, None);
    for id in children(data.path()) {
        let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
    // Fetched again at once, or said to be trouble: never half of it, and never that there is none.
    let first = asking.await.unwrap().unwrap();
    assert!(matches!(first.status, 200 | 502), "{}", first.text());
    assert!(first.status != 200 || first.body == zip);
    answers(&gate, &zip).await;
    assert!(halves(data.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_while_the_configuration_is_read_again() {
    let forge = Forge::start().await;
    forge.add("lib", &history());
    let zip = truth(&forge).await;
    let data = tempfile::tempdir().unwrap();
    forge.fault(URL, Some(Fault::HangPack(500_000)));
    let limit = "[direct]\nprocess_timeout = \"4s\"\n";
    let gate = gateway(&forge, data.path(), limit).await;
    let asking = half_way(&gate).await;
    let half = halves(data.path());
    gate.rewrite_config(&config(&forge, "[direct]\nprocess_timeout = \"20s\"\n"));
    gate.logged("configuration read again", 1).await;
    forge.fault(URL, None);
    // Another version of the same repository, by the new settings: it waits for its turn, and sweeps nothing away.
    let url = format!("{}/corp.test/lib/@v/v1.1.0.mod", gate.url());
    let mut other = tokio::spawn(gate.client().get(url).send());
    let early = tokio::time::timeout(Duration::from_millis(500), &mut other);
    early.await.expect_err("it did not wait");
    assert_eq!(halves(data.path()), half);
    // The one that hangs is given up by the limit that it began with.
    let first = asking.await.unwrap().unwrap();
    assert_eq!(first.status, 504, "{}", first.text());
    assert_eq!(other.await.unwrap().unwrap().status(), 200);
    answers(&gate, &zip).await;
}
