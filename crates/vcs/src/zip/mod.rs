//! Module zips (protocol.md section 6), made as a stream: always the same bytes for the same files.

mod stream;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use gomod::zip::{Kind, Limits, SourceFile, select};
use gomod::{ModulePath, Version};
use tokio::sync::mpsc;

use crate::DirectError;
use crate::git::{Archive, Blobs, Mirror, Objects};
use crate::program::Exported;
use crate::repository::Trouble;

pub(crate) use stream::Again;
pub use stream::ZipStream;

/// How many blocks wait for the one who reads them.
const BLOCKS: usize = 8;

/// A file of a folder.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its path from the folder.
    pub(crate) name: Vec<u8>,
    /// A file or a link.
    pub(crate) kind: Kind,
    /// In bytes.
    pub(crate) size: u64,
}

/// The files of a module's folder.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) entries: Vec<Entry>,
    pub(crate) content: Content,
    /// The mirror they come from, and which making of it: if it is damaged, it goes.
    pub(crate) mirror: Option<(Arc<Mirror>, u64)>,
}

/// Where content comes from.
#[derive(Debug)]
pub(crate) enum Content {
    /// As it is in the repository, by the hashes of all entries.
    Objects {
        hashes: Vec<String>,
        objects: Box<Objects>,
    },
    /// As an archive has it.
    Archive(Box<Archive>),
    /// As it was exported to the disk.
    Exported(Box<Exported>),
}

/// What is to be read, file by file, in order.
#[derive(Debug)]
enum Reader {
    Blobs(Box<Blobs>),
    Archive(Box<Archive>),
    Exported(Box<Exported>),
}

/// A zip that is to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `path@version/`
    prefix: String,
    /// The names to be read, in order.
    names: Vec<String>,
    /// What comes behind them: the LICENSE of the repository.
    license: Option<Bytes>,
    reader: Reader,
    limits: Limits,
    mirror: Option<(Arc<Mirror>, u64)>,
}

/// The error of a module that is larger than `max` bytes: Go's own rule, unless this gateway takes less.
pub(crate) fn outgrown(text: &str, max: u64) -> DirectError {
    if max < Limits::default().max_uncompressed_bytes {
        DirectError::too_large(text)
    } else {
        DirectError::invalid(text)
    }
}

impl Plan {
    /// Chooses the files. `license` is that of the repository's root, for a module in a folder without its own.
    pub(crate) fn new(
        module: &ModulePath,
        version: &Version,
        files: Files,
        go_mod: Option<&[u8]>,
        license: Option<Bytes>,
        max_bytes: u64,
    ) -> Result<Self, DirectError> {
        let limits = Limits {
            max_zip_bytes: max_bytes,
            max_uncompressed_bytes: max_bytes,
            ..Limits::default()
        };
        let license =
            license.filter(|_| files.entries.iter().all(|entry| entry.name != b"LICENSE"));
        let mut list: Vec<SourceFile<'_>> = files
            .entries
            .iter()
            .map(|entry| SourceFile {
                name: &entry.name,
                kind: entry.kind,
                size: entry.size,
            })
            .collect();
        list.extend(license.as_ref().map(|license| SourceFile {
            name: b"LICENSE",
            kind: Kind::Regular,
            size: license.len() as u64,
        }));
        let selection = select(&list, go_mod, &limits).map_err(|error| {
            let text = format!("{module}@{version}: no zip can be made: {error}");
            // What Go takes and this gateway does not is no matter of the module.
            if select(&list, go_mod, &Limits::default()).is_ok() {
                return DirectError::too_large(text);
            }
            DirectError::invalid(text)
                .hint("the go command cannot make one either; a new version is needed")
        })?;
        let count = files.entries.len();
        let included = || {
            selection
                .included
                .iter()
                .copied()
                .filter(|index| *index < count)
        };
        let names = included()
            .map(|index| String::from_utf8_lossy(&files.entries[index].name).into_owned())
            .collect();
        let license = license.filter(|_| selection.included.last() == Some(&count));
        let reader = match files.content {
            Content::Objects { hashes, objects } => Reader::Blobs(Box::new(Blobs::new(
                *objects,
                included().map(|index| hashes[index].clone()).collect(),
            ))),
            Content::Archive(archive) => Reader::Archive(archive),
            Content::Exported(exported) => Reader::Exported(exported),
        };
        Ok(Self {
            prefix: format!("{module}@{version}/"),
            names,
            license,
            reader,
            limits,
            mirror: files.mirror,
        })
    }

    /// Makes the zip on a thread that may wait; it ends when nobody reads any more. `place` is held until then.
    pub(crate) fn start(
        self,
        place: impl Send + 'static,
    ) -> mpsc::Receiver<Result<Bytes, Trouble>> {
        let (sender, receiver) = mpsc::channel(BLOCKS);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let mirror = self.mirror.clone();
            let Err(trouble) = write::write(self, &runtime, &sender) else {
                return;
            };
            if let (Trouble::Mirror(why), Some((mirror, generation))) = (&trouble, mirror) {
                tracing::warn!(mirror = %mirror.folder.display(), why, "a mirror is damaged and goes");
                let _ = runtime.block_on(mirror.discard(generation));
            }
            // Whoever went away needs no error.
            let _ = sender.blocking_send(Err(trouble));
            drop(place);
        });
        receiver
    }
}
