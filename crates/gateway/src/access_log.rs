//! One line per request, and between them what else the server logs, written in blocks by a thread of its own.
//!
//! A request appends its line to the buffer of its thread; the log's thread writes what has gathered every
//! [`FLUSH`], or sooner when a buffer has [`FLUSH_BYTES`]. So lines of different threads may stand out of order by as long.
//! When the output cannot keep up, lines beyond [`MAX_BUFFERED_BYTES`] in all are dropped and counted: a full pipe must not
//! stop downloads, nor the end of the server.

use std::{
    io::Write,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::per_thread::PerThread;

/// Each time wakes a thread, on whose time a server with few requests spends a tenth of its work.
const FLUSH: Duration = Duration::from_secs(1);
const FLUSH_BYTES: usize = 64 << 10;
const MAX_BUFFERED_BYTES: usize = 8 << 20;
/// How long the end waits until the last lines are written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The sink for request lines and other lines of the log.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    /// Nothing is sent: the other end goes with the thread.
    thread: Mutex<mpsc::Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    buffers: PerThread<Mutex<Vec<u8>>>,
    orders: Mutex<Orders>,
    wake: Condvar,
    dropped: AtomicU64,
}

/// What the thread is to do before its time.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    write: bool,
    close: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Waits for the next time to write; what was ordered.
    fn wait(&self) -> Orders {
        let waiting = self
            .wake
            .wait_timeout_while(lock(&self.orders), FLUSH, |orders| {
                !orders.write && !orders.close
            });
        let (mut orders, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        let ordered = *orders;
        orders.write = false;
        ordered
    }

    fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = lock(self.buffers.mine());
        let before = buffer.len();
        if before > MAX_BUFFERED_BYTES / self.buffers.parts() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(&mut buffer);
        let full = before < FLUSH_BYTES && buffer.len() >= FLUSH_BYTES;
        drop(buffer);
        if full {
            self.order(|orders| orders.write = true);
        }
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut lock(&self.orders));
        self.wake.notify_one();
    }
}

impl AccessLog {
    /// Writes to `out`, which is used from one thread.
    pub fn to(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let (alive, thread) = mpsc::channel();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                let _alive: mpsc::Sender<()> = alive;
                let mut spare = Vec::new();
                loop {
                    let orders = theirs.wait();
                    for buffer in theirs.buffers.all() {
                        std::mem::swap(&mut *lock(buffer), &mut spare);
                        // An output that is gone must not end the server.
                        let _ = out.write_all(&spare);
                        spare.clear();
                        spare.shrink_to(2 * FLUSH_BYTES);
                    }
                    let _ = out.flush();
                    if orders.close {
                        return;
                    }
                }
            })?;
        Ok(Self {
            shared,
            thread: Mutex::new(thread),
        })
    }

    /// Appends one line by `write`, which must end it with a newline.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.shared.line(write);
    }

    /// For lines that are to be seen at once, such as those of `tracing`: each write appends one whole line.
    pub fn writer(&self) -> impl Write + use<> {
        Lines(Arc::clone(&self.shared))
    }

    /// Writes what there is and ends; lines after this go nowhere. It waits for the output, but not for long.
    pub fn close(&self) {
        self.shared.order(|orders| orders.close = true);
        let _ = lock(&self.thread).recv_timeout(LAST_LINES);
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// See [`AccessLog::writer`].
struct Lines(Arc<Shared>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.line(|lines| lines.extend_from_slice(line));
        self.0.order(|orders| orders.write = true);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io, thread};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output whose reader stands still.
    struct Stalled;

    impl Write for Stalled {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_stands_still_holds_up_nobody() {
        let log = AccessLog::to(Stalled).unwrap();
        let line = [b'x'; 1 << 10];
        for _ in 0..(4 * MAX_BUFFERED_BYTES / line.len()) {
            log.writer().write_all(&line).unwrap();
        }
        assert!(log.dropped() > 0);
        let begin = std::time::Instant::now();
        drop(log);
        assert!(begin.elapsed() < 10 * LAST_LINES);
    }

    #[test]
    fn every_line_of_every_thread_is_there_and_whole() {
        let page = Page::default();
        let log = AccessLog::to(page.clone()).unwrap();
        thread::scope(|scope| {
            for name in 0..8 {
                let log = &log;
                scope.spawn(move || {
                    for number in 0..2000 {
                        let text = format!("{name} {number}\n");
                        log.line(|line| line.extend_from_slice(text.as_bytes()));
                    }
                });
            }
        });
        assert_eq!(log.dropped(), 0);
        drop(log);
        let page = String::from_utf8(lock(&page.0).clone()).unwrap();
        for name in 0..8 {
            let of = |line: &&str| line.starts_with(&format!("{name} "));
            let lines: Vec<&str> = page.lines().filter(of).collect();
            let want: Vec<String> = (0..2000).map(|number| format!("{name} {number}")).collect();
            assert_eq!(lines, want, "in the order of their thread");
        }
    }
}
