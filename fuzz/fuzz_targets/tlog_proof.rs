//! Proofs: plans for trees of any size, and a real log whose tiles are altered somewhere. True tiles verify; one changed
//! byte, anywhere in any tile, never does.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tlog::head::TreeHead;
use tlog::log::Log;
use tlog::proof::Plan;
use tlog::tile::Tile;

/// Enough for tiles on two levels and for several of them on the lower one.
const LOG_SIZE: u64 = 1500;

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let mut log = Log::new();
    for id in 0..LOG_SIZE {
        log.append(&record(id)).expect("a valid record");
    }
    log
});

fn record(id: u64) -> String {
    format!("record {id}\n")
}

fn contents(tiles: &[Tile]) -> Vec<Vec<u8>> {
    tiles
        .iter()
        .map(|tile| LOG.tile(tile).expect("a tile of the log"))
        .collect()
}

fn alter(contents: &mut [Vec<u8>], at: usize, bit: u8) -> bool {
    let total: usize = contents.iter().map(Vec::len).sum();
    let Some(mut at) = at.checked_rem(total) else {
        return false;
    };
    for content in contents {
        if let Some(byte) = content.get_mut(at) {
            *byte ^= 1 << (bit % 8);
            return true;
        }
        at -= content.len();
    }
    false
}

fuzz_target!(|input: (u64, u64, u64, usize, u8)| {
    let (old_size, new_size, id, at, bit) = input;

    let head = |size| TreeHead {
        size,
        ..TreeHead::empty()
    };
    if let Ok(plan) = Plan::record(&head(new_size), id) {
        assert!(plan.tiles().len() <= 16);
    }
    if let Ok(plan) = Plan::consistency(&head(old_size), &head(new_size)) {
        assert!(plan.tiles().len() <= 16);
    }

    let new_size = new_size % LOG_SIZE + 1;
    let (old_size, id) = (old_size % (new_size + 1), id % new_size);
    let old = LOG.head_at(old_size).expect("a size the log had");
    let new = LOG.head_at(new_size).expect("a size the log had");

    let plan = Plan::record(&new, id).expect("the record is in the tree");
    let mut tiles = contents(plan.tiles());
    assert_eq!(plan.verify_record(&tiles, &record(id)), Ok(()));
    assert!(plan.verify_record(&tiles, &record(id + 1)).is_err());
    if alter(&mut tiles, at, bit) {
        assert!(plan.verify_record(&tiles, &record(id)).is_err());
    }

    let plan = Plan::consistency(&old, &new).expect("the tree has grown");
    let mut tiles = contents(plan.tiles());
    assert_eq!(plan.verify_consistency(&tiles), Ok(()));
    if alter(&mut tiles, at, bit) {
        assert!(plan.verify_consistency(&tiles).is_err());
    }
});
