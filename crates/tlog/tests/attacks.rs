//! What a lying database, or somebody between it and us, may try. Each attack must end in the error that names it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use tlog::head::{HeadError, SignedHead, TreeHead};
use tlog::log::Log;
use tlog::lookup::{Lookup, RecordError};
use tlog::merge::{Decision, merge};
use tlog::note::{NoteError, SignerKey};
use tlog::proof::{Plan, ProofError};
use tlog::tile::Tile;

const ZIP: &str = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const MOD: &str = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn key() -> SignerKey {
    SignerKey::from_seed("db.example", [1; 32]).unwrap()
}

fn record(id: u64, story: &str) -> String {
    format!("{story}.example/m{id} v1.0.0 {ZIP}\n{story}.example/m{id} v1.0.0/go.mod {MOD}\n")
}

/// A log whose records up to `fork_at` are the honest ones, and from there on those of `story`.
fn log_of(size: u64, fork_at: u64, story: &str) -> Log {
    let mut log = Log::new();
    for id in 0..size {
        log.append(&record(id, if id < fork_at { "honest" } else { story }))
            .unwrap();
    }
    log
}

fn honest(size: u64) -> Log {
    log_of(size, size, "")
}

fn signed(log: &Log) -> SignedHead {
    SignedHead::verify(&log.signed_head(&key()).unwrap(), &key().verifier_key()).unwrap()
}

fn tiles(log: &Log, wanted: &[Tile]) -> Vec<Vec<u8>> {
    wanted.iter().map(|tile| log.tile(tile).unwrap()).collect()
}

/// Sizes around every change of the tree's shape, with a record on each kind of path.
const SHAPES: [(u64, u64); 9] = [
    (1, 0),
    (2, 1),
    (255, 254),
    (256, 7),
    (257, 256),
    (600, 300),
    (600, 599),
    (700, 3),
    (66_000, 40_000),
];

#[test]
fn honest_logs_verify() {
    for (size, id) in SHAPES {
        let log = honest(size);
        let plan = Plan::record(&log.head(), id).unwrap();
        assert_eq!(
            plan.verify_record(&tiles(&log, plan.tiles()), &record(id, "honest")),
            Ok(()),
            "{id} of {size}"
        );
    }
}

#[test]
fn a_forged_tile() {
    for (size, id) in SHAPES {
        let log = honest(size);
        let plan = Plan::record(&log.head(), id).unwrap();
        let good = tiles(&log, plan.tiles());
        for (number, tile) in plan.tiles().iter().enumerate() {
            // Every hash of the tile, not only those on the record's path: a kept tile serves other records later.
            for hash in 0..usize::from(tile.width()).min(40) {
                let mut forged = good.clone();
                forged[number][hash * 32] ^= 1;
                let error = plan
                    .verify_record(&forged, &record(id, "honest"))
                    .unwrap_err();
                assert!(
                    matches!(
                        error,
                        ProofError::EdgeMismatch { .. } | ProofError::TileMismatch { .. }
                    ),
                    "{tile} of {size}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_forged_record_with_a_forged_path_up_to_the_edge() {
    // The whole path is consistent in itself and differs from the signed root only at its top.
    let (log, evil) = (honest(66_000), log_of(66_000, 0, "evil"));
    let plan = Plan::record(&log.head(), 40_000).unwrap();
    let forged = tiles(&evil, plan.tiles());
    assert_eq!(
        plan.verify_record(&forged, &record(40_000, "evil")),
        Err(ProofError::EdgeMismatch { size: 66_000 })
    );
    // With the honest edge the forged path breaks at the first tile below it.
    let mut mixed = forged;
    let edge = plan.tiles().iter().filter(|tile| !tile.is_full()).count();
    mixed[..edge].clone_from_slice(&tiles(&log, &plan.tiles()[..edge]));
    let below = plan.tiles()[edge];
    assert_eq!(
        plan.verify_record(&mixed, &record(40_000, "evil")),
        Err(ProofError::TileMismatch {
            tile: below,
            size: 66_000
        })
    );
}

#[test]
fn tiles_of_wrong_size_or_number() {
    let log = honest(700);
    let plan = Plan::record(&log.head(), 3).unwrap();
    let good = tiles(&log, plan.tiles());
    for number in 0..good.len() {
        for change in [
            |tile: &mut Vec<u8>| tile.truncate(tile.len() - 1),
            |tile: &mut Vec<u8>| tile.truncate(tile.len() - 32),
            |tile: &mut Vec<u8>| tile.push(0),
            |tile: &mut Vec<u8>| tile.extend([0; 32]),
            Vec::clear,
        ] {
            let mut bad = good.clone();
            change(&mut bad[number]);
            let error = ProofError::Malformed {
                tile: plan.tiles()[number],
                bytes: bad[number].len(),
            };
            assert_eq!(plan.verify_record(&bad, &record(3, "honest")), Err(error));
        }
    }
    let planned = good.len();
    assert_eq!(
        plan.verify_record(&good[1..], &record(3, "honest")),
        Err(ProofError::TileCount {
            planned,
            given: planned - 1
        })
    );
    let mut swapped = good;
    swapped.reverse();
    assert!(plan.verify_record(&swapped, &record(3, "honest")).is_err());
}

#[test]
fn a_lookup_with_another_modules_record() {
    // The record is truly in the log: only its lines are not those that were asked for.
    let log = honest(600);
    let lookup = Lookup::parse(&log.lookup_body(7, &key()).unwrap().unwrap()).unwrap();
    let plan = Plan::record(&log.head(), lookup.id()).unwrap();
    assert_eq!(
        plan.verify_record(&tiles(&log, plan.tiles()), lookup.record().text()),
        Ok(())
    );
    assert!(
        lookup
            .record()
            .hashes("honest.example/m7", "v1.0.0")
            .is_ok()
    );
    assert_eq!(
        lookup.record().hashes("honest.example/m8", "v1.0.0"),
        Err(RecordError::Missing {
            what: "honest.example/m8 v1.0.0".to_owned()
        })
    );
}

#[test]
fn another_record_under_a_true_id_and_a_true_record_under_another_id() {
    let log = honest(600);
    let plan = Plan::record(&log.head(), 7).unwrap();
    let good = tiles(&log, plan.tiles());
    let extra = record(7, "honest") + &record(7, "evil");
    for text in [
        record(8, "honest"),
        extra,
        record(7, "honest").trim_end().to_owned(),
        String::new(),
    ] {
        assert_eq!(
            plan.verify_record(&good, &text),
            Err(ProofError::LeafMismatch { id: 7 })
        );
    }
    for id in [600, 601, u64::MAX] {
        assert_eq!(
            Plan::record(&log.head(), id),
            Err(ProofError::RecordOutsideTree { id, size: 600 })
        );
    }
}

#[test]
fn a_wrong_key() {
    let stranger = SignerKey::from_seed("db.example", [2; 32]).unwrap();
    let note = honest(5).signed_head(&stranger).unwrap();
    let error = SignedHead::verify(&note, &key().verifier_key()).unwrap_err();
    assert!(matches!(
        error,
        HeadError::Note(NoteError::NotSigned { .. })
    ));
    // The same with the true key's hash put on the stranger's signature.
    let true_note = honest(5).signed_head(&key()).unwrap();
    let other_text = String::from_utf8(true_note)
        .unwrap()
        .replacen("\n5\n", "\n6\n", 1);
    let error = SignedHead::verify(other_text.as_bytes(), &key().verifier_key()).unwrap_err();
    assert!(matches!(
        error,
        HeadError::Note(NoteError::InvalidSignature { .. })
    ));
}

#[test]
fn a_forked_tree() {
    for (kept, seen, fork_at) in [
        (300, 700, 0),
        (300, 700, 299),
        (256, 257, 255),
        (1, 66_000, 0),
        (600, 601, 599),
    ] {
        let (log, fork) = (honest(kept), log_of(seen, fork_at, "evil"));
        let Decision::Newer(plan) = merge(Some(&signed(&log)), &signed(&fork)) else {
            panic!()
        };
        let error = plan
            .verify_consistency(&tiles(&fork, plan.tiles()))
            .unwrap_err();
        let proof = ProofError::Fork {
            old: log.head(),
            new: fork.head(),
            computed: fork.head_at(kept).unwrap().root,
        };
        assert_eq!(error, proof, "{kept} -> {seen}, forked at {fork_at}");
    }
    // A fork behind the kept head is not one: both continue it.
    let (log, later) = (honest(300), log_of(700, 300, "evil"));
    let Decision::Newer(plan) = merge(Some(&signed(&log)), &signed(&later)) else {
        panic!()
    };
    assert_eq!(
        plan.verify_consistency(&tiles(&later, plan.tiles())),
        Ok(())
    );
}

#[test]
fn a_forked_tree_hidden_behind_honest_tiles() {
    // Honest tiles do not bear out a forked head: it is refused, though not proven to be a fork.
    let (log, fork) = (honest(700), log_of(700, 10, "evil"));
    let Decision::Newer(plan) = merge(Some(&signed(&honest(300))), &signed(&fork)) else {
        panic!()
    };
    assert_eq!(
        plan.verify_consistency(&tiles(&log, plan.tiles())),
        Err(ProofError::EdgeMismatch { size: 700 })
    );
}

#[test]
fn one_size_with_another_root() {
    let (log, fork) = (honest(700), log_of(700, 699, "evil"));
    let decision = merge(Some(&signed(&log)), &signed(&fork));
    assert_eq!(
        decision,
        Decision::Fork {
            kept: log.head(),
            seen: fork.head()
        }
    );
    assert!(matches!(
        Plan::consistency(&log.head(), &fork.head()),
        Err(ProofError::Fork { .. })
    ));
    assert_eq!(
        Plan::consistency(&log.head(), &honest(5).head()),
        Err(ProofError::Shrunk { old: 700, new: 5 })
    );
}

#[test]
fn a_replayed_old_head() {
    // An old head of the same log is true, but moves nothing; one of another log is a fork.
    let (log, old, forked) = (honest(700), honest(300), log_of(300, 299, "evil"));
    let kept = signed(&log);
    let Decision::Older(plan) = merge(Some(&kept), &signed(&old)) else {
        panic!()
    };
    assert_eq!(plan.verify_consistency(&tiles(&log, plan.tiles())), Ok(()));
    let Decision::Older(plan) = merge(Some(&kept), &signed(&forked)) else {
        panic!()
    };
    assert!(matches!(
        plan.verify_consistency(&tiles(&log, plan.tiles())),
        Err(ProofError::Fork { .. })
    ));
}

#[test]
fn a_root_that_no_tiles_bear_out() {
    let mut head = honest(700).head();
    head.root.0[0] ^= 1;
    let log = honest(700);
    let plan = Plan::record(&head, 3).unwrap();
    assert_eq!(
        plan.verify_record(&tiles(&log, plan.tiles()), &record(3, "honest")),
        Err(ProofError::EdgeMismatch { size: 700 })
    );
    let plan = Plan::consistency(&TreeHead::empty(), &head).unwrap();
    assert_eq!(
        plan.verify_consistency(&tiles(&log, plan.tiles())),
        Err(ProofError::EdgeMismatch { size: 700 })
    );
}

#[test]
fn no_tile_is_planned_twice_and_parents_come_first() {
    for (size, id) in SHAPES {
        let plan = Plan::record(
            &TreeHead {
                size,
                ..TreeHead::empty()
            },
            id,
        )
        .unwrap();
        let places: HashMap<_, _> = plan
            .tiles()
            .iter()
            .enumerate()
            .map(|(at, tile)| ((tile.level(), tile.index()), at))
            .collect();
        assert_eq!(places.len(), plan.tiles().len());
        for (at, tile) in plan
            .tiles()
            .iter()
            .enumerate()
            .filter(|(_, tile)| tile.is_full())
        {
            assert!(
                places[&(tile.level() + 1, tile.index() / 256)] < at,
                "{tile}"
            );
        }
    }
}
