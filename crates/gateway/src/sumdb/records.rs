//! Tiles of records (`tile/8/data/…`): passed on if each record has its hash in the proven tile of hashes.

use std::sync::Arc;

use bytes::Bytes;
use tlog::{
    hash::{HASH_BYTES, Hash},
    tile::Tile,
};

use super::{
    SumDb,
    serve::{absent, not_cached},
    source::{Fault, Source},
};
use crate::{record::Outcome, refusal::Refusal, settings::Settings};

impl SumDb {
    /// The content of a tile of records: kept, or compared with its hashes now. Only full ones are kept.
    pub(super) async fn records_of(
        self: &Arc<Self>,
        settings: &Settings,
        path: &str,
        cached_only: bool,
    ) -> Result<(Bytes, Outcome), Refusal> {
        // Its path is that of the tile of hashes on level 0 but for the level.
        let tile: Tile = path
            .replacen("/data/", "/0/", 1)
            .parse()
            .map_err(|error| absent(path, &error))?;
        let full = self.public_key(&data_path(tile.full()))?;
        if let Some(records) = self.kept_bytes(&full).await
            && let Some(cut) = first_records(&records, tile.width())
        {
            return Ok((records.slice(..cut), Outcome::Hit));
        }
        if cached_only {
            return Err(not_cached(path));
        }
        let (hashes, _) = self.hashes_of(settings, tile, false).await?;
        let mut round = self.round(settings).await;
        while let Some(source) = round.next() {
            match self.records_from(settings, &source, tile, &hashes).await {
                Ok(records) => {
                    if tile.is_full() {
                        self.kept.keep_tile(&self.tasks, &full, records.clone());
                    }
                    return Ok((records, Outcome::Miss));
                }
                Err(fault) => round.note(self, &source, path, fault)?,
            }
        }
        Err(round.refusal(self))
    }

    async fn records_from(
        &self,
        settings: &Settings,
        source: &Source,
        tile: Tile,
        hashes: &[u8],
    ) -> Result<Bytes, Fault> {
        let asked = self
            .ask(settings, source, &format!("/{}", data_path(tile)))
            .await;
        let records = match asked {
            Err(Fault::Absent) if !tile.is_full() => {
                let path = format!("/{}", data_path(tile.full()));
                self.ask(settings, source, &path).await?
            }
            asked => asked?,
        };
        let cut = first_records(&records, tile.width())
            .ok_or_else(|| Fault::invalid("a tile of records is too short"))?;
        let records = records.slice(..cut);
        let same = each(&records)
            .map(|record| Hash::leaf(record).0)
            .eq(hashes.chunks(HASH_BYTES));
        same.then_some(records)
            .ok_or_else(|| Fault::invalid("a record is not the one the log has"))
    }
}

fn data_path(tile: Tile) -> String {
    tile.to_string().replacen("tile/8/0/", "tile/8/data/", 1)
}

/// The records in a tile of them, each with its last newline and without the blank line behind it.
fn each(records: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let at = rest.windows(2).position(|pair| pair == b"\n\n")?;
        let (record, behind) = rest.split_at(at + 1);
        rest = &behind[1..];
        Some(record)
    })
}

/// How long the first `count` records are, if there are so many.
fn first_records(records: &[u8], count: u16) -> Option<usize> {
    let mut lengths = each(records).map(|record| record.len() + 1);
    (0..count).try_fold(0, |sum, _| Some(sum + lengths.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_where_they_end() {
        let text = b"a v1 h1:x\na v1/go.mod h1:y\n\nb v1 h1:z\n\n";
        let found: Vec<_> = each(text).collect();
        assert_eq!(
            found,
            [&b"a v1 h1:x\na v1/go.mod h1:y\n"[..], b"b v1 h1:z\n"]
        );
        assert_eq!(first_records(text, 1), Some(28));
        assert_eq!(first_records(text, 2), Some(text.len()));
        assert_eq!(first_records(text, 3), None);
        assert_eq!(first_records(b"<html>\n", 1), None);
    }
}
