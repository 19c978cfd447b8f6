//! A client's connection as hyper reads and writes it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::{guard::Pulse, socket::Socket};

/// What HTTP/2 begins with (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that is read of a connection at first, in bytes: most heads.
const FIRST_BYTES: usize = 1024;

/// A connection that notes its movements.
#[derive(Debug)]
pub(crate) struct Guarded {
    socket: Socket,
    pulse: Arc<Pulse>,
    /// Whether more has come than what HTTP/2 and HTTP/1.1 may begin with alike.
    begun: bool,
    /// What came and is still to be read.
    before: Bytes,
}

impl Guarded {
    pub(crate) fn new(socket: Socket, pulse: Arc<Pulse>) -> Self {
        Self {
            socket,
            pulse,
            begun: false,
            before: Bytes::new(),
        }
    }

    /// The same with bytes that were read and are to be read again.
    pub(crate) fn rewound(mut self, before: Bytes) -> Self {
        self.before = before;
        self
    }

    /// Reads what comes first. The beginning of an HTTP/2 preface is held back until it is whole: HTTP/1.1 would refuse it.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut block = [0; FIRST_BYTES];
        let most = FIRST_BYTES.min(into.remaining());
        loop {
            let mut read = ReadBuf::new(&mut block[..most]);
            ready!(self.socket.poll_read(cx, read.unfilled()))?;
            let came = read.filled();
            self.pulse.moved();
            let is_over = came.is_empty();
            if self.before.is_empty() && !PREFACE.starts_with(came) {
                self.begun = true;
                into.put_slice(came);
                return Poll::Ready(Ok(()));
            }
            self.before = [&*self.before, came].concat().into();
            if is_over || self.before.len() >= PREFACE.len() || !PREFACE.starts_with(&self.before) {
                self.begun = true;
                self.read_before(into);
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn read_before(&mut self, mut into: ReadBufCursor<'_>) {
        let most = self.before.len().min(into.remaining());
        into.put_slice(&self.before.split_to(most));
    }
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.begun {
            return self.poll_first(cx, into);
        }
        if !self.before.is_empty() {
            self.read_before(into);
            return Poll::Ready(Ok(()));
        }
        let result = self.socket.poll_read(cx, into);
        if result.is_ready() {
            self.pulse.moved();
        }
        result
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.socket.poll_write(cx, bytes);
        self.pulse.wrote(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this
            .socket
            .poll_write_vectored(cx, slices, &this.pulse.announced);
        this.pulse.wrote(&result);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    /// What the reader gets of what a client sends in these pieces: the first ones alone, and all of them. `held`: whether
    /// nothing is to come of the first ones.
    async fn read(pieces: &[&[u8]], most: usize, held: bool) -> (Vec<u8>, Vec<u8>) {
        let limit = if held {
            Duration::from_millis(50)
        } else {
            Duration::from_secs(20)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let pulse = Arc::new(Pulse::nowhere());
        let socket = Socket::plain(server, &pulse.announced, None);
        let mut guarded = Guarded::new(socket, pulse);
        let mut got = Vec::new();
        let mut block = vec![0; most];
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            client.write_all(piece).await.unwrap();
            let read = poll_fn(|cx| poll_read(&mut guarded, cx, &mut block));
            if let Ok(read) = timeout(limit, read).await {
                got.extend(&block[..read]);
            }
        }
        let before = got.clone();
        client.write_all(last).await.unwrap();
        drop(client);
        loop {
            match poll_fn(|cx| poll_read(&mut guarded, cx, &mut block)).await {
                0 => return (before, got),
                read => got.extend(&block[..read]),
            }
        }
    }

    fn poll_read(guarded: &mut Guarded, cx: &mut Context<'_>, block: &mut [u8]) -> Poll<usize> {
        let mut read = ReadBuf::new(block);
        ready!(Pin::new(guarded).poll_read(cx, read.unfilled())).unwrap();
        Poll::Ready(read.filled().len())
    }

    #[tokio::test]
    async fn a_preface_is_held_back_until_it_is_whole() {
        let (start, end) = PREFACE.split_at(18);
        let settings = [end, b"settings"].concat();
        for most in [9, 100] {
            let (before, all) = read(&[start, &settings], most, true).await;
            assert!(before.is_empty(), "{before:?}");
            assert_eq!(all, [PREFACE, b"settings"].concat());
            // What begins like one and is none, at its end too.
            let (before, all) = read(&[b"P", b"OST / HTTP/1.1\r\n"], most, true).await;
            assert_eq!((&*before, &*all), (&b""[..], &b"POST / HTTP/1.1\r\n"[..]));
            let (_, all) = read(&[b"PRI * HTTP/2.0\r\n"], most, true).await;
            assert_eq!(all, b"PRI * HTTP/2.0\r\n");
            // And everything else comes as it is sent.
            let (before, all) = read(&[b"GET /", b" HTTP/1.1\r\n"], most, false).await;
            assert_eq!(
                (&*before, &*all),
                (&b"GET /"[..], &b"GET / HTTP/1.1\r\n"[..])
            );
        }
    }
}
