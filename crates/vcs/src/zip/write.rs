//! The writer of zips.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{Plan, Reader, outgrown};
use crate::repository::Trouble;
use crate::{DirectError, ErrorKind};

/// Size of the blocks that are sent, in bytes.
const BLOCK: usize = 64 << 10;
/// Longest wait for a piece of a file, which is on our disk.
const WAIT: Duration = Duration::from_mins(1);

/// Collects blocks and sends them.
struct Blocks<'a> {
    sender: &'a Sender<Result<Bytes, Trouble>>,
    block: BytesMut,
    /// How much more may come.
    room: u64,
}

/// Why no more blocks are wanted.
const TOO_LARGE: &str = "the zip is too large";
const GONE: &str = "nobody reads the zip";

impl Write for Blocks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        self.room = self
            .room
            .checked_sub(length)
            .ok_or_else(|| io::Error::other(TOO_LARGE))?;
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Blocks<'_> {
    fn send(&mut self) -> io::Result<()> {
        let block = self.block.split().freeze();
        self.block.reserve(BLOCK + 4096);
        self.sender
            .blocking_send(Ok(block))
            .map_err(|_| io::Error::other(GONE))
    }
}

/// Writes the whole zip.
pub(super) fn write(
    mut plan: Plan,
    runtime: &Handle,
    sender: &Sender<Result<Bytes, Trouble>>,
) -> Result<(), Trouble> {
    let blocks = Blocks {
        sender,
        block: BytesMut::with_capacity(BLOCK + 4096),
        room: plan.limits.max_zip_bytes,
    };
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default());
    let failed = |error: ZipError| failed(&error, plan.limits.max_zip_bytes);
    let mut zip = ZipWriter::new_stream(blocks);
    let mut block = vec![0; BLOCK];
    let max = plan.limits.max_uncompressed_bytes;
    let mut room = max;
    for name in &plan.names {
        let size = wait(runtime, plan.reader.next(name.as_bytes()))?;
        // Attributes may have made it larger than the tree says.
        room = room
            .checked_sub(size)
            .ok_or_else(|| outgrown("the files together are too large", max))?;
        zip.start_file(format!("{}{name}", plan.prefix), options)
            .map_err(failed)?;
        loop {
            // Filled, however the content comes: what deflate makes of it depends on the pieces it is given.
            let mut filled = 0;
            while filled < block.len() {
                match wait(runtime, plan.reader.block(&mut block[filled..]))? {
                    0 => break,
                    read => filled += read,
                }
            }
            zip.write_all(&block[..filled])
                .map_err(|error| failed(error.into()))?;
            if filled < block.len() {
                break;
            }
        }
    }
    if let Some(license) = &plan.license {
        zip.start_file(format!("{}LICENSE", plan.prefix), options)
            .map_err(failed)?;
        zip.write_all(license)
            .map_err(|error| failed(error.into()))?;
    }
    let mut blocks = zip.finish().map_err(failed)?.into_inner();
    if !blocks.block.is_empty() {
        blocks.send().map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

impl Reader {
    async fn next(&mut self, name: &[u8]) -> Result<u64, Trouble> {
        match self {
            Self::Blobs(blobs) => blobs.next().await,
            Self::Archive(archive) => archive.next(name).await,
            Self::Exported(exported) => exported.next(name).await,
        }
    }

    async fn block(&mut self, block: &mut [u8]) -> Result<usize, Trouble> {
        match self {
            Self::Blobs(blobs) => blobs.block(block).await,
            Self::Archive(archive) => archive.block(block).await,
            Self::Exported(exported) => exported.block(block).await,
        }
    }
}

fn wait<T>(runtime: &Handle, read: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let done = runtime.block_on(async { timeout(WAIT, read).await });
    done.unwrap_or_else(
        |_| Err(DirectError::new(ErrorKind::Timeout, "git gives no content").into()),
    )
}

/// What it means that the zip cannot be written, which may have `max` bytes.
fn failed(error: &ZipError, max: u64) -> Trouble {
    let text = format!("making the zip: {error}");
    let io = match error {
        ZipError::Io(error) => error.to_string(),
        _ => String::new(),
    };
    match &*io {
        GONE => DirectError::new(ErrorKind::Overloaded, text).into(),
        TOO_LARGE => outgrown(&text, max).into(),
        _ => DirectError::invalid(text).into(),
    }
}
