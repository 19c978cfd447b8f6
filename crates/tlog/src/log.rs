//! A log held in memory: appended to, signed, and cut into tiles.

use crate::hash::{HASH_BYTES, Hash};
use crate::head::TreeHead;
use crate::lookup::{self, LookupError, Record};
use crate::note::{self, NoteError, SignerKey};
use crate::tile::{FULL_WIDTH, TILE_HEIGHT, Tile};
use crate::tree;

/// An append-only log of records with the hashes of all complete subtrees, about 64 bytes for each record beyond its
/// text. Everything in it can be read as it was at any earlier size.
#[derive(Debug, Clone, Default)]
pub struct Log {
    records: Vec<Record>,
    /// `levels[k]` has the roots of the complete subtrees of 2^k records, from left to right.
    levels: Vec<Vec<Hash>>,
}

impl Log {
    /// An empty log.
    pub fn new() -> Log {
        Log::default()
    }

    /// Appends a record and returns its id.
    ///
    /// # Errors
    /// [`LookupError::Malformed`] if the text cannot be a record.
    pub fn append(&mut self, record: &str) -> Result<u64, LookupError> {
        let record = Record::new(record.to_owned())?;
        let mut hash = Hash::leaf(record.text().as_bytes());
        self.records.push(record);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(hash);
            match nodes.as_slice() {
                // A pair was completed: it is one node of the level above.
                [.., left, right] if nodes.len().is_multiple_of(2) => {
                    hash = Hash::node(left, right);
                }
                _ => break,
            }
        }
        Ok(self.size() - 1)
    }

    /// How many records there are.
    pub fn size(&self) -> u64 {
        self.records.len() as u64
    }

    /// Record number `id`.
    pub fn record(&self, id: u64) -> Option<&Record> {
        self.records.get(usize::try_from(id).ok()?)
    }

    /// The log's head.
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size(),
            root: self.root(self.size()),
        }
    }

    /// The head the log had when it had `size` records, if it has reached that size.
    pub fn head_at(&self, size: u64) -> Option<TreeHead> {
        (size <= self.size()).then(|| TreeHead {
            size,
            root: self.root(size),
        })
    }

    /// The log's head as a signed note.
    ///
    /// # Errors
    /// [`NoteError`], not expected of a head.
    pub fn signed_head(&self, key: &SignerKey) -> Result<Vec<u8>, NoteError> {
        note::sign(&self.head().to_string(), key)
    }

    /// The answer to the lookup of record `id`, with the log's head. `None` if there is no such record.
    ///
    /// # Errors
    /// [`NoteError`], not expected of a head.
    pub fn lookup_body(&self, id: u64, key: &SignerKey) -> Result<Option<Vec<u8>>, NoteError> {
        let Some(record) = self.record(id) else {
            return Ok(None);
        };
        Ok(Some(lookup::format(id, record, &self.signed_head(key)?)))
    }

    /// The content of a tile, if the log has grown that far. `None` also for a tile that is full in no tree this large.
    pub fn tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        let level = usize::from(tile.level()).checked_mul(TILE_HEIGHT as usize)?;
        let first = usize::try_from(tile.index())
            .ok()?
            .checked_mul(usize::from(FULL_WIDTH))?;
        let hashes = self
            .levels
            .get(level)?
            .get(first..first.checked_add(usize::from(tile.width()))?)?;
        Some(hashes.iter().flat_map(|hash| hash.0).collect())
    }

    /// The content of `tile/8/data/<index>` with `width` records (1 to 256): each record and a blank line.
    pub fn data_tile(&self, index: u64, width: u16) -> Option<Vec<u8>> {
        let first = usize::try_from(index)
            .ok()?
            .checked_mul(usize::from(FULL_WIDTH))?;
        let records = self
            .records
            .get(first..first.checked_add(usize::from(width))?)?;
        Some(
            records
                .iter()
                .flat_map(|record| [record.text().as_bytes(), b"\n"])
                .flatten()
                .copied()
                .collect(),
        )
    }

    /// The root over the first `size` records, which must be there.
    fn root(&self, size: u64) -> Hash {
        let edge: Vec<Vec<u8>> = tree::edge_tiles(size)
            .filter_map(|tile| self.tile(&tile))
            .collect();
        debug_assert!(edge.iter().all(|content| content.len() % HASH_BYTES == 0));
        tree::root_of_edge(edge.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests;
