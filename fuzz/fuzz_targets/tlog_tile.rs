//! Tile paths: each tile has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tlog::tile::Tile;

fuzz_target!(|path: &str| {
    if let Ok(tile) = path.parse::<Tile>() {
        assert_eq!(tile.to_string(), path);
        assert_eq!(
            Tile::new(tile.level(), tile.index(), tile.width()),
            Ok(tile)
        );
        assert!(tile.byte_len() <= tile.full().byte_len());
    }
});
