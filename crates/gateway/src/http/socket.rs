//! A client's socket: plain or TLS, and file bytes sent without being copied.
//!
//! hyper writes bodies from memory. A large body here is a mapping of a file, and over a plain connection the system
//! can send those bytes from the page cache itself (`sendfile`), at a quarter of the CPU. So a body announces which
//! bytes lie in which file, and when hyper comes to write exactly these addresses, the file is sent instead.
//! What is announced is held until it is sent, so that no other bytes can come to lie at its addresses.
//!
//! A client on this machine, such as a balancer, receives pages sent so more slowly than copied ones: it copies them itself,
//! and gives each back by itself. While there are few clients, files that are not very large are copied to one of these.
//! And what a network needs, to be filled by paces and not at once, holds it up (docs/performance.md has the figures).

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;
use rustix::{fs::sendfile, io::write, net::sockopt::set_tcp_congestion};
use store::Block;
use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::server::TlsStream;

/// Shorter blocks are copied: that costs less than a call of its own.
const LEAST_BYTES: usize = 32 << 10;
/// hyper queues a few blocks; what is announced beyond that is copied.
const MOST_BLOCKS: usize = 32;

/// Files up to this size are copied to a client on this machine, while no more than so many connections are open.
const COPIED_BYTES: u64 = 4 << 20;
const FEW: i64 = 64;

/// A congestion control that every system has, and that sends as soon as there is room. Others, such as bbr, wait by timers
/// between what they send.
const UNPACED: &str = "reno";
/// From this place of a file on: what is shorter ends sooner for the slowest of a crowd at the system's own pace.
const UNPACED_FROM: u64 = 2 << 20;

/// Open connections.
type Open = Gauge<i64, AtomicI64>;

/// What a body will hand to hyper from files, in the order of writing.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// Whether the connection can send files.
    possible: AtomicBool,
    blocks: Mutex<VecDeque<Block>>,
}

impl Announced {
    /// From now on blocks may be announced.
    fn allow(&self) {
        self.possible.store(true, Ordering::Relaxed);
    }

    /// Whether the system sends what is announced, or what is mapped, without that anybody here reads it.
    pub(crate) fn is_possible(&self) -> bool {
        self.possible.load(Ordering::Relaxed)
    }

    /// Announces a block that hyper will be given.
    pub(crate) fn push(&self, block: &Block) {
        if block.file.is_none() || block.bytes.len() < LEAST_BYTES || !self.is_possible() {
            return;
        }
        let mut blocks = self.blocks();
        if blocks.len() < MOST_BLOCKS {
            blocks.push_back(block.clone());
        }
    }

    fn blocks(&self) -> MutexGuard<'_, VecDeque<Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in `block` the bytes of `slice` lie, if they do.
fn place(block: &Block, slice: &[u8]) -> Option<usize> {
    let from = (slice.as_ptr() as usize).checked_sub(block.bytes.as_ptr() as usize)?;
    (!slice.is_empty() && from + slice.len() <= block.bytes.len()).then_some(from)
}

/// What is known of a client on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    open: Open,
    unpaced: bool,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TokioIo<TcpStream>, Option<Local>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Socket {
    /// A plain connection, which can send files. A client on this machine comes `with` the open connections.
    pub(crate) fn plain(stream: TcpStream, announced: &Announced, with: Option<Open>) -> Self {
        announced.allow();
        let local = with.map(|open| Local {
            open,
            unpaced: false,
        });
        Self::Plain(TokioIo::new(stream), local)
    }

    /// A connection with TLS.
    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(TokioIo::new(stream)))
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(io, _) => Pin::new(io).poll_read(cx, into),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, into),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(io, _) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, bytes),
        }
    }

    /// Writes what comes first: bytes from memory up to an announced block, or that block from its file.
    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
        announced: &Announced,
    ) -> Poll<io::Result<usize>> {
        let (io, local) = match self {
            Self::Plain(io, local) => (io, local.as_mut()),
            Self::Tls(io) => return Pin::new(io.as_mut()).poll_write_vectored(cx, slices),
        };
        let mut blocks = announced.blocks();
        let found = slices.iter().enumerate().find_map(|(slice_at, slice)| {
            let found = blocks.iter().enumerate();
            let found = found.filter_map(|(at, block)| Some((at, place(block, slice)?)));
            found.last().map(|(at, from)| (slice_at, at, from))
        });
        match found {
            None => {
                drop(blocks);
                Pin::new(io).poll_write_vectored(cx, slices)
            }
            Some((0, at, from)) => {
                let sent = poll_send(io.inner(), cx, &blocks[at], from, slices[0].len(), local);
                let sent = ready!(sent)?;
                if from + sent == blocks[at].bytes.len() {
                    blocks.remove(at);
                }
                Poll::Ready(Ok(sent))
            }
            Some((before, ..)) => {
                drop(blocks);
                Pin::new(io).poll_write_vectored(cx, &slices[..before])
            }
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(io, _) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(io, _) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }

    pub(crate) fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io, _) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }
}

/// Sends up to `len` bytes of `block` from `from`, out of its file; of one that is not very large from the mapping, to one of
/// few clients on this machine.
fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    block: &Block,
    from: usize,
    len: usize,
    local: Option<&mut Local>,
) -> Poll<io::Result<usize>> {
    let Some((file, offset)) = &block.file else {
        return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
    };
    let begin = offset + from as u64;
    let few = local.as_ref().is_some_and(|local| local.open.get() <= FEW);
    if let Some(local) = local
        && begin >= UNPACED_FROM
        && !local.unpaced
    {
        local.unpaced = true;
        // If the system does not let us, it goes on at its own pace.
        _ = set_tcp_congestion(stream, UNPACED);
    }
    let copied = few && {
        let size = file.metadata()?.len();
        // Beyond the end of a file that somebody cut short a mapping has zeros, up to the end of the page.
        if size < begin + len as u64 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        size <= COPIED_BYTES
    };
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let mut at = begin;
        let sent = stream.try_io(Interest::WRITABLE, || {
            Ok(if copied {
                write(stream, &block.bytes[from..from + len])?
            } else {
                sendfile(stream, &**file, Some(&mut at), len)?
            })
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Somebody cut the file short behind our back.
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            sent => return Poll::Ready(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Seek as _, Write as _},
        sync::Arc,
    };

    use bytes::Bytes;
    use rustix::net::sockopt::tcp_congestion;
    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn announced_bytes_come_from_their_file_and_others_from_memory() {
        assert!(is_sent_from_its_file(1000, None).await);
    }

    #[tokio::test]
    async fn files_that_are_not_very_large_are_copied_to_few_clients_on_this_machine() {
        let open = Open::default();
        open.set(FEW);
        assert!(!is_sent_from_its_file(1000, Some(open.clone())).await);
        assert!(is_sent_from_its_file(COPIED_BYTES, Some(open.clone())).await);
        open.inc();
        assert!(is_sent_from_its_file(1000, Some(open)).await);
    }

    #[tokio::test]
    async fn very_large_files_are_not_paced_on_this_machine() {
        for (offset, local, unpaced) in [
            (UNPACED_FROM, true, true),
            (UNPACED_FROM - 1, true, false),
            (UNPACED_FROM, false, false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await;
            let (server, _) = listener.accept().await.unwrap();
            let own = tcp_congestion(&server).unwrap();
            let file = tempfile::tempfile().unwrap();
            file.set_len(offset + LEAST_BYTES as u64).unwrap();
            let block = Block {
                bytes: Bytes::from(vec![0; LEAST_BYTES]),
                file: Some((Arc::new(file), offset)),
            };
            let announced = Announced::default();
            let mut socket = Socket::plain(server, &announced, local.then(Open::default));
            announced.push(&block);
            let slices = [io::IoSlice::new(&block.bytes)];
            let sent =
                std::future::poll_fn(|cx| socket.poll_write_vectored(cx, &slices, &announced));
            sent.await.unwrap();
            let Socket::Plain(io, _) = &socket else {
                unreachable!();
            };
            let now = tcp_congestion(io.inner()).unwrap();
            assert_eq!(
                now,
                if unpaced { UNPACED } else { &own },
                "{offset} {local}"
            );
            drop(client);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_short_is_not_copied() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (server, _) = listener.accept().await.unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEAST_BYTES as u64 - 1).unwrap();
        let block = Block {
            bytes: Bytes::from(vec![0; LEAST_BYTES]),
            file: Some((Arc::new(file), 0)),
        };
        let announced = Announced::default();
        let mut socket = Socket::plain(server, &announced, Some(Open::default()));
        announced.push(&block);
        let slices = [io::IoSlice::new(&block.bytes)];
        let sent = std::future::poll_fn(|cx| socket.poll_write_vectored(cx, &slices, &announced));
        let error = sent.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(client);
    }

    /// Memory and file differ, so that it shows which of them was sent.
    async fn is_sent_from_its_file(offset: u64, with: Option<Open>) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        let in_file: Vec<u8> = (0..3 * LEAST_BYTES)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        file.seek(io::SeekFrom::Start(offset)).unwrap();
        file.write_all(&in_file).unwrap();
        let memory = Bytes::from(vec![0xff; 3 * LEAST_BYTES]);
        let part = memory.slice(1000..1000 + LEAST_BYTES);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let announced = Announced::default();
        let mut socket = Socket::plain(server, &announced, with);
        announced.push(&Block {
            bytes: part.clone(),
            file: Some((Arc::new(file), offset)),
        });
        let head = b"head".as_slice();
        let mut parts = vec![head, &part, &memory[..10]];
        let sending = std::future::poll_fn(|cx| {
            while !parts.is_empty() {
                let slices: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
                let mut sent = ready!(socket.poll_write_vectored(cx, &slices, &announced)).unwrap();
                while let Some(first) = parts.first_mut() {
                    let some = sent.min(first.len());
                    *first = &first[some..];
                    sent -= some;
                    if !first.is_empty() {
                        break;
                    }
                    parts.remove(0);
                }
            }
            Poll::Ready(())
        });
        let mut got = vec![0; head.len() + LEAST_BYTES + 10];
        tokio::join!(sending, async {
            client.read_exact(&mut got).await.unwrap()
        });
        assert!(announced.blocks().is_empty());
        let whole = |part: &[u8]| [head, part, &memory[..10]].concat();
        let from_file = got == whole(&in_file[..LEAST_BYTES]);
        assert!(from_file || got == whole(&part));
        from_file
    }
}
