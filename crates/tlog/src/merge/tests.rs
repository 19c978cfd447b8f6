//! Each way in which a seen head can meet the kept one.

use super::*;
use crate::log::Log;
use crate::note::{self, SignerKey};
use crate::proof::ProofError;

fn log_of(size: u64, prefix: &str) -> Log {
    let mut log = Log::new();
    for id in 0..size {
        log.append(&format!("{prefix} {id}\n")).unwrap();
    }
    log
}

fn sign(head: TreeHead) -> SignedHead {
    let key = SignerKey::from_seed("db.example", [1; 32]).unwrap();
    SignedHead::verify(
        &note::sign(&head.to_string(), &key).unwrap(),
        &key.verifier_key(),
    )
    .unwrap()
}

fn prove(plan: &Plan<Continuation>, log: &Log) -> Result<(), ProofError> {
    let tiles: Vec<_> = plan
        .tiles()
        .iter()
        .map(|tile| log.tile(tile).unwrap())
        .collect();
    plan.verify_consistency(&tiles)
}

#[test]
fn same_newer_older() {
    let log = log_of(700, "record");
    let (early, late) = (sign(log.head_at(300).unwrap()), sign(log.head()));
    assert_eq!(merge(Some(&early), &early), Decision::Same);

    let Decision::Newer(plan) = merge(Some(&early), &late) else {
        panic!()
    };
    assert_eq!((plan.old(), plan.head()), (early.head(), late.head()));
    assert_eq!(prove(&plan, &log), Ok(()));

    let Decision::Older(plan) = merge(Some(&late), &early) else {
        panic!()
    };
    assert_eq!((plan.old(), plan.head()), (early.head(), late.head()));
    assert_eq!(prove(&plan, &log), Ok(()));

    let Decision::Newer(plan) = merge(None, &late) else {
        panic!()
    };
    assert_eq!(plan.old(), &TreeHead::empty());
    assert_eq!(prove(&plan, &log), Ok(()));
}

#[test]
fn forks_of_one_size_are_seen_at_once_and_others_by_the_proof() {
    let (log, fork) = (log_of(700, "record"), log_of(700, "forked"));
    let (honest, forked) = (sign(log.head()), sign(fork.head()));
    assert_eq!(
        merge(Some(&honest), &forked),
        Decision::Fork {
            kept: *honest.head(),
            seen: *forked.head()
        }
    );

    let early = sign(log.head_at(300).unwrap());
    let Decision::Newer(plan) = merge(Some(&early), &forked) else {
        panic!()
    };
    assert!(matches!(prove(&plan, &fork), Err(ProofError::Fork { .. })));
    let Decision::Older(plan) = merge(Some(&forked), &early) else {
        panic!()
    };
    assert!(matches!(prove(&plan, &fork), Err(ProofError::Fork { .. })));
}

#[test]
fn the_empty_tree() {
    let empty = sign(TreeHead::empty());
    let Decision::Newer(plan) = merge(None, &empty) else {
        panic!()
    };
    assert_eq!(plan.tiles(), []);
    assert_eq!(prove(&plan, &Log::new()), Ok(()));
    // A head of no records with some other root is no tree at all.
    let odd = sign(TreeHead {
        size: 0,
        root: log_of(1, "record").head().root,
    });
    let Decision::Newer(plan) = merge(None, &odd) else {
        panic!()
    };
    assert_eq!(
        prove(&plan, &Log::new()),
        Err(ProofError::EdgeMismatch { size: 0 })
    );
    assert!(matches!(merge(Some(&empty), &odd), Decision::Fork { .. }));
}
