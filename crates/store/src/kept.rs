//! A kept file, open for reading.

use std::{
    fs::{File, Metadata},
    io::{self, IoSliceMut, Read},
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};

use crate::{
    Digest,
    frames::{Block, FRAME_BYTES, Frames},
    map::Touch,
    notes,
    window::Windows,
};

/// Files up to this size are read into memory; larger ones are mapped, and stay open while they are ready to be sent.
pub const HEAP_BYTES: u64 = 64 << 10;

/// Files up to this size are mapped whole, larger ones window by window.
const WHOLE_BYTES: u64 = 40 << 20;

/// Distance of the places where a large file is probed.
const PROBE_BYTES: u64 = 1 << 20;

/// A file under its final name. Cheap to clone by its `Arc`; stays readable when the file is unlinked.
#[derive(Debug)]
pub struct Kept {
    len: u64,
    validator: Bytes,
    content: Content,
    /// Time of last modification of the file when it was opened, in seconds and nanoseconds.
    modified: (i64, i64),
    /// Sent since somebody last looked.
    used: AtomicBool,
}

#[derive(Debug)]
enum Content {
    /// In memory, or one mapping of the whole.
    Whole(Block),
    Windows(Arc<Windows>),
}

impl Kept {
    /// Opens `file` with all its length. Waits for the disk: call it on a thread that may.
    ///
    /// With `noted` the validator is made of the digest at the file, where there is one, so that it is the same at
    /// every replica and in every tier.
    pub(crate) fn open(mut file: File, noted: bool) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (len, validator) = look(&file, &metadata, noted)?;
        let content = if len <= HEAP_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
            file.read_to_end(&mut bytes)?;
            Content::Whole(Block::memory(bytes.into()))
        } else if len <= WHOLE_BYTES {
            Content::Whole(Windows::whole(file, len, Touch::Now)?)
        } else {
            Content::Windows(Arc::new(Windows::new(file)))
        };
        Ok(Self {
            len,
            validator,
            content,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            used: AtomicBool::new(true),
        })
    }

    /// The same without ever waiting: an error (`WouldBlock` and others) if the system does not have it in memory.
    pub(crate) fn open_at_hand(file: File, metadata: &Metadata, noted: bool) -> io::Result<Self> {
        let (len, validator) = look(&file, metadata, noted)?;
        let content = if len <= HEAP_BYTES {
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            if read_at_hand(&file, &mut bytes, 0)? != bytes.len() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Content::Whole(Block::memory(bytes.into()))
        } else if len <= WHOLE_BYTES {
            // Best effort: what is there at every step is taken to be there in between.
            let mut probe = [0];
            let mut at = 0;
            while at < len {
                read_at_hand(&file, &mut probe, at)?;
                at += PROBE_BYTES;
            }
            read_at_hand(&file, &mut probe, len - 1)?;
            Content::Whole(Windows::whole(file, len, Touch::WhenUsed)?)
        } else {
            Content::Windows(Arc::new(Windows::new(file)))
        };
        Ok(Self {
            len,
            validator,
            content,
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            used: AtomicBool::new(true),
        })
    }

    /// An object of another tier that was read whole. Its validator is made of its content.
    pub(crate) fn memory(bytes: Bytes, digest: &Digest) -> Self {
        let len = bytes.len() as u64;
        Self {
            len,
            validator: digest.validator(),
            content: Content::Whole(Block::memory(bytes)),
            modified: (0, 0),
            used: AtomicBool::new(true),
        }
    }

    /// Whether what would be sent is still what was opened: nobody has written to the file since. What is in memory is.
    pub(crate) fn is_unchanged(&self) -> bool {
        let file = match &self.content {
            Content::Whole(block) => block.file.as_ref().map(|(file, _)| file),
            Content::Windows(windows) => Some(windows.file()),
        };
        // One system call of a third of a microsecond for what takes a hundred times that to send.
        file.is_none_or(|file| {
            file.metadata().is_ok_and(|now| {
                now.len() == self.len && (now.mtime(), now.mtime_nsec()) == self.modified
            })
        })
    }

    /// Notes that it is sent.
    pub(crate) fn mark_used(&self) {
        // Mostly it is noted already: a read alone leaves the line of memory shared among the processors.
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    /// Whether it was sent since this was asked last.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A quoted strong validator in the form of an entity tag (RFC 9110 8.8.3): time of keeping and length, or hash and
    /// length where there are tiers beside the disk. A kept file never changes, so neither does this.
    pub fn validator(&self) -> &Bytes {
        &self.validator
    }

    /// The whole content, if it is in memory and small enough to be sent at once (at most 1 MiB).
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Whole(block) if block.file.is_none() && block.bytes.len() <= FRAME_BYTES => {
                Some(&block.bytes)
            }
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

    /// The same for who touches each byte, as encryption does: read from the file. Where somebody cuts the file short, that
    /// is an error, while the next byte of a mapping would end the process.
    pub fn read_frames(&self, from: u64, to: u64) -> Frames {
        let file = match &self.content {
            Content::Whole(block) => block.file.as_ref().map(|(file, _)| file),
            Content::Windows(windows) => Some(windows.file()),
        };
        let Some(file) = file else {
            return self.frames(from, to);
        };
        let to = to.min(self.len);
        Frames::read(Arc::clone(file), from.min(to), to)
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

/// Length and validator of a regular file.
fn look(file: &File, meta: &Metadata, noted: bool) -> io::Result<(u64, Bytes)> {
    if !meta.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "not a regular file",
        ));
    }
    let len = meta.len();
    if noted
        && let Ok(Some(digest)) = notes::digest_of(file)
        && digest.size == len
    {
        return Ok((len, digest.validator()));
    }
    let age = meta
        .modified()?
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok((len, format!("\"{:x}-{len:x}\"", age.as_nanos()).into()))
}

/// Reads what the page cache has, without waiting for the disk.
pub(crate) fn read_at_hand(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut into = [IoSliceMut::new(into)];
    Ok(preadv2(file, &mut into, at, ReadWriteFlags::NOWAIT)?)
}
