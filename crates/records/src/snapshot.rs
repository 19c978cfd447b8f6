//! A consistent copy of the records in one file, which either database can be restored from.
//!
//! The file has one JSON value a line: a heading, the rows of one moment, and at the end their number and the SHA-256
//! of every line before. What is not copied: leases, and the changes themselves, which mean nothing later.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use futures_util::{TryStream, TryStreamExt as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::ConnectOptions as _;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Db, Lent, Records, sqlite_options},
    error::{RecordsError, RecordsErrorKind},
    objects::{Object, ROWS, insert_objects},
};

/// The name of the file in the folder of a backup.
pub const SNAPSHOT: &str = "records.jsonl";

const DOING: &str = "copying the records";
const RESTORING: &str = "restoring the records";
/// Of the file's form.
const FORM: u32 = 1;
/// Longest line: an answer or a note of a megabyte, as hexadecimal, and its name.
const MAX_LINE: u64 = 64 << 20;

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
    /// The SHA-256 of all lines but the last, as hexadecimal.
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Records {
        form: u32,
    },
    Object {
        key: String,
        size: i64,
        sha256: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        h1: Option<String>,
        kept_at_ms: i64,
        used_at_ms: i64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pinned: bool,
    },
    Tombstone {
        module: String,
        version: String,
        reason: String,
        time: String,
    },
    Head {
        name: String,
        size: i64,
        note: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        fork: Option<String>,
    },
    Answer {
        key: String,
        asked_ms: i64,
        raw: String,
    },
    Fact {
        name: String,
        value: String,
    },
    End {
        rows: u64,
        sha256: String,
    },
}

type ObjectRow = (String, i64, Vec<u8>, Option<String>, i64, i64, bool);
type HeadRow = (String, i64, Vec<u8>, Option<Vec<u8>>);

/// Sends all rows of one moment to the one who writes them.
macro_rules! send_rows {
    ($tx:ident, $lines:ident) => {{
        let rows = sqlx::query_as::<_, ObjectRow>(
            "SELECT key, size, sha256, h1, kept_at_ms, used_at_ms, pinned FROM objects ORDER BY key",
        );
        send(&$lines, rows.fetch(&mut *$tx), |(key, size, sha256, h1, kept_at_ms, used_at_ms, pinned)| {
            Line::Object { key, size, sha256: hex::encode(sha256), h1, kept_at_ms, used_at_ms, pinned }
        })
        .await?;
        let rows = sqlx::query_as::<_, (String, String, String, String)>(
            "SELECT module, version, reason, time FROM tombstones ORDER BY module, version",
        );
        send(&$lines, rows.fetch(&mut *$tx), |(module, version, reason, time)| Line::Tombstone {
            module,
            version,
            reason,
            time,
        })
        .await?;
        let rows = sqlx::query_as::<_, HeadRow>(
            "SELECT name, size, note, fork FROM tree_heads ORDER BY name",
        );
        send(&$lines, rows.fetch(&mut *$tx), |(name, size, note, fork)| Line::Head {
            name,
            size,
            note: hex::encode(note),
            fork: fork.map(hex::encode),
        })
        .await?;
        let rows = sqlx::query_as::<_, (String, i64, Vec<u8>)>(
            "SELECT key, asked_ms, raw FROM answers ORDER BY key",
        );
        send(&$lines, rows.fetch(&mut *$tx), |(key, asked_ms, raw)| Line::Answer {
            key,
            asked_ms,
            raw: hex::encode(raw),
        })
        .await?;
        let rows =
            sqlx::query_as::<_, (String, String)>("SELECT name, value FROM facts ORDER BY name");
        send(&$lines, rows.fetch(&mut *$tx), |(name, value)| Line::Fact { name, value }).await?;
    }};
}

/// Puts all lines of a copy in the place of what is in the tables. Fails unless the last one came.
macro_rules! put_lines {
    ($tx:ident, $received:ident) => {{
        for empty in EMPTY {
            sqlx::query(empty).execute(&mut *$tx).await?;
        }
        let (mut objects, mut whole) = (Vec::new(), false);
        while let Some(line) = $received.recv().await {
            let query = match line {
                Line::Object { .. } => {
                    objects.push(object(line)?);
                    if objects.len() == ROWS {
                        insert_objects!($tx, objects);
                        objects.clear();
                    }
                    continue;
                }
                Line::Tombstone { module, version, reason, time } => sqlx::query(
                    "INSERT INTO tombstones (module, version, reason, time) VALUES ($1, $2, $3, $4)",
                )
                .bind(module)
                .bind(version)
                .bind(reason)
                .bind(time),
                Line::Head { name, size, note, fork } => sqlx::query(
                    "INSERT INTO tree_heads (name, size, note, fork) VALUES ($1, $2, $3, $4)",
                )
                .bind(name)
                .bind(size)
                .bind(bytes(&note)?)
                .bind(fork.as_deref().map(bytes).transpose()?),
                Line::Answer { key, asked_ms, raw } => {
                    sqlx::query("INSERT INTO answers (key, asked_ms, raw) VALUES ($1, $2, $3)")
                        .bind(key)
                        .bind(asked_ms)
                        .bind(bytes(&raw)?)
                }
                Line::Fact { name, value } => {
                    sqlx::query("INSERT INTO facts (name, value) VALUES ($1, $2)")
                        .bind(name)
                        .bind(value)
                }
                Line::Records { .. } => continue,
                Line::End { .. } => {
                    whole = true;
                    continue;
                }
            };
            query.execute(&mut *$tx).await?;
        }
        insert_objects!($tx, objects);
        if !whole {
            return Err(sqlx::Error::Decode("the copy has no end".into()));
        }
        $tx.announce(ChangeKind::Everything, "").await?;
    }};
}

const EMPTY: [&str; 5] = [
    "DELETE FROM objects",
    "DELETE FROM tombstones",
    "DELETE FROM tree_heads",
    "DELETE FROM answers",
    "DELETE FROM facts",
];

impl Records {
    /// Writes a copy of one moment into a folder, beside whatever goes on.
    pub async fn snapshot_to(&self, folder: &Path) -> Result<Snapshot, RecordsError> {
        self.db.ready().await?;
        let path = folder.join(SNAPSHOT);
        let (lines, received) = mpsc::channel(ROWS);
        let writing = spawn_blocking({
            let path = path.clone();
            move || write_file(&path, received)
        });
        let sent = match &*self.db {
            // A connection of its own, so that nobody waits behind it.
            Db::Sqlite { path, .. } => {
                let copied = async {
                    let mut connection = sqlite_options(path).connect().await?;
                    let mut tx = sqlx::Connection::begin(&mut connection).await?;
                    send_rows!(tx, lines);
                    Ok(())
                };
                copied.await
            }
            Db::Postgres { pool, .. } => {
                let copied = async {
                    let mut lent = Lent::new(pool.acquire().await?);
                    let mut tx = sqlx::Connection::begin_with(
                        lent.connection(),
                        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                    )
                    .await?;
                    send_rows!(tx, lines);
                    tx.rollback().await?;
                    lent.give_back();
                    Ok(())
                };
                copied.await
            }
        };
        let read = self.db.unlimited(DOING, sent);
        // Told the end only when all was read: a file without an end is no copy.
        if read.is_ok() {
            let _ = lines.send(None).await;
        }
        drop(lines);
        let written = writing.await.map_err(io::Error::other).flatten();
        read?;
        let (rows, sha256) = written.map_err(|error| on_disk(DOING, &path, &error))?;
        Ok(Snapshot { path, rows, sha256 })
    }

    /// Puts a copy in the place of what is here, whole or not at all, and tells everybody. The copy is checked first.
    pub async fn restore_from(&self, folder: &Path) -> Result<Snapshot, RecordsError> {
        let path = folder.join(SNAPSHOT);
        let snapshot = verify_snapshot(&path).await?;
        self.db.ready().await?;
        let (lines, mut received) = mpsc::channel(ROWS);
        let reading = spawn_blocking(move || {
            read_lines(&path, |line| lines.blocking_send(line).is_ok()).map(drop)
        });
        // As one text for both databases, though without the usual time limit: it may be long.
        let restored = match &*self.db {
            Db::Sqlite { write, .. } => {
                let restored = async {
                    let mut pooled = write.acquire().await?;
                    let mut tx =
                        sqlx::Connection::begin_with(&mut *pooled, "BEGIN IMMEDIATE").await?;
                    put_lines!(tx, received);
                    tx.commit().await
                };
                restored.await
            }
            Db::Postgres { pool, .. } => {
                let restored = async {
                    let mut lent = Lent::new(pool.acquire().await?);
                    let mut tx = sqlx::Connection::begin(lent.connection()).await?;
                    put_lines!(tx, received);
                    tx.commit().await?;
                    lent.give_back();
                    Ok(())
                };
                restored.await
            }
        };
        drop(received);
        let read = reading.await.map_err(io::Error::other).flatten();
        self.db.unlimited(RESTORING, restored)?;
        read.map_err(|error| on_disk(RESTORING, &snapshot.path, &error))?;
        Ok(snapshot)
    }
}

/// Reads a copy to its end and compares its hash: says what it holds.
pub async fn verify_snapshot(path: &Path) -> Result<Snapshot, RecordsError> {
    let owned = path.to_owned();
    let verified = spawn_blocking(move || read_lines(&owned, |_| true)).await;
    verified
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| on_disk(RESTORING, path, &error))
}

fn on_disk(doing: &'static str, path: &Path, error: &io::Error) -> RecordsError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RecordsErrorKind::Full,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => RecordsErrorKind::Corrupt,
        _ => RecordsErrorKind::Unavailable,
    };
    let remedy = if kind == RecordsErrorKind::Full {
        "; make room on that disk: `modgate gc --yes` removes what was not used for long"
    } else {
        ""
    };
    let text = format!("{}: {error}{remedy}", path.display());
    RecordsError::new(kind, doing, text)
}

fn bytes(text: &str) -> Result<Vec<u8>, sqlx::Error> {
    hex::decode(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn object(line: Line) -> Result<Object, sqlx::Error> {
    let wrong = || sqlx::Error::Decode("an object that cannot be".into());
    let Line::Object {
        key,
        size,
        sha256,
        h1,
        kept_at_ms,
        used_at_ms,
        pinned,
    } = line
    else {
        return Err(wrong());
    };
    Ok(Object {
        key,
        size: u64::try_from(size).map_err(|_| wrong())?,
        sha256: bytes(&sha256)?.try_into().map_err(|_| wrong())?,
        h1,
        kept_at_ms,
        used_at_ms,
        pinned,
    })
}

/// Passes rows on as lines. That nobody takes them any more is known when the file is asked for.
async fn send<T>(
    lines: &mpsc::Sender<Option<Line>>,
    mut rows: impl TryStream<Ok = T, Error = sqlx::Error> + Unpin,
    line: impl Fn(T) -> Line,
) -> Result<(), sqlx::Error> {
    while let Some(row) = rows.try_next().await? {
        if lines.send(Some(line(row))).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes lines until `None`; under its final name the file is whole.
fn write_file(path: &Path, mut lines: mpsc::Receiver<Option<Line>>) -> io::Result<(u64, String)> {
    let temp = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&temp)?);
    let (mut hash, mut rows) = (Sha256::new(), 0_u64);
    let mut put = |line: &Line, hash: Option<&mut Sha256>| {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if let Some(hash) = hash {
            hash.update(&text);
        }
        file.write_all(&text)
    };
    put(&Line::Records { form: FORM }, Some(&mut hash))?;
    loop {
        match lines.blocking_recv() {
            Some(Some(line)) => {
                rows += 1;
                put(&line, Some(&mut hash))?;
            }
            Some(None) => break,
            None => {
                fs::remove_file(&temp)?;
                return Err(io::Error::other("given up"));
            }
        }
    }
    let sha256 = hex::encode(hash.finalize());
    let end = Line::End {
        rows,
        sha256: sha256.clone(),
    };
    put(&end, None)?;
    file.into_inner()?.sync_all()?;
    fs::rename(&temp, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((rows, sha256))
}

/// Passes on the lines of a copy, the last one only if its hash is right.
fn read_lines(path: &Path, mut take: impl FnMut(Line) -> bool) -> io::Result<Snapshot> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut file = BufReader::new(File::open(path)?);
    let (mut hash, mut rows, mut text) = (Sha256::new(), 0_u64, Vec::new());
    loop {
        text.clear();
        (&mut file).take(MAX_LINE).read_until(b'\n', &mut text)?;
        if text.last() != Some(&b'\n') {
            return Err(wrong("the copy is cut off"));
        }
        let line: Line = serde_json::from_slice(&text)?;
        match &line {
            Line::Records { form } if *form > FORM => {
                return Err(wrong("the copy was made by a newer modgate"));
            }
            Line::Records { .. } => {}
            Line::End {
                rows: told,
                sha256: wanted,
            } => {
                let sha256 = hex::encode(hash.finalize());
                if *told != rows || *wanted != sha256 {
                    return Err(wrong("the copy was altered: its hash is another"));
                }
                take(line);
                return Ok(Snapshot {
                    path: path.to_owned(),
                    rows,
                    sha256,
                });
            }
            _ => rows += 1,
        }
        hash.update(&text);
        if !take(line) {
            return Err(io::Error::other("given up"));
        }
    }
}
