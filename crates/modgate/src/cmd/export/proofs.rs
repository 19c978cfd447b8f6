//! What the checksum database says of the versions in a bundle, and the tiles that prove it under one head: what an
//! importer needs who knows the database's key and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use bytes::Bytes;
use care::bundle::{Database, Writer};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gomod::{ModulePath, Version};
use store::Key;
use tlog::{
    SignedHead, Tile,
    lookup::{Hashes, Lookup, MAX_LOOKUP_BYTES},
    note::VerifierKey,
    proof::Plan,
    tile::FULL_TILE_BYTES,
};

use super::asked::{Asked, Miss, off};

/// Tiles that are asked for at a time.
const AT_ONCE: usize = 8;
/// Longest head.
const MAX_HEAD: usize = 1 << 20;

/// The proofs of a bundle that is being made.
#[derive(Debug)]
pub(super) struct Proofs {
    key: VerifierKey,
    head: Option<SignedHead>,
    /// By the last part of their key.
    lookups: BTreeMap<String, Lookup>,
}

impl Proofs {
    /// Begins with the newest head that the gateway can get. Without one those of the records do.
    pub(super) async fn begin(key: VerifierKey, asked: &Asked) -> Result<Self, String> {
        let mut proofs = Self {
            key,
            head: None,
            lookups: BTreeMap::new(),
        };
        match asked.small(&proofs.path("latest"), MAX_HEAD).await {
            Ok(note) => proofs.meet(&note)?,
            Err(miss) => tracing::info!(%miss, "no newest head of the checksum database"),
        }
        Ok(proofs)
    }

    /// The database's name.
    pub(super) fn name(&self) -> &str {
        self.key.name()
    }

    fn path(&self, rest: &str) -> String {
        format!("/sumdb/{}/{rest}", self.key.name())
    }

    fn meet(&mut self, note: &[u8]) -> Result<(), String> {
        let seen = SignedHead::verify(note, &self.key);
        let seen = seen.map_err(|error| format!("the checksum database's head: {error}"))?;
        let newer = |head: &SignedHead| head.head().size < seen.head().size;
        if self.head.as_ref().is_none_or(newer) {
            self.head = Some(seen);
        }
        Ok(())
    }

    /// Asks for the record of a version. `None`: the gateway has none, since it is private or exempt.
    pub(super) async fn look_up(
        path: String,
        asked: &Asked,
    ) -> Result<Option<(String, Bytes)>, Miss> {
        match asked.small(&path, MAX_LOOKUP_BYTES).await {
            Ok(body) => Ok(Some((path, body))),
            Err(Miss::Missing(why) | Miss::Absent(why)) => {
                tracing::debug!(why, "not proven");
                Ok(None)
            }
            Err(miss) => Err(miss),
        }
    }

    /// The path of a version's record.
    pub(super) fn lookup_path(&self, module: &ModulePath, version: &Version) -> String {
        self.path(&format!(
            "lookup/{}@{}",
            module.escaped(),
            version.escaped()
        ))
    }

    /// Takes the record of a version, and says what its hashes must be. It is proven later, with all the others.
    pub(super) fn take(
        &mut self,
        module: &ModulePath,
        version: &Version,
        path: &str,
        body: &[u8],
    ) -> Result<Hashes, String> {
        let wrong = |error: &dyn std::fmt::Display| {
            format!("the checksum database's record of {module}@{version}: {error}")
        };
        let lookup = Lookup::parse(body).map_err(|error| wrong(&error))?;
        self.meet(lookup.head_note())?;
        let hashes = lookup.record().hashes(module.as_str(), version.as_str());
        let hashes = hashes.map_err(|error| wrong(&error))?;
        let name = path.trim_start_matches(&self.path("")).to_owned();
        self.lookups.insert(name, lookup);
        Ok(hashes)
    }

    /// Proves all records under one head, and writes it, them and their tiles. `continues` are sizes of earlier trees;
    /// those that the log does not have are left out.
    pub(super) async fn write(
        self,
        asked: &Asked,
        mut writer: Writer,
        continues: &BTreeSet<u64>,
        folder: &Path,
    ) -> Result<(Writer, Option<Database>), String> {
        let Some(head) = &self.head else {
            return Ok((writer, None));
        };
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (mut records, mut beginnings) = (Vec::new(), Vec::new());
        for lookup in self.lookups.values() {
            let plan = Plan::record(head.head(), lookup.id()).map_err(|error| text(&error))?;
            records.push((plan, lookup.record().text()));
        }
        let size = head.head().size;
        let continues: Vec<u64> = continues.range(1..=size).copied().collect();
        for before in continues.iter().copied().chain([size]) {
            let plan = Plan::beginning(before, head.head()).map_err(|error| text(&error))?;
            beginnings.push(plan);
        }
        let of_records = records.iter().flat_map(|(plan, _)| plan.tiles());
        let of_heads = beginnings.iter().flat_map(Plan::tiles);
        let wanted: BTreeSet<Tile> = of_records.chain(of_heads).copied().collect();
        let tiles = self.tiles(wanted, asked, folder).await?;
        let not_proven = |error: &dyn std::fmt::Display| {
            format!("the checksum database's records are not proven: {error}")
        };
        for (plan, record) in &records {
            let contents = tiles.of(plan.tiles()).map_err(|error| text(&error))?;
            let proven = plan.verify_record(&contents, record);
            proven.map_err(|error| not_proven(&error))?;
        }
        for plan in &beginnings {
            let contents = tiles.of(plan.tiles()).map_err(|error| text(&error))?;
            plan.root(&contents).map_err(|error| not_proven(&error))?;
        }
        let mut files: Vec<(String, Vec<u8>)> = vec![
            ("latest".to_owned(), head.note().to_vec()),
            // For who unpacks it as a GOPROXY of its own: the go command asks for it first.
            ("supported".to_owned(), Vec::new()),
        ];
        for (name, lookup) in &self.lookups {
            let body = lookup.with_head(head).map_err(|error| text(&error))?;
            files.push((name.clone(), body));
        }
        let name = self.key.name().to_owned();
        let below = format!("go/sumdb/{name}");
        let written = off(move || {
            for (file, body) in files {
                add(&mut writer, &below, &file, &body)?;
            }
            for tile in tiles.places.keys() {
                add(&mut writer, &below, &tile.to_string(), &tiles.read(*tile)?)?;
            }
            Ok(writer)
        });
        let writer = written.await.map_err(|error| text(&error))?;
        let database = Database {
            name,
            tree_size: size,
            continues,
        };
        Ok((writer, Some(database)))
    }

    /// Asks for tiles, into a file that goes with its handle.
    async fn tiles(
        &self,
        wanted: BTreeSet<Tile>,
        asked: &Asked,
        folder: &Path,
    ) -> Result<Tiles, String> {
        let folder = folder.to_owned();
        let file = off(move || tempfile::tempfile_in(folder)).await;
        let mut file = file.map_err(|error| error.to_string())?;
        let (mut places, mut at) = (BTreeMap::new(), 0);
        let mut got = stream::iter(wanted)
            .map(|tile| async move {
                let path = self.path(&tile.to_string());
                let content = asked.small(&path, FULL_TILE_BYTES).await;
                content
                    .map(|content| (tile, content))
                    .map_err(|miss| format!("the checksum database's proof, {tile}: {miss}"))
            })
            .buffered(AT_ONCE);
        while let Some((tile, content)) = got.try_next().await? {
            places.insert(tile, (at, content.len()));
            at += content.len() as u64;
            let written = off(move || file.write_all(&content).map(|()| file)).await;
            file = written.map_err(|error| error.to_string())?;
        }
        Ok(Tiles { file, places })
    }
}

fn add(writer: &mut Writer, below: &str, file: &str, body: &[u8]) -> io::Result<()> {
    let key = Key::new(format!("{below}/{file}")).map_err(io::Error::other)?;
    writer.add(&key, body.len() as u64, &mut &*body, None, false)
}

/// Tiles in a file: of many versions there are many.
struct Tiles {
    file: File,
    places: BTreeMap<Tile, (u64, usize)>,
}

impl Tiles {
    fn read(&self, tile: Tile) -> io::Result<Vec<u8>> {
        let (at, len) = self.places.get(&tile).ok_or(io::ErrorKind::NotFound)?;
        let mut content = vec![0; *len];
        self.file.read_exact_at(&mut content, *at)?;
        Ok(content)
    }

    fn of(&self, tiles: &[Tile]) -> io::Result<Vec<Vec<u8>>> {
        tiles.iter().map(|tile| self.read(*tile)).collect()
    }
}

/// The sizes of trees that bundles were made for before, which importers may know.
pub(super) fn remembered(fact: Option<&str>) -> BTreeSet<u64> {
    let sizes = fact.unwrap_or_default().split(',');
    sizes.filter_map(|size| size.parse().ok()).collect()
}

/// The same with one more, and the oldest forgotten.
pub(super) fn remember(mut sizes: BTreeSet<u64>, size: u64) -> String {
    /// Each costs a bundle a few tiles.
    const MOST: usize = 16;
    sizes.insert(size);
    while sizes.len() > MOST {
        sizes.pop_first();
    }
    let texts: Vec<String> = sizes.iter().map(u64::to_string).collect();
    texts.join(",")
}
