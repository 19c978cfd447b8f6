//! Taking over a Go module cache, a folder in GOPROXY layout or what was carried here in a bundle: nothing in it is
//! trusted.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use gomod::{
    ModulePath, Version, gomod_file,
    h1::{self, H1},
    info,
};
use store::Committed;

use crate::{
    anew::artifact_of,
    artifact::{Artifact, Part},
    gateway::Gateway,
    refusal::{Code, Refusal},
    verify::Verified,
};

const BLOCK_BYTES: usize = 256 << 10;
const MAX_DEPTH: usize = 64;
/// Longest `.ziphash`.
const MAX_HASH_BYTES: u64 = 128;

/// One file to take over.
#[derive(Clone, Debug)]
pub struct Found {
    pub(crate) artifact: Artifact,
    place: Place,
    /// What somebody said its hash is.
    noted: Option<H1>,
    /// Whether it is an `.info` without `.mod` and `.zip` beside it: what a query leaves in the go command's cache of a
    /// version that was not used then.
    alone: bool,
}

/// Where its bytes are.
#[derive(Clone, Debug)]
enum Place {
    /// In a file of its own.
    File(PathBuf),
    /// In a part of another one.
    Part { file: Arc<File>, at: u64, size: u64 },
}

impl Place {
    /// Opens it, and says how long it is. Waits for the disk.
    fn open(&self) -> io::Result<(Box<dyn Read + Send>, u64)> {
        Ok(match self {
            Self::File(path) => {
                let file = File::open(path)?;
                let len = file.metadata()?.len();
                (Box::new(file), len)
            }
            Self::Part { file, at, size } => {
                let (file, at, left) = (Arc::clone(file), *at, *size);
                (Box::new(PartReader { file, at, left }), *size)
            }
        })
    }
}

/// Reads a part of a file that others read too.
struct PartReader {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for PartReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(into.len());
        let read = self.file.read_at(&mut into[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Found {
    /// A file of a version that lies in a part of another file, under its key; `None` if the key names something else.
    pub fn part(key: &str, file: Arc<File>, at: u64, size: u64, noted: Option<H1>) -> Option<Self> {
        Some(Self {
            artifact: artifact_of(key)?,
            place: Place::Part { file, at, size },
            noted,
            alone: false,
        })
    }

    /// The module it is of.
    pub fn module(&self) -> &ModulePath {
        &self.artifact.module
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.artifact.version
    }

    /// Where it comes from, for people.
    fn origin(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Part { .. } => "the bundle".to_owned(),
        }
    }
}

/// Puts files in the order in which they can vouch for each other: of each version what has a hash comes first. Notes of
/// what is there alone that it is.
pub fn sort(found: &mut [Found]) {
    let rank = |part| match part {
        Part::Mod => 0,
        Part::Zip => 1,
        Part::Info => 2,
    };
    found.sort_by_cached_key(|found| {
        let file = &found.artifact;
        (file.module.clone(), file.version.clone(), rank(file.part))
    });
    let mut before: Option<&Artifact> = None;
    for Found {
        artifact, alone, ..
    } in found
    {
        let beside = before.is_some_and(|before| {
            before.version == artifact.version && before.module == artifact.module
        });
        *alone = artifact.part == Part::Info && !beside;
        before = Some(artifact);
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.artifact, self.artifact.part.ending())
    }
}

/// What became of a file.
#[derive(Clone, Debug)]
pub enum Imported {
    /// It is kept from now on.
    Kept,
    /// It was kept already.
    Present,
    /// An `.info` for which nothing vouches, since its version was only asked about.
    LeftOut,
    /// It did not pass.
    Refused(Arc<Refusal>),
}

/// Finds what can be taken over below `folder`, which may be a module cache (`$GOMODCACHE`), its `cache/download`, or any
/// folder in GOPROXY layout. [Sorted](sort).
///
/// # Errors
/// A folder that cannot be read.
pub fn find(folder: &Path) -> io::Result<Vec<Found>> {
    let download = folder.join("cache/download");
    let root = if download.is_dir() {
        download
    } else {
        folder.to_owned()
    };
    let mut found = Vec::new();
    let mut folders = vec![(root.clone(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() && folder.ends_with("@v") {
                found.extend(artifact(&root, &entry.path()).map(|artifact| Found {
                    artifact,
                    place: Place::File(entry.path()),
                    noted: None,
                    alone: false,
                }));
            }
        }
    }
    sort(&mut found);
    Ok(found)
}

/// What a file in a folder in GOPROXY layout is.
pub(crate) fn artifact(root: &Path, path: &Path) -> Option<Artifact> {
    let (module, file) = path
        .strip_prefix(root)
        .ok()?
        .to_str()?
        .rsplit_once("/@v/")?;
    let (stem, ending) = file.rsplit_once('.')?;
    let part = match ending {
        "info" => Part::Info,
        "mod" => Part::Mod,
        "zip" => Part::Zip,
        _ => return None,
    };
    let (module, version) = (
        ModulePath::from_escaped(module).ok()?,
        Version::from_escaped(stem).ok()?,
    );
    version.check_major(&module).ok()?;
    Some(Artifact {
        module,
        version,
        part,
    })
}

impl Gateway {
    /// Takes over one file, if it passes the same checks as a download.
    pub async fn import(self: &Arc<Self>, found: Found) -> Imported {
        if found.alone && matches!(self.is_vouched_for(&found.artifact).await, Ok(false)) {
            return Imported::LeftOut;
        }
        match self.try_import(&found).await {
            Ok(Committed::New) => {
                if !self.tiers.keeps_elsewhere()
                    && let Ok(key) = found.artifact.key()
                {
                    self.tiers.share(&key);
                    self.index.put(key).await;
                }
                Imported::Kept
            }
            Ok(Committed::Present) => {
                // An import that was killed may have kept it without a note.
                if !self.tiers.keeps_elsewhere()
                    && let Ok(key) = found.artifact.key()
                    && let Ok(None) = self.records.object(key.as_str()).await
                {
                    self.index.put(key).await;
                }
                Imported::Present
            }
            Err(refusal) => Imported::Refused(Arc::new(refusal)),
        }
    }

    async fn try_import(self: &Arc<Self>, found: &Found) -> Result<Committed, Refusal> {
        let artifact = &found.artifact;
        let key = artifact.key()?;
        if self.is_kept(&key).await {
            return Ok(Committed::Present);
        }
        let origin = found.origin();
        let failed = |error: io::Error| {
            let why = format!("{origin}: {error}");
            Refusal::new(Code::StorageError, artifact.to_string(), why)
        };
        let settings = self.settings.load_full();
        let route = settings.routes.resolve(&artifact.module);
        let max = match artifact.part {
            Part::Zip => return self.import_zip(found).await,
            Part::Info => info::MAX_BYTES,
            Part::Mod => gomod_file::MAX_BYTES,
        };
        let place = found.place.clone();
        let body = self
            .on_disk(move |_| read_small(&place, max))
            .await?
            .map_err(failed)?;
        let verified = if artifact.part == Part::Info {
            self.check_info(artifact, &body).await?
        } else {
            let proof = self.proof(&settings, artifact, &route).await?;
            let hash = h1::hash_go_mod(&body);
            as_noted(artifact, found.noted, hash)?;
            self.check_go_mod(&settings, artifact, &origin, &body, &proof)?;
            self.judge(&settings, artifact, &origin, &hash, proof, |proof| {
                Verified::go_mod(body, proof)
            })?
        };
        verified_or(artifact, verified.warning())?;
        if self.tiers.keeps_elsewhere() {
            let content = store::Content::Bytes(verified.into_content());
            return self.import_into_tiers(artifact, content, None).await;
        }
        let module = artifact.module.clone();
        let committed = self
            .on_disk(move |gateway| {
                gateway.keep_listed(&module, || {
                    gateway.store.put_small(&key, verified.content())
                })
            })
            .await?
            .map_err(failed)?;
        self.changed(&artifact.module);
        Ok(committed)
    }

    /// An `.info` has no hash that anybody knows. It is taken as from an upstream, if what has a hash is kept of its
    /// version.
    async fn check_info(
        self: &Arc<Self>,
        artifact: &Artifact,
        body: &[u8],
    ) -> Result<Verified<Bytes>, Refusal> {
        let refused = |why: String| {
            let code = Code::UpstreamInvalid;
            Refusal::new(code, artifact.to_string(), why)
        };
        let kept = info::keepable(body, &artifact.module, &artifact.version);
        let kept = kept.map_err(|error| refused(error.to_string()))?;
        if self.is_vouched_for(artifact).await? {
            return Ok(Verified::info(Bytes::copy_from_slice(&kept)));
        }
        Err(
            refused("nothing vouches for an .info alone: neither .mod nor .zip is kept".to_owned())
                .hint("take over the .mod or the .zip of this version too"),
        )
    }

    /// Whether what has a hash is kept of the version of an `.info`.
    async fn is_vouched_for(self: &Arc<Self>, info: &Artifact) -> Result<bool, Refusal> {
        for part in [Part::Mod, Part::Zip] {
            let beside = Artifact {
                part,
                ..info.clone()
            };
            if self.is_kept(&beside.key()?).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn import_zip(self: &Arc<Self>, found: &Found) -> Result<Committed, Refusal> {
        let artifact = &found.artifact;
        let origin = found.origin();
        let failed = |error: io::Error| {
            let why = format!("{origin}: {error}");
            Refusal::new(Code::StorageError, artifact.to_string(), why)
        };
        let settings = self.settings.load_full();
        let route = settings.routes.resolve(&artifact.module);
        let place = found.place.clone();
        let opened = self.on_disk(move |_| place.open()).await?;
        let (mut file, len) = opened.map_err(failed)?;
        if len > settings.max_zip_bytes {
            return Err(Refusal::new(
                Code::UpstreamInvalid,
                artifact.to_string(),
                "larger than a module zip may be",
            ));
        }
        let mut writer = self.store.spool(Some(len)).await.map_err(failed)?;
        loop {
            let (read, rest) = self
                .on_disk(move |_| read_block(file))
                .await?
                .map_err(failed)?;
            file = rest;
            if read.is_empty() {
                break;
            }
            writer.write(vec![read]).await.map_err(failed)?;
        }
        let spooled = writer.finish();
        let proof = self.proof(&settings, artifact, &route).await?;
        let noted = match &found.place {
            Place::File(path) => hash_beside(path),
            Place::Part { .. } => found.noted,
        };
        let content = spooled.reader();
        let hash = self
            .check_zip(&settings, artifact, &origin, content, true)
            .await?;
        let Some(hash) = hash else {
            return Err(Refusal::new(
                Code::InternalError,
                artifact.to_string(),
                "no hash",
            ));
        };
        as_noted(artifact, noted, hash)?;
        let mut verified =
            self.judge_zip(&settings, artifact, &origin, Some(hash), &proof, spooled)?;
        verified_or(artifact, verified.warning())?;
        verified.content_mut().release();
        if self.tiers.keeps_elsewhere() {
            let content = store::Content::Spooled(verified.into_content());
            return self.import_into_tiers(artifact, content, Some(hash)).await;
        }
        let committed = self
            .keep_zip(artifact, verified, Some(hash))
            .await?
            .map_err(failed)?;
        self.changed(&artifact.module);
        Ok(committed)
    }
}

fn verified_or(artifact: &Artifact, warning: Option<&'static str>) -> Result<(), Refusal> {
    warning.map_or(Ok(()), |warning| {
        Err(Refusal::new(
            Code::ChecksumDatabaseUnreachable,
            artifact.to_string(),
            warning,
        ))
    })
}

/// Compares a file with what was said of it where it comes from.
fn as_noted(artifact: &Artifact, noted: Option<H1>, hash: H1) -> Result<(), Refusal> {
    if noted.is_none_or(|noted| noted == hash) {
        return Ok(());
    }
    let ending = artifact.part.ending();
    let why = format!("the {ending} ({hash}) is not what is written beside it");
    Err(Refusal::new(
        Code::ChecksumMismatch,
        artifact.to_string(),
        why,
    ))
}

/// What stands in the `.ziphash` beside a zip.
fn hash_beside(zip: &Path) -> Option<H1> {
    let mut text = String::new();
    let file = File::open(zip.with_extension("ziphash")).ok()?;
    file.take(MAX_HASH_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn read_small(place: &Place, max: usize) -> io::Result<Bytes> {
    let (file, _) = place.open()?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes.into())
}

fn read_block(mut file: Box<dyn Read + Send>) -> io::Result<(Bytes, Box<dyn Read + Send>)> {
    let mut block = vec![0; BLOCK_BYTES];
    let read = file.read(&mut block)?;
    block.truncate(read);
    Ok((block.into(), file))
}
