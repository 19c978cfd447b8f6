//! The arithmetic of a tree of hashes cut into tiles.
//!
//! A tree of size N is made of complete subtrees, one for each 1 in the binary form of N, the largest leftmost. Written
//! in base 256, the digit of N at position L is the number of hashes in the tile on the right edge of level L; a level
//! with digit 0 has no edge tile, for its nodes are all summed up in the level above.

use crate::hash::{HASH_BYTES, Hash};
use crate::tile::{FULL_WIDTH, TILE_HEIGHT, Tile};

/// The tile levels a tree of any `u64` size can have.
pub(crate) const LEVELS: u8 = 8;

/// How many nodes a tree of `size` has on tile level `level`.
pub(crate) fn nodes(size: u64, level: u8) -> u64 {
    size.checked_shr(TILE_HEIGHT * u32::from(level))
        .unwrap_or(0)
}

/// Tile number `index` of `level` as it is in a tree of `size`, if the tree reaches it.
pub(crate) fn tile_in(size: u64, level: u8, index: u64) -> Option<Tile> {
    let first = index.checked_mul(u64::from(FULL_WIDTH))?;
    let width = nodes(size, level)
        .checked_sub(first)?
        .min(u64::from(FULL_WIDTH));
    Tile::new(level, index, u16::try_from(width).ok()?).ok()
}

/// The tile on the right edge of `level` in a tree of `size`: the nodes that are not yet summed up in the level above.
/// Never full; `None` if there are no such nodes.
pub(crate) fn edge_tile(size: u64, level: u8) -> Option<Tile> {
    tile_in(size, level, nodes(size, level) >> TILE_HEIGHT)
}

/// All edge tiles of a tree, from the top (the leftmost leaves) down. Their hashes together are the whole tree.
pub(crate) fn edge_tiles(size: u64) -> impl Iterator<Item = Tile> {
    (0..LEVELS)
        .rev()
        .filter_map(move |level| edge_tile(size, level))
}

/// The root of the complete subtree over some hashes of a tile, one behind the other in `hashes`. Their number must be
/// a power of two.
pub(crate) fn subtree_root(hashes: &[u8]) -> Hash {
    debug_assert!(
        (hashes.len() / HASH_BYTES).is_power_of_two(),
        "a complete subtree"
    );
    match hashes.first_chunk() {
        Some(&only) if hashes.len() == HASH_BYTES => Hash(only),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Hash::node(&subtree_root(left), &subtree_root(right))
        }
    }
}

/// The root of a tree from the contents of its edge tiles, given from the top down as [`edge_tiles`] lists them.
pub(crate) fn root_of_edge<'a>(edge: impl DoubleEndedIterator<Item = &'a [u8]>) -> Hash {
    let mut root: Option<Hash> = None;
    // From right to left, that is from the smallest subtree to the largest: each takes what is right of it.
    for mut hashes in edge.rev() {
        while !hashes.is_empty() {
            let count = hashes.len() / HASH_BYTES;
            let smallest = 1 << count.trailing_zeros();
            let (rest, subtree) = hashes.split_at((count - smallest) * HASH_BYTES);
            let subtree = subtree_root(subtree);
            root = Some(root.map_or(subtree, |right| Hash::node(&subtree, &right)));
            hashes = rest;
        }
    }
    root.unwrap_or_else(Hash::empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        let paths = |size| {
            edge_tiles(size)
                .map(|tile| tile.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(0), [""; 0]);
        assert_eq!(paths(1), ["tile/8/0/000.p/1"]);
        assert_eq!(paths(255), ["tile/8/0/000.p/255"]);
        assert_eq!(paths(256), ["tile/8/1/000.p/1"]);
        assert_eq!(
            paths(70_000),
            [
                "tile/8/2/000.p/1",
                "tile/8/1/001.p/17",
                "tile/8/0/273.p/112"
            ]
        );
        assert_eq!(paths(65_536 + 3), ["tile/8/2/000.p/1", "tile/8/0/256.p/3"]);
        assert_eq!(paths(u64::MAX).len(), 8);
    }

    #[test]
    fn tiles_of_a_tree() {
        assert_eq!(tile_in(600, 0, 0).unwrap().width(), 256);
        assert_eq!(tile_in(600, 0, 2).unwrap().width(), 88);
        assert_eq!(tile_in(600, 0, 3), None);
        assert_eq!(tile_in(512, 0, 2), None);
        assert_eq!(tile_in(600, 200, 0), None);
        assert_eq!(tile_in(u64::MAX, 0, u64::MAX), None);
    }
}
