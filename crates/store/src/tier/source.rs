//! Bytes on their way into a tier.

use std::{fs::File, io, path::Path, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{Digest, Spooled, digest::Hasher, map::Touch, window::Windows};

/// Bytes in memory, or in a file that nobody writes any more. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Bytes(Bytes),
    File(Arc<Windows>, u64),
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Bytes(bytes))
    }
}

impl From<&Spooled> for Source {
    fn from(spooled: &Spooled) -> Self {
        Self(Inner::File(spooled.windows(), spooled.len()))
    }
}

impl Source {
    /// A file that nobody writes any more. Waits for the disk.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self(Inner::File(Arc::new(Windows::new(file)), len)))
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Inner::Bytes(bytes) => bytes.len() as u64,
            Inner::File(_, len) => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes `from..to` as shared blocks, mapped where they are in a file. Waits for the disk.
    pub(crate) fn blocks(&self, from: u64, to: u64) -> io::Result<Vec<Bytes>> {
        match &self.0 {
            Inner::Bytes(bytes) => {
                let at = |at: u64| usize::try_from(at).map_err(io::Error::other);
                Ok(vec![bytes.slice(at(from)?..at(to)?)])
            }
            Inner::File(windows, _) => {
                let mut blocks = Vec::new();
                let mut at = from;
                while at < to {
                    let block = windows.read(at, to, Touch::Now)?.bytes;
                    at += block.len() as u64;
                    blocks.push(block);
                }
                Ok(blocks)
            }
        }
    }

    /// The whole in one piece, which must be at most `max` bytes.
    pub(crate) async fn whole(&self, max: u64) -> io::Result<Bytes> {
        if self.len() > max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let source = self.clone();
        let blocks = match &self.0 {
            Inner::Bytes(bytes) => return Ok(bytes.clone()),
            Inner::File(_, len) => {
                let len = *len;
                spawn_blocking(move || source.blocks(0, len))
                    .await
                    .map_err(io::Error::other)??
            }
        };
        match <[Bytes; 1]>::try_from(blocks) {
            // A copy, so that no mapping is held by what keeps it long.
            Ok([one]) => Ok(Bytes::copy_from_slice(&one)),
            Err(blocks) => Ok(blocks.concat().into()),
        }
    }

    /// The digest of the bytes as they are now, read from the start. Waits for the disk.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut hasher = Hasher::default();
        let (len, mut at) = (self.len(), 0);
        while at < len {
            let to = (at + crate::window::WINDOW_BYTES).min(len);
            for block in self.blocks(at, to)? {
                hasher.update(&block);
            }
            at = to;
        }
        Ok(hasher.finish())
    }
}
