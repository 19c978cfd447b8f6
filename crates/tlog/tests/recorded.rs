//! Real answers of sum.golang.org (see `testdata/README.md`), verified as a client does it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use tlog::head::SignedHead;
use tlog::lookup::{Hashes, Lookup};
use tlog::merge::{Decision, merge};
use tlog::note::{SUM_GOLANG_ORG, VerifierKey};
use tlog::proof::{Plan, ProofError};
use tlog::tile::Tile;

fn recorded(path: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/sum.golang.org");
    fs::read(folder.join(path)).ok()
}

/// The tile itself, or cut from a wider one, as a client would do where partial tiles are gone.
fn tile(tile: &Tile) -> Vec<u8> {
    (tile.width()..=256)
        .filter_map(|width| Tile::new(tile.level(), tile.index(), width).ok())
        .find_map(|wider| Some(tile.cut(&wider, &recorded(&wider.to_string())?)?.to_vec()))
        .unwrap_or_else(|| panic!("{tile} was not recorded"))
}

fn tiles(wanted: &[Tile]) -> Vec<Vec<u8>> {
    wanted.iter().map(tile).collect()
}

fn lookup(path: &str) -> (Lookup, SignedHead) {
    let key: VerifierKey = SUM_GOLANG_ORG.parse().unwrap();
    let lookup = Lookup::parse(&recorded(path).unwrap()).unwrap();
    let head = SignedHead::verify(lookup.head_note(), &key).unwrap();
    (lookup, head)
}

#[test]
fn both_records_and_both_heads_verify() {
    let (quote, old) = lookup("lookup/rsc.io/quote@v1.5.2");
    let (module, new) = lookup("lookup/golang.org/x/mod@v0.42.0");
    assert_eq!((quote.id(), old.head().size), (942, 51_929_436));
    assert_eq!((module.id(), new.head().size), (67_638_482, 69_959_272));

    let Decision::Newer(first) = merge(None, &old) else {
        panic!("the first head")
    };
    assert_eq!(first.verify_consistency(&tiles(first.tiles())), Ok(()));
    let Decision::Newer(advance) = merge(Some(&old), &new) else {
        panic!("a newer head")
    };
    assert_eq!(advance.verify_consistency(&tiles(advance.tiles())), Ok(()));
    let Decision::Older(reverse) = merge(Some(&new), &old) else {
        panic!("an older head")
    };
    assert_eq!(reverse, advance);

    for (lookup, head) in [(&quote, &old), (&quote, &new), (&module, &new)] {
        let plan = Plan::record(head.head(), lookup.id()).unwrap();
        assert_eq!(
            plan.verify_record(&tiles(plan.tiles()), lookup.record().text()),
            Ok(())
        );
    }
    assert_eq!(
        Plan::record(old.head(), module.id()),
        Err(ProofError::RecordOutsideTree {
            id: 67_638_482,
            size: 51_929_436
        })
    );

    let hashes = quote.record().hashes("rsc.io/quote", "v1.5.2").unwrap();
    let expected = Hashes {
        zip: "h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=".to_owned(),
        go_mod: "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=".to_owned(),
    };
    assert_eq!(hashes, expected);
}

#[test]
fn each_altered_bit_of_a_tile_is_found() {
    let (quote, head) = lookup("lookup/rsc.io/quote@v1.5.2");
    let plan = Plan::record(head.head(), quote.id()).unwrap();
    let good = tiles(plan.tiles());
    for number in 0..good.len() {
        // The whole of small tiles, samples of large ones: each trial hashes everything.
        let step = good[number].len() / 16 + 1;
        for byte in (0..good[number].len()).step_by(step) {
            let mut forged = good.clone();
            forged[number][byte] ^= 0x10;
            let error = plan
                .verify_record(&forged, quote.record().text())
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    ProofError::EdgeMismatch { .. } | ProofError::TileMismatch { .. }
                ),
                "tile {number}, byte {byte}: {error}"
            );
        }
    }
}

#[test]
fn a_different_record_under_a_true_id_is_found() {
    let (quote, head) = lookup("lookup/rsc.io/quote@v1.5.2");
    let plan = Plan::record(head.head(), quote.id()).unwrap();
    let more = format!("{}evil.example v1.0.0 h1:x\n", quote.record().text());
    assert_eq!(
        plan.verify_record(&tiles(plan.tiles()), &more),
        Err(ProofError::LeafMismatch { id: 942 })
    );
}
