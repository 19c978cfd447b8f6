//! Taking over a Go module cache, or a folder in GOPROXY layout: nothing in it is trusted.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use gomod::{ModulePath, Version, gomod_file, h1, info};
use store::Committed;

use crate::{
    artifact::{Artifact, Part},
    gateway::Gateway,
    refusal::{Code, Refusal},
    verify::Verified,
};

const BLOCK_BYTES: usize = 256 << 10;
const MAX_DEPTH: usize = 64;

/// One file to take over.
#[derive(Clone, Debug)]
pub struct Found {
    pub(crate) artifact: Artifact,
    path: PathBuf,
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
    /// It did not pass.
    Refused(Arc<Refusal>),
}

/// Finds what can be taken over below `folder`, which may be a module cache (`$GOMODCACHE`), its `cache/download`, or any
/// folder in GOPROXY layout. Sorted, so that a version's zip comes last.
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
                    path: entry.path(),
                }));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
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
        match self.try_import(&found).await {
            Ok(Committed::New) => {
                if !self.tiers.keeps_elsewhere()
                    && let Ok(key) = found.artifact.key()
                {
                    self.index.put(key).await;
                }
                Imported::Kept
            }
            Ok(Committed::Present) => Imported::Present,
            Err(refusal) => Imported::Refused(Arc::new(refusal)),
        }
    }

    async fn try_import(self: &Arc<Self>, found: &Found) -> Result<Committed, Refusal> {
        let artifact = &found.artifact;
        let key = artifact.key()?;
        if self.is_kept(&key).await {
            return Ok(Committed::Present);
        }
        let failed = |error: io::Error| {
            Refusal::new(
                Code::StorageError,
                artifact.to_string(),
                format!("{}: {error}", found.path.display()),
            )
        };
        let settings = self.settings.load_full();
        let route = settings.routes.resolve(&artifact.module);
        let origin = found.path.display().to_string();
        let max = match artifact.part {
            Part::Zip => return self.import_zip(found).await,
            Part::Info => info::MAX_BYTES,
            Part::Mod => gomod_file::MAX_BYTES,
        };
        let path = found.path.clone();
        let body = self
            .on_disk(move |_| read_small(&path, max))
            .await?
            .map_err(failed)?;
        let verified = if artifact.part == Part::Info {
            let kept =
                info::keepable(&body, &artifact.module, &artifact.version).map_err(|error| {
                    Refusal::new(
                        Code::UpstreamInvalid,
                        artifact.to_string(),
                        error.to_string(),
                    )
                })?;
            Verified::info(Bytes::copy_from_slice(&kept))
        } else {
            let proof = self.proof(&settings, artifact, &route).await?;
            self.check_go_mod(&settings, artifact, &origin, &body, &proof)?;
            self.judge(
                &settings,
                artifact,
                &origin,
                &h1::hash_go_mod(&body),
                proof,
                |proof| Verified::go_mod(body, proof),
            )?
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

    async fn import_zip(self: &Arc<Self>, found: &Found) -> Result<Committed, Refusal> {
        let artifact = &found.artifact;
        let failed = |error: io::Error| {
            Refusal::new(
                Code::StorageError,
                artifact.to_string(),
                format!("{}: {error}", found.path.display()),
            )
        };
        let settings = self.settings.load_full();
        let route = settings.routes.resolve(&artifact.module);
        let origin = found.path.display().to_string();
        let mut file = File::open(&found.path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
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
        let noted = fs::read_to_string(found.path.with_extension("ziphash"))
            .ok()
            .and_then(|text| text.trim().parse::<h1::H1>().ok());
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
        if noted.is_some_and(|noted| noted != hash) {
            return Err(Refusal::new(
                Code::ChecksumMismatch,
                artifact.to_string(),
                format!("the zip ({hash}) is not what its .ziphash says"),
            ));
        }
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

fn read_small(path: &Path, max: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes.into())
}

fn read_block(mut file: File) -> io::Result<(Bytes, File)> {
    let mut block = vec![0; BLOCK_BYTES];
    let read = file.read(&mut block)?;
    block.truncate(read);
    Ok((block.into(), file))
}
