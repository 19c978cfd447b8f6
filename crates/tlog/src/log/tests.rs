//! The log against the definition of the tree, written down a second time and naively.

use super::*;

/// The root as RFC 6962 section 2.1 defines it, by recursion.
fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::empty(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Hash::node(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

fn log_of(size: u64) -> Log {
    let mut log = Log::new();
    for id in 0..size {
        assert_eq!(log.append(&format!("record {id}\n")), Ok(id));
    }
    log
}

#[test]
fn roots_are_those_of_the_definition() {
    let log = log_of(1100);
    let leaves: Vec<Hash> = (0..1100)
        .map(|id| Hash::leaf(format!("record {id}\n").as_bytes()))
        .collect();
    for size in (0..300).chain([511, 512, 513, 767, 768, 1000, 1023, 1024, 1025, 1100]) {
        let head = log.head_at(size as u64).unwrap();
        assert_eq!(head.root, root_by_definition(&leaves[..size]), "{size}");
    }
    assert_eq!(log.head(), log.head_at(1100).unwrap());
    assert_eq!(log.head_at(1101), None);
}

#[test]
fn tiles() {
    let log = log_of(600);
    let tile = |path: &str| log.tile(&path.parse().unwrap());
    assert_eq!(tile("tile/8/0/000").unwrap().len(), 8192);
    assert_eq!(tile("tile/8/0/002.p/88").unwrap().len(), 88 * 32);
    assert_eq!(
        tile("tile/8/0/002.p/3").unwrap(),
        tile("tile/8/0/002.p/88").unwrap()[..96]
    );
    assert_eq!(tile("tile/8/1/000.p/2").unwrap().len(), 64);
    let first = Hash(tile("tile/8/1/000.p/1").unwrap().try_into().unwrap());
    assert_eq!(first, log.head_at(256).unwrap().root);
    for absent in [
        "tile/8/0/002.p/89",
        "tile/8/0/002",
        "tile/8/0/003.p/1",
        "tile/8/1/000.p/3",
        "tile/8/2/000.p/1",
        "tile/8/63/000",
    ] {
        assert_eq!(tile(absent), None, "{absent}");
    }
    assert_eq!(
        log.data_tile(2, 2).unwrap(),
        b"record 512\n\nrecord 513\n\n"
    );
    assert_eq!(log.data_tile(2, 89), None);
}

#[test]
fn records_are_checked() {
    let mut log = Log::new();
    for bad in ["", "no end", "\n", "a\n\nb\n", "tab\t\n"] {
        assert!(log.append(bad).is_err(), "{bad:?}");
    }
    assert_eq!((log.size(), log.head()), (0, TreeHead::empty()));
}
