//! SIGKILL in the middle of downloads, again and again.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    go::Go,
};
use tlog::{head::SignedHead, lookup::Lookup, note::VerifierKey, proof::Plan, tile::Tile};
use tokio::task::JoinSet;

use crate::common::{bin, eventually, files, no_temporary_files, verified_lab};

const KILLS: u64 = 200;

/// Random numbers from a seed that a failure names (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit.max(1)
    }
}

/// All files that there may ever be of these modules, by their path on a proxy.
fn truth(modules: &[Module]) -> HashMap<String, Vec<u8>> {
    let of = |module: &Module| {
        [
            (module.url_path("info"), module.info()),
            (module.url_path("mod"), module.mod_file()),
            (module.url_path("zip"), module.zip()),
            (module.url_path("ziphash"), module.h1().into_bytes()),
        ]
    };
    modules.iter().flat_map(of).collect()
}

/// Whatever stands under a final name is right.
fn check_kept(data: &Path, truth: &HashMap<String, Vec<u8>>) -> Vec<PathBuf> {
    let go = data.join("go");
    let mut kept = files(&go);
    kept.retain(|file| {
        let name = format!("/{}", file.strip_prefix(&go).unwrap().display());
        let Some(right) = truth.get(&name) else {
            assert!(
                name.starts_with("/sumdb/") || name.ends_with("/list"),
                "{name}"
            );
            return false;
        };
        let info = ending(&name) == "info";
        let kept = std::fs::read(file).unwrap();
        assert!(
            kept == *right || info && same_json(&kept, right),
            "wrong bytes are kept as {name}"
        );
        true
    });
    kept
}

/// Every kept record can be proven under the kept head by kept tiles alone: by a client, with nobody to ask.
fn check_provable(data: &Path, key: &VerifierKey) -> usize {
    let public = data.join("go/sumdb").join(key.name());
    let lookups = files(&public.join("lookup"));
    let Ok(note) = std::fs::read(data.join("sumdb").join(key.name()).join("latest")) else {
        assert!(lookups.is_empty(), "records without a head: {lookups:?}");
        return 0;
    };
    let head = SignedHead::verify(&note, key).unwrap();
    let tile = |tile: &Tile| {
        let of = |form: &Tile| std::fs::read(public.join(form.to_string())).ok();
        of(tile).or_else(|| Some(tile.cut(&tile.full(), &of(&tile.full())?)?.to_vec()))
    };
    for file in &lookups {
        let lookup = Lookup::parse(&std::fs::read(file).unwrap()).unwrap();
        let plan = Plan::record(head.head(), lookup.id()).unwrap();
        let tiles: Option<Vec<_>> = plan.tiles().iter().map(tile).collect();
        let tiles = tiles.unwrap_or_else(|| panic!("{} lacks a tile", file.display()));
        let proven = plan.verify_record(&tiles, lookup.record().text());
        proven.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    lookups.len()
}

/// Whether every version of which a `.mod` is kept is in the list of its folder.
fn all_listed(data: &Path) -> bool {
    let kept = files(&data.join("go"));
    let mut mods = kept
        .iter()
        .filter(|file| ending(&file.to_string_lossy()) == "mod");
    mods.all(|file| {
        let version = file.file_stem().unwrap().to_string_lossy();
        let list = std::fs::read_to_string(file.with_file_name("list")).unwrap_or_default();
        list.lines().any(|line| line == version)
    })
}

fn ending(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

fn same_json(one: &[u8], other: &[u8]) -> bool {
    let json = serde_json::from_slice::<serde_json::Value>;
    json(one).unwrap() == json(other).unwrap()
}

/// Asks for everything at once, the zips twice; an answer that comes whole is right.
fn ask_all(gate: &Modgate, truth: &HashMap<String, Vec<u8>>) -> JoinSet<bool> {
    let mut asking = JoinSet::new();
    for (path, right) in truth {
        let clients = match ending(path) {
            "zip" => 2,
            "ziphash" => 0,
            _ => 1,
        };
        for _ in 0..clients {
            let (url, client) = (format!("{}{path}", gate.url()), gate.client());
            let (path, right) = (path.clone(), right.clone());
            asking.spawn(async move {
                let Ok(reply) = client.get(url).send().await else {
                    return false;
                };
                let status = reply.status();
                let Ok(body) = reply.bytes().await else {
                    return false;
                };
                assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
                let info = ending(&path) == "info";
                assert!(
                    body == right || info && same_json(&body, &right),
                    "{path}: a wrong body was served"
                );
                true
            });
        }
    }
    asking
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_never_serves_a_wrong_byte() {
    let modules: Vec<Module> = (1..=3)
        .map(|n| fixture::big(&format!("lab.example/big{n}"), "v1.0.0", n))
        .chain(fixture::project(3))
        .collect();
    let (lab, sumdb) = verified_lab(&modules).await;
    let truth = truth(&modules);
    let key = sumdb.key().to_string();
    let data = tempfile::tempdir().unwrap();
    let options = || Options {
        upstream: Some(lab.url()),
        sumdb: Some(key.clone()),
        data: Some(data.path().to_owned()),
        ..Options::default()
    };
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    let mut dice = Dice(seed);

    // How long all of it takes, at first; then so long that about one half of the answers come whole.
    let mut gate = Modgate::start(bin(), options()).await;
    let begin = Instant::now();
    assert!(
        ask_all(&gate, &truth)
            .join_all()
            .await
            .into_iter()
            .all(|ok| ok)
    );
    let mut span = u64::try_from(begin.elapsed().as_micros()).unwrap();
    gate.kill9().await;

    let (mut broken, mut served, mut proven) = (0, 0, 0);
    for round in 0..KILLS {
        proven += check_provable(data.path(), &sumdb.key());
        // What is kept would not be fetched again: about a half of it goes while nobody serves it.
        for file in check_kept(data.path(), &truth) {
            if dice.below(2) == 0 {
                std::fs::remove_file(file).unwrap();
            }
        }
        if dice.below(4) == 0 {
            let _ = std::fs::remove_dir_all(data.path().join("go/sumdb"));
        }
        let mut gate = Modgate::start(bin(), options()).await;

        // Parts of downloads go at the start; lists are written then, which takes moments.
        no_temporary_files(&gate).await;
        for (path, right) in truth.iter().filter(|(path, _)| ending(path) == "zip") {
            let kept = gate.get(&format!("/cached-only{path}")).await;
            assert!(
                kept.status == 404 || kept.status == 200 && kept.body == *right,
                "round {round}: {path}: {}",
                kept.status
            );
        }
        eventually("lists are true", async || all_listed(data.path())).await;
        // The tree grows, so that heads move too.
        sumdb.add_others(dice.below(100));
        let asking = ask_all(&gate, &truth);
        tokio::time::sleep(Duration::from_micros(dice.below(span))).await;
        gate.kill9().await;
        for whole in asking.join_all().await {
            *(if whole { &mut served } else { &mut broken }) += 1;
        }
        span = if broken < served {
            span * 15 / 16
        } else {
            span * 17 / 16
        };
    }
    println!("{broken} answers broke off, {served} came whole");
    assert!(broken > KILLS && served > KILLS, "the moments hit nothing");
    println!("{proven} records were proven from what was kept");
    assert!(proven > 0);

    let gate = Modgate::start(bin(), options()).await;
    assert!(
        ask_all(&gate, &truth)
            .join_all()
            .await
            .into_iter()
            .all(|ok| ok)
    );
    check_kept(data.path(), &truth);
    let client = Go::new()
        .proxy(&gate.url())
        .sumdb(&key)
        .module("module x\n");
    for module in &modules {
        let version = format!("{}@{}", module.path(), module.version());
        let done = client.run(&["mod", "download", &version]).await;
        assert!(done.ok, "{}\n{}", done.stderr, gate.logs());
    }
}
