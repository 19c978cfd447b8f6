//! The invariant of `tlog::proof`: with the tiles of every plan kept, whatever was proven under an older head can be
//! proven again under the newest from kept tiles alone. A gateway that serves its newest head with every kept lookup
//! relies on it when it is offline.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use tlog::head::TreeHead;
use tlog::log::Log;
use tlog::proof::Plan;
use tlog::tile::Tile;

/// Heads and records of one run: for each step how much the log grows, and which records are proven then.
fn runs() -> impl Strategy<Value = Vec<(u64, Vec<u64>)>> {
    // Growth of every magnitude, so that right edges of up to six levels come and go.
    let growth = (0..46_u32).prop_flat_map(|bits| (1_u64 << bits)..=(2_u64 << bits));
    // Multiples of a tile and of a tile of tiles are where levels have no edge tile.
    let growth = prop_oneof![
        growth,
        (1..4_u64).prop_map(|n| n * 256),
        (1..4_u64).prop_map(|n| n * 65_536),
        1..300_u64
    ];
    prop::collection::vec((growth, prop::collection::vec(any::<u64>(), 0..4)), 1..7)
}

fn head(size: u64) -> TreeHead {
    // Planning looks at sizes only.
    TreeHead {
        size,
        ..TreeHead::empty()
    }
}

fn record_tiles(size: u64, id: u64) -> Vec<Tile> {
    Plan::record(&head(size), id).unwrap().tiles().to_vec()
}

fn consistency_tiles(old: u64, new: u64) -> Vec<Tile> {
    Plan::consistency(&head(old), &head(new))
        .unwrap()
        .tiles()
        .to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn proven_once_is_provable_for_ever(run in runs()) {
        let mut kept: HashSet<Tile> = HashSet::new();
        let mut size = 0;
        let mut heads = vec![0];
        let mut proven: Vec<u64> = Vec::new();
        for (growth, ids) in run {
            let newer = size + growth;
            kept.extend(consistency_tiles(size, newer));
            size = newer;
            for id in ids {
                kept.extend(record_tiles(size, id % size));
                proven.push(id % size);
            }
            // Every record, and every head a client may come back with, from kept tiles as they are named under
            // the newest head.
            for &id in &proven {
                for tile in record_tiles(size, id) {
                    prop_assert!(kept.contains(&tile), "record {id} of {size}: {tile}");
                }
            }
            for &old in &heads {
                for tile in consistency_tiles(old, size) {
                    prop_assert!(kept.contains(&tile), "{old} -> {size}: {tile}");
                }
            }
            heads.push(size);
        }
    }

    #[test]
    fn plans_are_small(size in 1..=i64::MAX as u64, shift in 0..63_u32, old: u64, id: u64) {
        let size = (size >> shift).max(1);
        let plan = record_tiles(size, id % size);
        prop_assert!(plan.len() <= 8 + 8);
        let plan = consistency_tiles(old % (size + 1), size);
        prop_assert!(plan.len() <= 8 + 8, "{}", plan.len());
        // One width for each place: partial on the edge, full below it.
        let places: BTreeMap<_, _> = plan.iter().map(|tile| ((tile.level(), tile.index()), tile.width())).collect();
        prop_assert_eq!(places.len(), plan.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The same with a real log and real verification, from what was kept and nothing else.
    #[test]
    fn kept_tiles_verify(sizes in prop::collection::vec(1..3000_u64, 1..5), ids in prop::collection::vec(any::<u64>(), 8)) {
        let mut sizes = sizes;
        sizes.sort_unstable();
        sizes.dedup();
        let record = |id: u64| format!("record {id}\n");
        let mut log = Log::new();
        let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut old = TreeHead::empty();
        let mut proven = Vec::new();
        for size in sizes {
            while log.size() < size {
                log.append(&record(log.size())).unwrap();
            }
            let advance = Plan::consistency(&old, &log.head()).unwrap();
            let tiles: Vec<_> = advance.tiles().iter().map(|tile| log.tile(tile).unwrap()).collect();
            prop_assert_eq!(advance.verify_consistency(&tiles), Ok(()));
            kept.extend(advance.tiles().iter().map(Tile::to_string).zip(tiles));
            old = log.head();
            for id in ids.iter().map(|id| id % size) {
                let plan = Plan::record(&old, id).unwrap();
                let tiles: Vec<_> = plan.tiles().iter().map(|tile| log.tile(tile).unwrap()).collect();
                prop_assert_eq!(plan.verify_record(&tiles, &record(id)), Ok(()));
                kept.extend(plan.tiles().iter().map(Tile::to_string).zip(tiles));
                proven.push(id);
            }
            for &id in &proven {
                let plan = Plan::record(&old, id).unwrap();
                let tiles: Vec<_> = plan.tiles().iter().map(|tile| kept[&tile.to_string()].as_slice()).collect();
                prop_assert_eq!(plan.verify_record(&tiles, &record(id)), Ok(()));
            }
        }
    }
}
