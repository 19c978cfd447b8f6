//! Changes that other processes must hear of: written in the transaction of what changed, read in order.

use std::{fmt, future::Future, num::ParseIntError, str::FromStr};

use sqlx::{PgConnection, SqliteConnection, postgres::PgListener};

use crate::{
    db::{Db, Records, read, write},
    error::RecordsError,
    silence::Access,
};

/// A kept change is at least this young; who was away for longer reads everything anew.
pub(crate) const KEPT_MS: i64 = 3_600_000;
/// Changes that are read at once.
const PAGE: i64 = 1000;
/// Names the channel on which PostgreSQL tells that there is something new.
const CHANNEL: &str = "modgate_changes";
/// Changes are numbered in the order in which they are committed: who takes a number holds this until then.
/// Without it, a change with a small number could appear after one with a large number was read.
const ORDER: &str = "SELECT pg_advisory_xact_lock(30803245189555302)";

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A tombstone was set or taken away.
    Tombstones,
    /// A tree head moved, or a fork was found or cleared; the key is the database's name.
    Head,
    /// An answer that changes was asked for anew; the key is its own.
    Answer,
    /// An object was removed or quarantined; the key is its own.
    Forget,
    /// A replica took a configuration; the key is its digest.
    Config,
    /// A replica found an upstream ill, or well again; the key says who found what of which.
    Breaker,
    /// The records were restored: read everything anew.
    Everything,
    /// One that a newer version writes.
    Unknown,
}

impl ChangeKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Tombstones, "tombstones"),
        (Self::Head, "head"),
        (Self::Answer, "answer"),
        (Self::Forget, "forget"),
        (Self::Config, "config"),
        (Self::Breaker, "breaker"),
        (Self::Everything, "everything"),
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(kind, _)| *kind == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|(_, known)| *known == name)
            .map_or(Self::Unknown, |(kind, _)| kind)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place in the order.
    pub seq: i64,
    /// What changed.
    pub kind: ChangeKind,
    /// Which one.
    pub key: String,
}

/// The change, or the removal, that was read last; the default is the place before all. It must still be there when more is asked for: a
/// database that came back with less (a standby that lagged, a copy that was put back, a new one) gives the same
/// numbers to other changes, at other times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) seq: i64,
    pub(crate) at_ms: i64,
}

/// What [`FromStr`] reads.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(format_args!("{} {}", self.seq, self.at_ms))
    }
}

impl FromStr for Cursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (seq, at_ms) = text.trim().split_once(' ').unwrap_or_default();
        Ok(Self {
            seq: seq.parse()?,
            at_ms: at_ms.parse()?,
        })
    }
}

/// What was new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// To be asked for next.
    pub seq: Cursor,
    /// Whether there is more already.
    pub more: bool,
    /// Whether there may be changes that were not read and never will be: everything must be read anew.
    pub gap: bool,
}

/// Writes a change within a transaction.
pub(crate) trait Announce {
    fn announce(
        &mut self,
        kind: ChangeKind,
        key: &str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

const INSERT: &str = "INSERT INTO changes (kind, key) VALUES ($1, $2)";

impl Announce for SqliteConnection {
    async fn announce(&mut self, kind: ChangeKind, key: &str) -> Result<(), sqlx::Error> {
        let insert = sqlx::query(INSERT).bind(kind.name()).bind(key);
        insert.execute(&mut *self).await?;
        Ok(())
    }
}

impl Announce for PgConnection {
    async fn announce(&mut self, kind: ChangeKind, key: &str) -> Result<(), sqlx::Error> {
        sqlx::query(ORDER).execute(&mut *self).await?;
        let insert = sqlx::query(INSERT).bind(kind.name()).bind(key);
        insert.execute(&mut *self).await?;
        // Only that there is something: what it is stands in the table.
        let tell = sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL);
        tell.execute(&mut *self).await?;
        Ok(())
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    at_ms: i64,
    kind: String,
    key: String,
}

impl Row {
    fn cursor(&self) -> Cursor {
        Cursor {
            seq: self.seq,
            at_ms: self.at_ms,
        }
    }
}

impl Records {
    /// The newest change there is: the place to begin at, taken before the rest is read.
    pub async fn last_change(&self) -> Result<Cursor, RecordsError> {
        let newest: Option<(i64, i64)> = read!(&self.db, "reading changes", conn => {
            sqlx::query_as("SELECT seq, at_ms FROM changes ORDER BY seq DESC LIMIT 1")
                .fetch_optional(conn)
                .await?
        })?;
        Ok(newest.map_or_else(Cursor::default, |(seq, at_ms)| Cursor { seq, at_ms }))
    }

    /// What changed after `seq`. Where that change is no more, all that there are follow, after the gap.
    pub async fn changes_since(&self, seq: Cursor) -> Result<News, RecordsError> {
        let (oldest, rows): (i64, Vec<Row>) = read!(&self.db, "reading changes", conn => {
            let rows: Vec<Row> = sqlx::query_as(
                "SELECT seq, at_ms, kind, key FROM changes WHERE seq >= $1 ORDER BY seq LIMIT $2",
            )
            .bind(seq.seq)
            .bind(PAGE + 1)
            .fetch_all(&mut *conn)
            .await?;
            // Asked after the rows: what is cut off in between is then seen as a gap.
            let oldest = if rows.last().is_none_or(|last| last.seq == seq.seq) {
                seq.seq
            } else {
                sqlx::query_scalar("SELECT CAST(coalesce(min(seq), 0) AS BIGINT) FROM changes")
                    .fetch_one(conn)
                    .await?
            };
            (oldest, rows)
        })?;
        let begins = seq == Cursor::default();
        let mut rows = rows.into_iter();
        if !begins && rows.next().is_none_or(|row| row.cursor() != seq) {
            return Ok(News {
                changes: Vec::new(),
                seq: Cursor::default(),
                more: true,
                gap: true,
            });
        }
        let mut last = seq;
        let changes: Vec<Change> = rows
            .map(|row| {
                last = row.cursor();
                Change {
                    seq: row.seq,
                    kind: ChangeKind::named(&row.kind),
                    key: row.key,
                }
            })
            .collect();
        Ok(News {
            seq: last,
            more: i64::try_from(changes.len()).is_ok_and(|len| len >= PAGE),
            gap: !changes.is_empty() && oldest > seq.seq + 1,
            changes,
        })
    }

    /// Tells others of a change that is not in these records.
    pub async fn announce(&self, kind: ChangeKind, key: &str) -> Result<(), RecordsError> {
        write!(&self.db, "announcing a change", tx => tx.announce(kind, key).await?)
    }

    /// Forgets changes that everybody has read by now. The newest stays, and with it the count.
    pub async fn prune_changes(&self) -> Result<u64, RecordsError> {
        prune(&self.db).await
    }

    /// Rings when the database has something new for one of `channels` or in `changes`. Only PostgreSQL can.
    pub async fn bell(&self, channels: &[&str]) -> Result<Option<Bell>, RecordsError> {
        let Db::Postgres { pool, .. } = &*self.db else {
            return Ok(None);
        };
        let listener = self
            .db
            .limited(Access::Read, "listening", async {
                let mut listener = PgListener::connect_with(pool).await?;
                listener.ignore_pool_close_event(false);
                listener.listen(CHANNEL).await?;
                for channel in channels {
                    listener.listen(channel).await?;
                }
                Ok(listener)
            })
            .await?;
        Ok(Some(Bell { listener }))
    }
}

pub(crate) async fn prune(db: &Db) -> Result<u64, RecordsError> {
    write!(db, "pruning changes", tx => {
        sqlx::query(
            "DELETE FROM changes WHERE at_ms < (SELECT max(at_ms) FROM changes) - $1 \
             AND seq < (SELECT max(seq) FROM changes)",
        )
        .bind(KEPT_MS)
        .execute(tx)
        .await?
        .rows_affected()
    })
}

/// Rings when something is told by the database. It may miss some while the connection is made anew, so whoever
/// listens also looks now and then.
#[derive(Debug)]
pub struct Bell {
    listener: PgListener,
}

/// One ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// There are new changes, or there may be: the connection was lost and is back.
    Changes,
    /// Told on another channel: its name and what was told.
    Other(String, String),
}

impl Bell {
    /// Waits for the next ring. An error means that the connection cannot be made anew just now.
    pub async fn ring(&mut self) -> Result<Ring, RecordsError> {
        match self.listener.try_recv().await {
            Ok(Some(told)) if told.channel() != CHANNEL => Ok(Ring::Other(
                told.channel().to_owned(),
                told.payload().to_owned(),
            )),
            Ok(_) => Ok(Ring::Changes),
            Err(error) => Err(RecordsError::from_sql(&error, "listening")),
        }
    }
}
