//! Where backups are: a folder, or a bucket.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart, path::Path as ObjectPath};
use store::tier::is_absent;
use tokio::task::spawn_blocking;

use super::off;
use crate::CareError;

/// Off the runtime's threads; an error says which file it was.
async fn off_at<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    off(move || work(&path).map_err(|error| store::at(&path, error))).await
}

/// Longest `backup.json`.
const MAX_SMALL: u64 = 64 << 10;
const BLOCK_BYTES: usize = 1 << 20;
/// Parts of an upload under way at a time.
const PARTS: usize = 2;

/// A folder, or a bucket.
#[derive(Clone, Debug)]
pub enum Target {
    /// A folder; made if absent.
    Folder(PathBuf),
    /// A bucket.
    Bucket {
        /// How it is reached.
        store: Arc<dyn ObjectStore>,
        /// Stands before all names.
        prefix: ObjectPath,
    },
}

/// `20261126T045300.123Z-0a1b2c`.
const ID_BYTES: usize = 27;

/// A name that a backup of ours has, and no other.
fn is_id(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    name.len() == ID_BYTES
        && name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(allowed)
}

fn absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            // It says the bucket, and no key.
            Self::Bucket { store, prefix } => write!(f, "{store} below {:?}", prefix.as_ref()),
        }
    }
}

impl Target {
    fn object(prefix: &ObjectPath, id: &str, name: &str) -> ObjectPath {
        prefix.clone().join(id).join(name)
    }

    /// The names of all backups, finished or not, in no order.
    pub async fn ids(&self) -> Result<Vec<String>, CareError> {
        match self {
            Self::Folder(folder) => {
                let names = off_at(folder.clone(), |folder| {
                    let entries = match fs::read_dir(folder) {
                        Ok(entries) => entries,
                        Err(error) if absent(&error) => return Ok(Vec::new()),
                        Err(error) => return Err(error),
                    };
                    let mut names = Vec::new();
                    for entry in entries {
                        let entry = entry?;
                        // A backup is a folder; a file of such a name is somebody else's.
                        if let Ok(name) = entry.file_name().into_string()
                            && is_id(&name)
                            && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir())
                        {
                            names.push(name);
                        }
                    }
                    Ok(names)
                });
                Ok(names.await?)
            }
            Self::Bucket { store, prefix } => {
                let listed = store.list_with_delimiter(Some(prefix)).await?;
                let names = listed.common_prefixes.iter();
                let names = names.filter_map(|path| path.filename().map(str::to_owned));
                Ok(names.filter(|name| is_id(name)).collect())
            }
        }
    }

    /// Writes a file; under its name it is whole.
    pub(super) async fn put(&self, id: &str, name: &str, from: &Path) -> Result<(), CareError> {
        let from = from.to_owned();
        match self {
            Self::Folder(folder) => {
                let folder = folder.join(id);
                let (to, new) = (folder.join(name), folder.join(format!("{name}.new")));
                let put = off_at(folder, move |folder| {
                    fs::create_dir_all(folder)?;
                    let mut file = File::create(&new)?;
                    io::copy(&mut File::open(from)?, &mut file)?;
                    file.sync_all()?;
                    fs::rename(new, to)?;
                    File::open(folder)?.sync_all()?;
                    folder
                        .parent()
                        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
                });
                Ok(put.await?)
            }
            Self::Bucket { store, prefix } => {
                let to = Self::object(prefix, id, name);
                let mut upload = WriteMultipart::new(store.put_multipart(&to).await?);
                let mut file = off(move || File::open(from)).await?;
                loop {
                    let read = spawn_blocking(move || {
                        let mut block = Vec::with_capacity(BLOCK_BYTES);
                        (&mut file)
                            .take(BLOCK_BYTES as u64)
                            .read_to_end(&mut block)?;
                        Ok::<_, io::Error>((file, block))
                    });
                    let (rest, block) = read.await.map_err(io::Error::other)??;
                    if block.is_empty() {
                        break;
                    }
                    file = rest;
                    upload.wait_for_capacity(PARTS).await?;
                    upload.put(Bytes::from(block));
                }
                upload.finish().await?;
                Ok(())
            }
        }
    }

    /// Reads a file to `to`.
    pub(super) async fn get(&self, id: &str, name: &str, to: &Path) -> Result<(), CareError> {
        let to = to.to_owned();
        match self {
            Self::Folder(folder) => {
                let from = folder.join(id).join(name);
                Ok(off_at(from, move |from| fs::copy(from, to).map(drop)).await?)
            }
            Self::Bucket { store, prefix } => {
                let got = store.get(&Self::object(prefix, id, name)).await?;
                let mut file = off(move || File::create(to)).await?;
                let mut stream = got.into_stream();
                while let Some(block) = stream.next().await {
                    let block = block?;
                    let written = spawn_blocking(move || file.write_all(&block).map(|()| file));
                    file = written.await.map_err(io::Error::other)??;
                }
                Ok(())
            }
        }
    }

    /// A short file, if it is there.
    pub(super) async fn read_small(
        &self,
        id: &str,
        name: &str,
    ) -> Result<Option<Vec<u8>>, CareError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(id).join(name);
                let read = off_at(path, |path| match File::open(path) {
                    Ok(file) => {
                        let mut bytes = Vec::new();
                        file.take(MAX_SMALL).read_to_end(&mut bytes)?;
                        Ok(Some(bytes))
                    }
                    Err(error) if absent(&error) => Ok(None),
                    Err(error) => Err(error),
                });
                Ok(read.await?)
            }
            Self::Bucket { store, prefix } => {
                match store.get(&Self::object(prefix, id, name)).await {
                    Ok(got) if got.meta.size > MAX_SMALL => {
                        Err(super::wrong(id, format_args!("its {name} is too long")))
                    }
                    Ok(got) => Ok(Some(got.bytes().await?.into())),
                    Err(error) if is_absent(&error) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Removes a file, if it is there.
    pub(super) async fn remove(&self, id: &str, name: &str) -> Result<(), CareError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(id).join(name);
                let removed = off_at(path, |path| match fs::remove_file(path) {
                    Err(error) if !absent(&error) => Err(error),
                    _ => Ok(()),
                });
                Ok(removed.await?)
            }
            Self::Bucket { store, prefix } => {
                match store.delete(&Self::object(prefix, id, name)).await {
                    Ok(()) => Ok(()),
                    Err(error) if is_absent(&error) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Removes the folder of a backup that has no files any more.
    pub(super) async fn remove_folder(&self, id: &str) -> Result<(), CareError> {
        if let Self::Folder(folder) = self {
            let folder = folder.join(id);
            // Something of somebody else in it stays.
            let _ = off(move || fs::remove_dir(folder)).await;
        }
        Ok(())
    }
}
