//! What grows in the data folder beside what is kept for ever, and what keeps it small.

use std::{
    fs::File,
    path::Path,
    time::{Duration, SystemTime},
};

use testkit::{
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
    sumdb::Lie,
};

use crate::common::{bin, eventually, files, module, record, verified_lab};

async fn start(lab: &Lab, sumdb: &str, data: &Path) -> Modgate {
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.to_owned()),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let files = files(folder).into_iter();
    let mut names: Vec<_> = files
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A full tile stands for the partial ones of its place: here, and for the go command on the bare folder, whose heads are as old as the
/// lookups.
#[tokio::test(flavor = "multi_thread")]
async fn partial_tiles_go_when_the_full_one_is_kept() {
    let (lab, sumdb) = verified_lab(&[]).await;
    let key = sumdb.key().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut gate = start(&lab, &key, data).await;
    let database = data.join("go/sumdb/sum.lab.example");
    let tile = |name: &str| database.join("tile/8").join(name);
    let modules = ["a", "b", "c"].map(module);
    for (module, before) in modules.iter().zip([300, 100, 400]) {
        sumdb.add_others(before);
        record(&sumdb, module);
        lab.add(module.clone());
        for ending in ["info", "mod", "zip"] {
            assert_eq!(gate.get(&module.url_path(ending)).await.status, 200);
        }
        let lookup = format!("lookup/{}@{}", module.path(), module.version());
        eventually("its lookup is kept", async || {
            database.join(&lookup).exists()
        })
        .await;
        if module.path().ends_with("/b") {
            assert_eq!(names(&tile("0/001.p")), ["146", "45"]);
        }
    }
    eventually("the partial ones are gone", async || {
        !tile("0/001.p").exists()
    })
    .await;
    assert!(tile("0/001").exists());
    // Nothing stands for these: go asks for the very width that the head of a lookup has.
    assert_eq!(names(&tile("1/000.p")), ["1", "3"]);
    lab.stop().await;
    sumdb.lie(Lie::Unreachable).await;
    let full = std::fs::read(tile("0/001")).unwrap();
    for width in [1, 45, 100, 146, 255] {
        let path = format!("/sumdb/sum.lab.example/tile/8/0/001.p/{width}");
        let reply = gate.get(&path).await;
        assert_eq!((reply.status, &reply.body[..]), (200, &full[..width * 32]));
    }
    // One that was never kept is cut from a wider one.
    for width in [1, 2, 3] {
        let path = format!("/sumdb/sum.lab.example/tile/8/1/000.p/{width}");
        let reply = gate.get(&path).await;
        assert_eq!((reply.status, reply.body.len()), (200, width * 32));
    }
    assert!(gate.terminate().await.success());

    let proxy = format!("file://{}", data.join("go").display());
    for order in [&[0][..], &[1], &[2], &[0, 1, 2], &[2, 1, 0], &[1, 2, 0]] {
        let go = Go::new().proxy(&proxy).sumdb(&key).module("module x\n");
        for &at in order {
            let version = format!("{}@{}", modules[at].path(), modules[at].version());
            let got = go.run(&["mod", "download", &version]).await;
            assert!(got.ok, "{order:?}: {}", got.stderr);
        }
    }

    // What an earlier version left, or a kill.
    std::fs::create_dir(tile("0/001.p")).unwrap();
    std::fs::write(tile("0/001.p/45"), &full[..45 * 32]).unwrap();
    let _gate = start(&lab, &key, data).await;
    eventually("it is gone", async || !tile("0/001.p").exists()).await;
    assert_eq!(names(&tile("1/000.p")), ["1", "3"]);
}

/// A list that nobody uses goes, unless something of its module is kept.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_uses_go() {
    let lab = Lab::start().await;
    for name in ["kept", "unused", "used", "stale"] {
        lab.add(module(name));
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut gate = start(&lab, "off", data).await;
    let path = |name: &str| format!("/lab.example/{name}/@v/list");
    for name in ["kept", "unused", "used", "stale"] {
        assert_eq!(gate.get(&path(name)).await.status, 200);
    }
    assert_eq!(gate.get(&module("kept").url_path("mod")).await.status, 200);
    assert!(gate.terminate().await.success());
    lab.stop().await;
    let answer = |name: &str| data.join(format!("fresh{}", path(name)));
    let age = |name: &str, days: u64| {
        let at = SystemTime::now() - Duration::from_hours(days * 24);
        let file = File::options().write(true).open(answer(name)).unwrap();
        file.set_modified(at).unwrap();
        let text = std::fs::read_to_string(answer(name)).unwrap();
        let (head, list) = text.split_once('\n').unwrap();
        let (_, chain) = head.split_once(' ').unwrap();
        let at_ms = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        std::fs::write(answer(name), format!("{at_ms} {chain}\n{list}")).unwrap();
        file.set_modified(at).unwrap();
    };
    // In a long outage an answer that is used stays.
    age("stale", 89);
    let mut gate = start(&lab, "off", data).await;
    assert_eq!(gate.get(&path("stale")).await.status, 200);
    assert!(gate.terminate().await.success());
    let noted = answer("stale").metadata().unwrap().modified().unwrap();
    assert!(
        noted.elapsed().unwrap() < Duration::from_hours(1),
        "{noted:?}"
    );
    for (name, days) in [("kept", 100), ("unused", 100), ("used", 80)] {
        age(name, days);
    }
    let gate = start(&lab, "off", data).await;
    let unused = data.join("fresh/lab.example/unused");
    eventually("it goes", async || !unused.exists()).await;
    for name in ["kept", "used", "stale"] {
        assert!(answer(name).exists(), "{name}");
        assert_eq!(gate.get(&path(name)).await.status, 200, "{name}");
    }
}
