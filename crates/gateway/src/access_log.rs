//! One line per request, written in blocks by a thread of its own.
//!
//! A request appends its line to a buffer under a short lock; the thread writes what has gathered every
//! [`FLUSH`], or sooner when [`FLUSH_BYTES`] have. When the output cannot keep up, lines beyond
//! [`MAX_BUFFERED_BYTES`] are dropped and counted: a full pipe must not stop downloads.

use std::{
    io::Write,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

const FLUSH: Duration = Duration::from_millis(200);
const FLUSH_BYTES: usize = 64 << 10;
const MAX_BUFFERED_BYTES: usize = 4 << 20;

/// The sink for request lines.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    wake: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    closed: bool,
}

impl AccessLog {
    /// Writes to `out`, which is used from one thread.
    pub fn to(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                let mut spare = Vec::new();
                loop {
                    let guard = theirs.buffer.lock().unwrap_or_else(PoisonError::into_inner);
                    let (mut buffer, _) = theirs
                        .wake
                        .wait_timeout_while(guard, FLUSH, |buffer| {
                            !buffer.closed && buffer.bytes.len() < FLUSH_BYTES
                        })
                        .unwrap_or_else(PoisonError::into_inner);
                    std::mem::swap(&mut buffer.bytes, &mut spare);
                    let closed = buffer.closed;
                    drop(buffer);
                    // An output that is gone must not end the server.
                    let _ = out.write_all(&spare).and_then(|()| out.flush());
                    spare.clear();
                    spare.shrink_to(2 * FLUSH_BYTES);
                    if closed {
                        return;
                    }
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Appends one line by `write`, which must end it with a newline.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self
            .shared
            .buffer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = buffer.bytes.len();
        if before > MAX_BUFFERED_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(&mut buffer.bytes);
        if before < FLUSH_BYTES && buffer.bytes.len() >= FLUSH_BYTES {
            self.shared.wake.notify_one();
        }
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared
            .buffer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
