//! Tiles: the files in which a log publishes the hashes of its tree.
//!
//! A tile at level L holds up to 256 consecutive nodes of the tree's level `8 * L`, number `256 * index` first; a full
//! tile is 8192 bytes. Its path is `tile/8/L/N`, or `tile/8/L/N.p/W` with W hashes when it is not full. N is written
//! in groups of three digits, all but the last behind an `x`: 1234067 is `x001/x234/067`.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use thiserror::Error;

use crate::hash::{HASH_BYTES, Hash};

/// The tree levels a tile spans. Go's client asks for this height only.
pub const TILE_HEIGHT: u32 = 8;

/// Hashes in a full tile.
pub const FULL_WIDTH: u16 = 1 << TILE_HEIGHT;

/// Bytes of a full tile.
pub const FULL_TILE_BYTES: usize = FULL_WIDTH as usize * HASH_BYTES;

/// The highest level that Go's grammar of paths allows; a tree of fewer than 2^64 records needs 0 to 7.
const MAX_LEVEL: u8 = 63;

/// Longest path of a tile, in bytes; longer ones are not looked at.
const MAX_PATH_BYTES: usize = 64;

/// Why something names no tile of hashes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TileError {
    /// Not of the form `tile/8/L/N` or `tile/8/L/N.p/W`, or not in its one canonical spelling.
    #[error("malformed tile path: expected tile/8/LEVEL/NUMBER or tile/8/LEVEL/NUMBER.p/WIDTH")]
    Malformed,
    /// `tile/8/data/…` holds records, not hashes.
    #[error("a tile of records, not of hashes")]
    Data,
    /// The level is above 63, the width is not in 1 to 256, or the number is above 2^63.
    #[error("tile level, number or width out of range")]
    OutOfRange,
}

/// The coordinates of a tile of hashes of height 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile at `level` (0 to 63) with number `index` (below 2^63) and `width` hashes (1 to 256).
    ///
    /// # Errors
    /// [`TileError::OutOfRange`].
    pub fn new(level: u8, index: u64, width: u16) -> Result<Tile, TileError> {
        if level > MAX_LEVEL || index > i64::MAX as u64 || !(1..=FULL_WIDTH).contains(&width) {
            return Err(TileError::OutOfRange);
        }
        Ok(Tile {
            level,
            index,
            width,
        })
    }

    /// The tile's level; 0 holds the hashes of records.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The tile's number within its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it has all its 256 hashes, and so never changes its name again.
    pub fn is_full(&self) -> bool {
        self.width == FULL_WIDTH
    }

    /// The full tile at the same place: what to ask for when a narrower one is gone, and to [`cut`](Tile::cut).
    #[must_use]
    pub fn full(&self) -> Tile {
        Tile {
            width: FULL_WIDTH,
            ..*self
        }
    }

    /// The tile at the same place as the tree of `size` records has it; `None` if that has nothing there.
    #[must_use]
    pub fn in_tree(&self, size: u64) -> Option<Tile> {
        let nodes = size
            .checked_shr(TILE_HEIGHT * u32::from(self.level))
            .unwrap_or(0);
        let before = self.index.checked_mul(u64::from(FULL_WIDTH))?;
        let width = nodes.saturating_sub(before).min(u64::from(FULL_WIDTH));
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        Some(Tile { width, ..*self })
    }

    /// The exact size of its content, in bytes.
    pub fn byte_len(&self) -> usize {
        usize::from(self.width) * HASH_BYTES
    }

    /// This tile's content, cut from that of `wider`, a tile at the same place with as many hashes or more: a log only
    /// grows, so the narrower tile is a prefix of the wider. `None` if `wider` is another tile or `content` has not its
    /// size.
    pub fn cut<'a>(&self, wider: &Tile, content: &'a [u8]) -> Option<&'a [u8]> {
        let same_place = self.level == wider.level && self.index == wider.index;
        (same_place && content.len() == wider.byte_len())
            .then(|| content.get(..self.byte_len()))
            .flatten()
    }

    /// Number `position` of the hashes in `content`, if it is there.
    pub(crate) fn hash_at(content: &[u8], position: usize) -> Option<Hash> {
        let start = position.checked_mul(HASH_BYTES)?;
        content.get(start..)?.first_chunk().copied().map(Hash)
    }
}

/// The tile's path, `tile/8/…`, without a leading slash.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{TILE_HEIGHT}/{}/", self.level)?;
        let digits = format!("{:03}", self.index);
        let mut groups = String::with_capacity(32);
        // The first group takes what is left over when the others have three digits each.
        let (first, rest) = digits.split_at((digits.len() - 1) % 3 + 1);
        let group_count = 1 + rest.len() / 3;
        for number in 0..group_count {
            let group = if number == 0 {
                first
            } else {
                &rest[(number - 1) * 3..number * 3]
            };
            let (mark, end) = if number + 1 < group_count {
                ("x", "/")
            } else {
                ("", "")
            };
            write!(groups, "{mark}{group:0>3}{end}")?;
        }
        f.write_str(&groups)?;
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

/// Reads a path as [`Display`](fmt::Display) writes it, and no other spelling of it.
impl FromStr for Tile {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Tile, TileError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(TileError::Malformed);
        }
        let rest = path.strip_prefix("tile/8/").ok_or(TileError::Malformed)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError::Malformed)?;
        if level == "data" {
            return Err(TileError::Data);
        }
        let (groups, width) = match rest.split_once(".p/") {
            Some((groups, width)) => (groups, parse_number(width)?),
            None => (rest, u64::from(FULL_WIDTH)),
        };
        let mut index = 0_u64;
        for group in groups.split('/') {
            let number = parse_number(group.strip_prefix('x').unwrap_or(group))?;
            index = index
                .checked_mul(1000)
                .and_then(|index| index.checked_add(number))
                .ok_or(TileError::OutOfRange)?;
        }
        let level = u8::try_from(parse_number(level)?).map_err(|_| TileError::OutOfRange)?;
        let width = u16::try_from(width).map_err(|_| TileError::OutOfRange)?;
        let tile = Tile::new(level, index, width)?;
        // One spelling per tile: leading zeros, missing marks and `.p/256` all show here.
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(TileError::Malformed)
        }
    }
}

fn parse_number(text: &str) -> Result<u64, TileError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TileError::Malformed);
    }
    text.parse().map_err(|_| TileError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_wide_as_the_tree() {
        for (level, index, size, width) in [
            (0, 0, 0, None),
            (0, 0, 1, Some(1)),
            (0, 1, 803, Some(256)),
            (0, 3, 803, Some(35)),
            (0, 4, 803, None),
            (1, 0, 803, Some(3)),
            (1, 0, 255, None),
            (7, 0, u64::MAX, Some(255)),
            (8, 0, u64::MAX, None),
            (63, u64::MAX >> 1, u64::MAX, None),
        ] {
            let tile = Tile::new(level, index, 7).unwrap();
            let wide = width.map(|width| Tile::new(level, index, width).unwrap());
            assert_eq!(tile.in_tree(size), wide, "{tile} {size}");
        }
    }

    #[test]
    fn paths() {
        for (tile, path) in [
            ((0, 0, 256), "tile/8/0/000"),
            ((0, 0, 1), "tile/8/0/000.p/1"),
            ((1, 999, 255), "tile/8/1/999.p/255"),
            ((0, 1000, 256), "tile/8/0/x001/000"),
            ((4, 1_234_067, 1), "tile/8/4/x001/x234/067.p/1"),
            ((4, 1_234_067, 256), "tile/8/4/x001/x234/067"),
            (
                (63, i64::MAX as u64, 7),
                "tile/8/63/x009/x223/x372/x036/x854/x775/807.p/7",
            ),
        ] {
            let tile = Tile::new(tile.0, tile.1, tile.2).unwrap();
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse(), Ok(tile));
        }
    }

    #[test]
    fn refused_paths() {
        for path in [
            "",
            "tile",
            "tile/8",
            "tile/8/0",
            "tile/8/0/",
            "/tile/8/0/000",
            "tile/8/0/000/",
            "tile/7/0/000",
            "tile/08/0/000",
            "tile/8/00/000",
            "tile/8/0/0",
            "tile/8/0/00",
            "tile/8/0/0000",
            "tile/8/0/1000",
            "tile/8/0/x000/000",
            "tile/8/0/001/000",
            "tile/8/0/x001",
            "tile/8/0/x001/x000",
            "tile/8/0/000.p/256",
            "tile/8/0/000.p/0",
            "tile/8/0/000.p/01",
            "tile/8/0/000.p/",
            "tile/8/0/000.p/1/",
            "tile/8/0/000.p/1.p/1",
            "tile/8/0/000.p",
            "tile/8/64/000",
            "tile/8/256/000",
            "tile/8/-1/000",
            "tile/8/+1/000",
            "tile/8/0/+01",
            "tile/8/0/xx01/000",
            "tile/8/0/x01/000",
            "tile/8/0/０００",
            "tile/8/0/x999/x999/x999/x999/x999/x999/999",
            "tile/8/0/000.p/99999999999999999999999",
        ] {
            assert!(path.parse::<Tile>().is_err(), "{path}");
        }
        assert_eq!("tile/8/data/000".parse::<Tile>(), Err(TileError::Data));
    }

    #[test]
    fn cutting() {
        let full = Tile::new(0, 5, 256).unwrap();
        let narrow = Tile::new(0, 5, 3).unwrap();
        let content: Vec<u8> = (0..FULL_TILE_BYTES)
            .map(|byte| byte.to_le_bytes()[0])
            .collect();
        assert_eq!(narrow.full(), full);
        assert_eq!(narrow.cut(&full, &content), Some(&content[..96]));
        assert_eq!(full.cut(&full, &content), Some(&content[..]));
        assert_eq!(narrow.cut(&full, &content[1..]), None);
        assert_eq!(full.cut(&narrow, &content[..96]), None);
        assert_eq!(Tile::new(0, 6, 3).unwrap().cut(&full, &content), None);
    }

    proptest! {
        #[test]
        fn every_tile_round_trips(level in 0..=63_u8, index in 0..=i64::MAX as u64, width in 1..=256_u16, shift in 0..63_u32) {
            let tile = Tile::new(level, index >> shift, width).unwrap();
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }

        #[test]
        fn only_canonical_paths_parse(path in "tile/8/[0-9]{1,2}/(x[0-9]{3}/){0,3}[0-9]{3}(\\.p/[0-9]{1,3})?") {
            if let Ok(tile) = path.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
