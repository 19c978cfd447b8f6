//! A kept file, open for reading.

use std::{
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::UNIX_EPOCH,
};

use bytes::Bytes;

use crate::{
    frames::{Block, Frames},
    window::Windows,
};

/// Files up to this size are read into memory; larger ones are mapped.
pub(crate) const HEAP_BYTES: u64 = 64 << 10;

/// Files up to this size are mapped whole, larger ones window by window.
const WHOLE_BYTES: u64 = 40 << 20;

/// A file under its final name. Cheap to clone by its `Arc`; stays readable when the file is unlinked.
#[derive(Debug)]
pub struct Kept {
    len: u64,
    validator: Bytes,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// In memory, or one mapping of the whole.
    Whole(Block),
    Windows(Arc<Windows>),
}

impl Kept {
    /// Opens `file` with all its length. Waits for the disk: call it on a thread that may.
    pub(crate) fn open(mut file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "not a regular file",
            ));
        }
        let len = meta.len();
        let age = meta
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let content = if len <= HEAP_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
            file.read_to_end(&mut bytes)?;
            Content::Whole(Block::memory(bytes.into()))
        } else if len <= WHOLE_BYTES {
            Content::Whole(Windows::whole(file, len)?)
        } else {
            Content::Windows(Arc::new(Windows::new(file)))
        };
        Ok(Self {
            len,
            validator: format!("\"{:x}-{len:x}\"", age.as_nanos()).into(),
            content,
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A quoted strong validator in the form of an entity tag (RFC 9110 8.8.3): time of keeping and length.
    /// A kept file never changes, so neither does this.
    pub fn validator(&self) -> &Bytes {
        &self.validator
    }

    /// The whole content, if it is small and so in memory (at most 64 KiB).
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Whole(block) if block.file.is_none() => Some(&block.bytes),
            _ => None,
        }
    }

    /// The whole content, if it is in memory or one mapping (at most 40 MiB).
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Whole(block) => Some(&block.bytes),
            Content::Windows(_) => None,
        }
    }

    /// The bytes `from..to` as a sequence of blocks; both are cut to the length.
    pub fn frames(&self, from: u64, to: u64) -> Frames {
        let to = to.min(self.len);
        let from = from.min(to);
        match &self.content {
            Content::Whole(block) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "in memory, so the length fits"
                )]
                let bytes = block.bytes.slice(from as usize..to as usize);
                let file = block.file.clone();
                Frames::whole(Block {
                    bytes,
                    file: file.map(|(file, offset)| (file, offset + from)),
                })
            }
            Content::Windows(windows) => Frames::windows(Arc::clone(windows), from, to),
        }
    }

    /// What holding this open costs, in bytes: its content, or the price of an open file.
    pub(crate) fn weight(&self) -> u32 {
        const OPEN_FILE: u32 = 256 << 10;
        match &self.content {
            Content::Whole(block) => u32::try_from(block.bytes.len())
                .unwrap_or(u32::MAX)
                .saturating_add(512),
            Content::Windows(_) => OPEN_FILE,
        }
    }
}
