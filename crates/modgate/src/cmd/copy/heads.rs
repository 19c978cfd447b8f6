//! The tree head of the checksum database is in no storage but beside it: in the data folder, and in records that replicas
//! share. It goes forward along a proof, as in a server, by the tiles that are at the other place.

use std::{
    fs,
    io::{self, Read as _},
};

use care::copy::Place;
use records::Records;
use store::{Folder, Key};
use tlog::{
    Tile,
    head::SignedHead,
    merge::{Decision, merge},
    note::VerifierKey,
    proof::{Continuation, Plan},
    tile::FULL_TILE_BYTES,
};

use crate::{config::Config, wire};

/// Longest tree head.
const MAX_HEAD_BYTES: u64 = 1 << 20;
/// How often a head that others move meanwhile is met.
const TRIES: u32 = 4;

/// Where a server with this configuration has its head.
pub(super) struct Heads<'a> {
    folder: Folder,
    records: &'a Records,
}

/// A head as it lies there.
struct Known {
    note: Vec<u8>,
    head: SignedHead,
}

impl<'a> Heads<'a> {
    pub(super) fn of(config: &Config, records: &'a Records) -> Self {
        Self {
            folder: Folder::new(wire::store_folder(config)),
            records,
        }
    }

    /// Brings the head that is known here to the others, who keep at `place`. Returns the size of its tree, if there is
    /// one.
    ///
    /// # Errors
    /// A fork, or a head that is not proven to continue theirs.
    pub(super) async fn bring(
        &self,
        others: &Heads<'_>,
        place: &Place,
        key: &VerifierKey,
    ) -> Result<Option<u64>, String> {
        if self.forked(key).await.map_err(text)? {
            return Err(
                "it is known here to have signed two histories: its head stays here".to_owned(),
            );
        }
        let ours = [
            self.in_records(key).await.map_err(text)?,
            self.in_folder(key).map_err(text)?,
        ];
        let ours = ours.into_iter().flatten().map(|known| known.head);
        let Some(ours) = ours.max_by_key(|head| head.head().size) else {
            return Ok(None);
        };
        if others.records.shared() {
            others.meet_in_records(&ours, place, key).await?;
        }
        // Whoever shares records takes it from there.
        if !others.records.shared() || matches!(place, Place::Disk(_)) {
            others.meet_in_folder(&ours, place, key).await?;
        }
        Ok(Some(ours.head().size))
    }

    async fn forked(&self, key: &VerifierKey) -> io::Result<bool> {
        let there = self.records.head(key.name()).await;
        let there = there.map_err(io::Error::other)?;
        let file = self
            .folder
            .path()
            .join(format!("sumdb/{}/fork", key.name()));
        Ok(there.is_some_and(|there| there.fork.is_some()) || fs::exists(file)?)
    }

    async fn in_records(&self, key: &VerifierKey) -> io::Result<Option<Known>> {
        let there = self.records.head(key.name()).await;
        let there = there.map_err(io::Error::other)?;
        // A fork may be known without a head.
        let note = there
            .map(|there| there.note)
            .filter(|note| !note.is_empty());
        note.map(|note| known(note, key)).transpose()
    }

    fn in_folder(&self, key: &VerifierKey) -> io::Result<Option<Known>> {
        let Some(file) = self.folder.open(&latest(key)?)? else {
            return Ok(None);
        };
        let mut note = Vec::new();
        file.take(MAX_HEAD_BYTES).read_to_end(&mut note)?;
        known(note, key).map(Some)
    }

    async fn meet_in_records(
        &self,
        ours: &SignedHead,
        place: &Place,
        key: &VerifierKey,
    ) -> Result<(), String> {
        for _ in 0..TRIES {
            let theirs = self.in_records(key).await.map_err(text)?;
            if !is_newer(theirs.as_ref(), ours, place, key).await? {
                return Ok(());
            }
            let from = theirs.as_ref().map(|theirs| theirs.note.as_slice());
            let (name, size) = (key.name(), ours.head().size);
            let moved = self.records.advance_head(name, from, size, ours.note());
            if moved.await.map_err(text)? {
                return Ok(());
            }
        }
        Err("servers there move it at the same time: run it again".to_owned())
    }

    async fn meet_in_folder(
        &self,
        ours: &SignedHead,
        place: &Place,
        key: &VerifierKey,
    ) -> Result<(), String> {
        let theirs = self.in_folder(key).map_err(text)?;
        if is_newer(theirs.as_ref(), ours, place, key).await? {
            let latest = latest(key).map_err(text)?;
            let written = self.folder.replace_small(&latest, ours.note());
            written.map_err(text)?;
        }
        Ok(())
    }
}

fn latest(key: &VerifierKey) -> io::Result<Key> {
    Key::new(format!("sumdb/{}/latest", key.name())).map_err(io::Error::other)
}

fn known(note: Vec<u8>, key: &VerifierKey) -> io::Result<Known> {
    let head = SignedHead::verify(&note, key);
    let head = head.map_err(|error| io::Error::other(format!("a kept tree head: {error}")))?;
    Ok(Known { note, head })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Whether our head is to take the place of theirs, proven by the tiles at `place`.
async fn is_newer(
    theirs: Option<&Known>,
    ours: &SignedHead,
    place: &Place,
    key: &VerifierKey,
) -> Result<bool, String> {
    let plan = match merge(theirs.map(|theirs| &theirs.head), ours) {
        Decision::Same | Decision::Older(_) => return Ok(false),
        Decision::Fork { kept, .. } => {
            return Err(format!(
                "SECURITY: here and there are two heads of {} records that contradict each other: it has signed two histories",
                kept.size
            ));
        }
        Decision::Newer(plan) => plan,
    };
    let tiles = tiles(&plan, place, key).await?;
    let proven = plan.verify_consistency(&tiles);
    proven.map(|()| true).map_err(|error| {
        let (ours, theirs) = (ours.head().size, plan.old().size);
        format!(
            "its tree of {ours} records is not proven to continue that of {theirs} there: {error}"
        )
    })
}

async fn tiles(
    plan: &Plan<Continuation>,
    place: &Place,
    key: &VerifierKey,
) -> Result<Vec<Vec<u8>>, String> {
    let mut contents = Vec::new();
    for tile in plan.tiles() {
        let content = tile_at(*tile, place, key).await?;
        contents.push(content.ok_or_else(|| {
            format!(
                "{tile} is not there, which proves that its tree continues that of {} records: a server there asks for it",
                plan.old().size
            )
        })?);
    }
    Ok(contents)
}

async fn tile_at(tile: Tile, place: &Place, key: &VerifierKey) -> Result<Option<Vec<u8>>, String> {
    for form in [tile, tile.full()] {
        let at = Key::new(format!("go/sumdb/{}/{form}", key.name())).map_err(text)?;
        let content = place.small(&at, FULL_TILE_BYTES as u64).await;
        if let Some(content) = content.map_err(text)?
            && let Some(cut) = tile.cut(&form, &content)
        {
            return Ok(Some(cut.to_vec()));
        }
    }
    Ok(None)
}
