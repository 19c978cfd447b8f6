//! Reading the content of entries, block by block.

use std::io::{Read, Seek, SeekFrom};

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use sha2::{Digest, Sha256};

use super::{
    ZipError,
    directory::{Entry, u16_at, u32_at},
};

/// What is read at once, if an entry does not need more.
const WINDOW_BYTES: usize = 128 << 10;
/// Entries up to these sizes are inflated in one go, at twice the speed of a stream; few are larger.
const WHOLE_COMPRESSED: u64 = 1 << 20;
const WHOLE_UNCOMPRESSED: u64 = 4 << 20;
const LOCAL: u32 = 0x0403_4b50;
const LOCAL_BYTES: usize = 30;
const DESCRIPTOR: u32 = 0x0807_4b50;

/// A block of the file, moved along: entries follow one another, so most reads are in memory already.
pub(super) struct Window<R> {
    reader: R,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<R: Read + Seek> Window<R> {
    pub(super) fn new(reader: R, len: u64) -> Self {
        Self {
            reader,
            len,
            start: 0,
            bytes: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A copy of a range.
    pub(super) fn copy(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, ZipError> {
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(ZipError::Format("it ends too early"));
        }
        let mut bytes = vec![0; len];
        self.reader.seek(SeekFrom::Start(offset))?;
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Bytes from `offset`, at least one and at most `max`, and at least `least` of them.
    fn at(&mut self, offset: u64, least: usize, max: u64) -> Result<&[u8], ZipError> {
        if offset
            .checked_add(least.max(1) as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(ZipError::Format("it ends too early"));
        }
        let inside = offset >= self.start
            && offset + least.max(1) as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let want = (self.len - offset).min(WINDOW_BYTES.max(least) as u64);
            let want = usize::try_from(want).unwrap_or(WINDOW_BYTES);
            self.bytes.resize(want, 0);
            self.reader.seek(SeekFrom::Start(offset))?;
            self.reader.read_exact(&mut self.bytes)?;
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(0);
        let rest = &self.bytes[from..];
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Ok(&rest[..rest.len().min(max)])
    }
}

/// Inflates entries one after the other with the same memory.
pub(super) struct Content {
    whole: Decompressor,
    stream: Decompress,
    out: Vec<u8>,
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            whole: Decompressor::new(),
            stream: Decompress::new(false),
            out: vec![0; WINDOW_BYTES],
        }
    }

    /// Reads an entry to its end: its size and CRC must be as declared. Gives its SHA-256 if wanted.
    pub(super) fn read<R: Read + Seek>(
        &mut self,
        window: &mut Window<R>,
        entry: &Entry,
        hash: bool,
    ) -> Result<Option<[u8; 32]>, ZipError> {
        let fault = |why| ZipError::Entry {
            name: entry.name.chars().take(100).collect(),
            why,
        };
        let header = window.at(entry.header_offset, LOCAL_BYTES, LOCAL_BYTES as u64)?;
        if u32_at(header, 0) != LOCAL {
            return Err(fault("no entry where the directory says"));
        }
        let mut at = entry.header_offset
            + LOCAL_BYTES as u64
            + u64::from(u16_at(header, 26))
            + u64::from(u16_at(header, 28));
        let end = at
            .checked_add(entry.compressed)
            .filter(|end| *end <= window.len())
            .ok_or_else(|| fault("its content is cut short"))?;
        let mut seen = Seen {
            crc: crc32fast::Hasher::new(),
            sha: hash.then(Sha256::new),
            bytes: 0,
            declared: entry.uncompressed,
        };
        if entry.name.ends_with('/') {
            // Go does not read what a folder holds, and hashes it as empty.
            if entry.uncompressed != 0 {
                return Err(fault("a folder with content"));
            }
            return Ok(seen.sha.map(|sha| sha.finalize().into()));
        }
        if entry.deflated
            && self.whole(window, at, end, entry)?
            && let Ok(len) = usize::try_from(entry.uncompressed)
        {
            seen.take(&self.out[..len]).map_err(fault)?;
            descriptor(window, end, entry)?.map_err(fault)?;
            return seen.finish(entry).map_err(fault);
        }
        self.stream.reset(false);
        let mut over = !entry.deflated;
        while at < end {
            let block = window.at(at, 1, end - at)?;
            if !entry.deflated {
                seen.take(block).map_err(fault)?;
                at += block.len() as u64;
                continue;
            }
            let (input, output) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(block, &mut self.out, FlushDecompress::None)
                .map_err(|_| fault("damaged content"))?;
            let consumed = self.stream.total_in() - input;
            let produced = usize::try_from(self.stream.total_out() - output).unwrap_or(0);
            seen.take(&self.out[..produced]).map_err(fault)?;
            at += consumed;
            if status == Status::StreamEnd {
                over = true;
                break;
            }
            if consumed == 0 && produced == 0 {
                return Err(fault("damaged content"));
            }
        }
        // Input may be used up with output still inside.
        while !over {
            let output = self.stream.total_out();
            let status = self
                .stream
                .decompress(&[], &mut self.out, FlushDecompress::Finish);
            let produced = usize::try_from(self.stream.total_out() - output).unwrap_or(0);
            seen.take(&self.out[..produced]).map_err(fault)?;
            over = matches!(status, Ok(Status::StreamEnd));
            if !over && produced == 0 {
                return Err(fault("its content is cut short"));
            }
        }
        descriptor(window, end, entry)?.map_err(fault)?;
        seen.finish(entry).map_err(fault)
    }

    /// Inflates a small entry into `out` in one go. False if it is not small, or if that fails: then the stream
    /// says what is wrong with it.
    fn whole<R: Read + Seek>(
        &mut self,
        window: &mut Window<R>,
        at: u64,
        end: u64,
        entry: &Entry,
    ) -> Result<bool, ZipError> {
        let sizes = (
            usize::try_from(end - at),
            usize::try_from(entry.uncompressed),
        );
        let (Ok(compressed), Ok(uncompressed)) = sizes else {
            return Ok(false);
        };
        if compressed == 0 || end - at > WHOLE_COMPRESSED || entry.uncompressed > WHOLE_UNCOMPRESSED
        {
            return Ok(false);
        }
        if self.out.len() < uncompressed {
            self.out.resize(uncompressed, 0);
        }
        let block = window.at(at, compressed, end - at)?;
        let out = &mut self.out[..uncompressed];
        Ok(self.whole.deflate_decompress(block, out) == Ok(uncompressed))
    }
}

/// Whether the data descriptor after an entry, if it says to have one, has the same CRC. Its signature is optional;
/// its sizes are not looked at, as Go does not.
fn descriptor<R: Read + Seek>(
    window: &mut Window<R>,
    end: u64,
    entry: &Entry,
) -> Result<Result<(), &'static str>, ZipError> {
    if !entry.descriptor {
        return Ok(Ok(()));
    }
    let start = window.at(end, 12, 12)?;
    let crc32 = if u32_at(start, 0) == DESCRIPTOR {
        u32_at(window.at(end, 16, 16)?, 4)
    } else {
        u32_at(start, 0)
    };
    Ok((crc32 == entry.crc32)
        .then_some(())
        .ok_or("its checksum is another one in the data descriptor"))
}

struct Seen {
    crc: crc32fast::Hasher,
    sha: Option<Sha256>,
    bytes: u64,
    declared: u64,
}

impl Seen {
    /// Whether size and CRC are as declared; the SHA-256, if it was taken.
    fn finish(self, entry: &Entry) -> Result<Option<[u8; 32]>, &'static str> {
        if self.bytes != entry.uncompressed {
            return Err("shorter than declared");
        }
        if self.crc.finalize() != entry.crc32 {
            return Err("its checksum does not match");
        }
        Ok(self.sha.map(|sha| sha.finalize().into()))
    }

    fn take(&mut self, block: &[u8]) -> Result<(), &'static str> {
        self.bytes += block.len() as u64;
        if self.bytes > self.declared {
            return Err("longer than declared");
        }
        self.crc.update(block);
        if let Some(sha) = &mut self.sha {
            sha.update(block);
        }
        Ok(())
    }
}
