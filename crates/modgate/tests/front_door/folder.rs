//! The data folder as clients use it by itself: `GOPROXY=file://…/go`, with its lists true at any moment.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, time::SystemTime};

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    lab::Lab,
    tls::{Certificate, Pem},
};

use crate::common::{bin, eventually};

const MODULE: &str = "lab.example/listed";

fn list(data: &Path) -> String {
    let list = data.join("go").join(MODULE).join("@v/list");
    std::fs::read_to_string(list).unwrap_or_default()
}

async fn listed(data: &Path, wanted: &str) {
    let what = format!("the list is {wanted:?}");
    eventually(&what, async || list(data) == wanted).await;
}

fn command(data: &Path, arguments: &[&str]) {
    let mut command = crate::common::command();
    let done = command
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_list_has_what_can_be_used_and_no_kill_or_retirement_makes_it_wrong() {
    let lab = Lab::start().await;
    let versions: Vec<Module> = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"]
        .map(|version| Module::new(MODULE, version))
        .into();
    for version in &versions {
        lab.add(version.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let start = async || {
        let options = Options {
            upstream: Some(lab.url()),
            sumdb: Some("off".to_owned()),
            data: Some(data.to_owned()),
            ..Options::default()
        };
        Modgate::start(bin(), options).await
    };
    let mut gate = start().await;
    let get = async |gate: &Modgate, version: &Module, ending: &str| {
        let reply = gate.get(&version.url_path(ending)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    // A version of which only the info is kept cannot be used without an upstream.
    get(&gate, &versions[0], "info").await;
    get(&gate, &versions[1], "mod").await;
    listed(data, "v1.1.0\n").await;
    eventually("all is written", async || {
        !data.join("lists.unwritten").exists()
    })
    .await;

    // Killed when the file is kept and the list is not.
    get(&gate, &versions[2], "mod").await;
    let kept = data.join("go").join(&versions[2].url_path("mod")[1..]);
    eventually("it is kept", async || kept.exists()).await;
    gate.kill9().await;
    assert!(
        data.join("lists.unwritten").exists() || list(data) == "v1.1.0\nv1.2.0\n",
        "nothing says that the list is not true"
    );
    let mut gate = start().await;
    listed(data, "v1.1.0\nv1.2.0\n").await;

    // Retired while it runs, and while it does not.
    command(
        data,
        &["retire", &format!("{MODULE}@v1.1.0"), "--reason", "x"],
    );
    listed(data, "v1.2.0\n").await;
    assert!(gate.terminate().await.success());
    command(
        data,
        &["retire", &format!("{MODULE}@v1.2.0"), "--reason", "x"],
    );
    let gate = start().await;
    listed(data, "").await;
    command(data, &["unretire", &format!("{MODULE}@v1.2.0")]);
    listed(data, "v1.2.0\n").await;
    drop(gate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_file_that_somebody_wrote_to_is_set_aside_and_fetched_again() {
    let lab = Lab::start().await;
    // One that is sent from memory, and one from its file.
    let modules = [
        crate::common::module("small"),
        fixture::big("lab.example/large", "v1.0.0", 3),
    ];
    for module in &modules {
        lab.add(module.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let options = || Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    let mut gate = Modgate::start(bin(), options()).await;
    let file = |module: &Module| data.join("go").join(&module.url_path("zip")[1..]);
    let alter = |module: &Module| {
        let file = File::options().write(true).open(file(module)).unwrap();
        file.write_all_at(b"altered", 1000).unwrap();
    };
    let right = async |gate: &Modgate, module: &Module| {
        let reply = gate.get(&module.url_path("zip")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(
            reply.body == module.zip(),
            "other bytes of {}",
            module.path()
        );
    };
    let corrupt = async |gate: &Modgate| {
        let page = gate.get("/metrics").await.text();
        let line = page
            .lines()
            .find(|line| line.starts_with("modgate_disk_tier_corrupt_total"));
        line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
    };
    for module in &modules {
        right(&gate, module).await;
    }
    let indexed = async || {
        let records = crate::kept_records::records(data).await;
        for module in &modules {
            let key = format!("go{}", module.url_path("zip"));
            if records.object(&key).await.unwrap().is_none() {
                return false;
            }
        }
        true
    };
    eventually("they are in the index", indexed).await;
    // While it is open: what is in memory is right anyway.
    for module in &modules {
        right(&gate, module).await;
        alter(module);
        right(&gate, module).await;
    }
    assert_eq!(corrupt(&gate).await, "1");
    assert!(gate.terminate().await.success());
    // While nobody looks.
    alter(&modules[1]);
    let mut gate = Modgate::start(bin(), options()).await;
    for module in &modules {
        right(&gate, module).await;
        eventually("it is kept again", async || {
            std::fs::read(file(module)).is_ok_and(|bytes| bytes == module.zip())
        })
        .await;
    }
    assert_eq!(corrupt(&gate).await, "2");
    let aside = |module: &Module| {
        data.join("quarantine/go")
            .join(&module.url_path("zip")[1..])
    };
    for module in &modules {
        let set_aside = std::fs::read(aside(module)).unwrap();
        assert_eq!(set_aside[1000..1007], *b"altered");
    }
    // Noted anew, with what was kept again.
    eventually("they are in the index", indexed).await;
    // Nobody has it any more: then it is not there, but never wrong.
    assert!(gate.terminate().await.success());
    lab.stop().await;
    alter(&modules[0]);
    // A copy that lost its time and not its bytes.
    let copy = File::options().write(true).open(file(&modules[1])).unwrap();
    copy.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let gate = Modgate::start(bin(), options()).await;
    right(&gate, &modules[1]).await;
    let reply = gate.get(&modules[0].url_path("zip")).await;
    assert!(reply.status >= 500, "{}", reply.text());
}

/// Over TLS bodies are read from a mapping, which ends a process that reads where there is no file any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_file_that_somebody_cuts_short_does_not_end_the_server() {
    let lab = Lab::start().await;
    let module = fixture::big("lab.example/large", "v1.0.0", 8);
    lab.add(module.clone());
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        tls: Some(Pem::new(Certificate::Good)),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let path = module.url_path("zip");
    let file = gate.data_dir().join("go").join(&path[1..]);
    let cut = || File::options().write(true).open(&file).unwrap().set_len(9);
    for _ in 0..2 {
        assert!(gate.get(&path).await.body == module.zip());
    }
    cut().unwrap();
    let again = gate.get(&path).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert!(again.body == module.zip());

    // While it is sent.
    assert!(gate.get(&path).await.body == module.zip());
    let mut reply = gate.client().get(gate.url() + &path).send().await.unwrap();
    assert!(reply.chunk().await.unwrap().is_some());
    cut().unwrap();
    while let Ok(Some(_)) = reply.chunk().await {}
    assert!(gate.get(&path).await.body == module.zip());
}

/// Commands work on what lies there now, the server goes on with what it opened: that is said though nobody asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_another_one_replaced_is_told() {
    let lab = Lab::start().await;
    let above = tempfile::tempdir().unwrap();
    let data = above.path().join("data");
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        data: Some(data.clone()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    std::fs::rename(&data, above.path().join("away")).unwrap();
    gate.logged("the data folder was removed, or another one", 1)
        .await;
    let ready = gate.get("/readyz").await;
    assert_eq!(ready.status, 200, "it serves");
    assert!(ready.text().contains("start it again"), "{}", ready.text());
}
