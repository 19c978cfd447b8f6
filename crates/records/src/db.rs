//! The connections, and the two ways to use one: to read, and to write in a transaction.
//!
//! SQLite has one connection that writes and one that reads, each with a thread of its own, the second only while it is
//! used. PostgreSQL has a small pool; a connection on which something did not end is closed, not given back, so that a
//! server that hangs costs time limits and never the whole pool.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, PgConnection, PgPool, SqlitePool,
    pool::PoolConnection,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::OnceCell, time::timeout};
use tracing::log::LevelFilter;

use crate::{
    error::{RecordsError, RecordsErrorKind},
    losses::Losses,
    reserve, schema,
    settings::{PostgresUrl, RecordsSettings},
    silence::{Access, Silences},
    writer::Writer,
};

/// Longest wait for another process that writes to the same file.
const SQLITE_BUSY: Duration = Duration::from_secs(5);
/// Longest wait for SQLite altogether.
const SQLITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The connection that reads is closed when it was not used for so long.
const SQLITE_IDLE: Duration = Duration::from_secs(30);
/// A connection that rested for so long is asked whether it lives before it is used; and each that rested when another was lost.
const POSTGRES_RESTED: Duration = Duration::from_secs(1);
/// What a replica that stands still in the middle of a transaction may cost the others; and a statement at all.
const POSTGRES_SESSION: &str =
    "SET idle_in_transaction_session_timeout = '2s'; SET statement_timeout = '30s'";

/// Fails if a table is not there, and reads none.
pub(crate) const TABLES: &str = "SELECT CAST(count(*) AS BIGINT) FROM schema_versions, objects, tombstones, tree_heads, \
     answers, facts, changes, leases, removals WHERE FALSE";

/// The records.
#[derive(Debug)]
pub struct Records {
    pub(crate) db: Arc<Db>,
    pub(crate) writer: Writer,
    fresh: AtomicBool,
}

#[derive(Debug)]
pub(crate) enum Db {
    Sqlite {
        path: PathBuf,
        write: SqlitePool,
        read: SqlitePool,
        /// Whether the schema is up to date, and at work on it if not.
        made: OnceCell<()>,
    },
    Postgres {
        url: PostgresUrl,
        pool: PgPool,
        timeout: Duration,
        silences: Silences,
        losses: Arc<Losses>,
    },
}

impl Records {
    /// Connects, and brings the schema to what this version needs.
    ///
    /// A file that is not there yet is made while the caller goes on: a disk takes some 20 ms to make one that survives
    /// a crash, which is long for a start. Whatever is asked first waits for it.
    pub async fn open(settings: &RecordsSettings) -> Result<Self, RecordsError> {
        let fresh = match settings {
            RecordsSettings::Sqlite { path } => !path.exists(),
            RecordsSettings::Postgres { .. } => false,
        };
        let db = Arc::new(match settings {
            RecordsSettings::Sqlite { path } => {
                reserve::spend(path);
                open_sqlite(path)
            }
            RecordsSettings::Postgres {
                url,
                max_connections,
                timeout,
            } => open_postgres(url, *max_connections, *timeout).await?,
        });
        if fresh {
            let db = Arc::clone(&db);
            tokio::spawn(async move {
                if let Err(error) = db.ready().await {
                    tracing::error!(%error, "cannot make the file of the records");
                }
            });
        } else {
            schema::migrate(&db).await?;
            db.is_ready();
        }
        db.hold_room();
        let writer = Writer::start(&db);
        Ok(Self {
            db,
            writer,
            fresh: fresh.into(),
        })
    }

    /// Whether there was nothing when they were opened, and nothing was taken over since, so that nothing needs to be read at the start.
    pub fn fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    pub(crate) fn no_longer_fresh(&self) {
        self.fresh.store(false, Ordering::Relaxed);
    }

    /// Whether other replicas can share these records.
    pub fn shared(&self) -> bool {
        matches!(*self.db, Db::Postgres { .. })
    }

    /// Where they are, without anything secret.
    pub fn place(&self) -> String {
        match &*self.db {
            Db::Sqlite { path, .. } => path.display().to_string(),
            Db::Postgres { url, .. } => url.to_string(),
        }
    }

    /// The file of SQLite to which its writes go first: it changes whenever any process writes.
    pub fn wal(&self) -> Option<PathBuf> {
        match &*self.db {
            Db::Sqlite { path, .. } => {
                let mut name = path.as_os_str().to_owned();
                name.push("-wal");
                Some(name.into())
            }
            Db::Postgres { .. } => None,
        }
    }

    /// Whether the database answers, has its tables, and takes what is written.
    pub async fn probe(&self) -> Result<(), RecordsError> {
        const DOING: &str = "asking whether it is there";
        read!(&self.db, DOING, conn => { sqlx::query(TABLES).fetch_one(conn).await?; })?;
        let Db::Postgres { pool, silences, .. } = &*self.db else {
            return Ok(());
        };
        let asked = async {
            let mut lent = Lent::new(pool.acquire().await?);
            let read_only: String = sqlx::query_scalar("SHOW transaction_read_only")
                .fetch_one(lent.connection())
                .await?;
            let read_only = read_only == "on";
            // A session stays as it began, also when the database takes writes again.
            if !read_only {
                lent.give_back();
            }
            Ok(read_only)
        };
        if self.db.limited(Access::Read, DOING, asked).await? {
            return Err(RecordsError::read_only(DOING));
        }
        if silences.last(Access::Write) {
            return Err(RecordsError::silent(
                "asking whether it takes what is written",
            ));
        }
        Ok(())
    }

    /// Writes what is queued and closes the connections.
    pub async fn close(&self) {
        self.writer.close().await;
        match &*self.db {
            Db::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
                self.db.hold_room();
            }
            // A server that hangs must not hold up the end.
            Db::Postgres { pool, .. } => drop(timeout(Duration::from_secs(1), pool.close()).await),
        }
    }
}

impl Db {
    /// Waits until the schema is there.
    pub(crate) async fn ready(&self) -> Result<(), RecordsError> {
        match self {
            Self::Sqlite { made, .. } => made
                .get_or_try_init(|| schema::migrate(self))
                .await
                .copied(),
            Self::Postgres { .. } => Ok(()),
        }
    }

    /// For the day when the disk is full.
    fn hold_room(&self) {
        if let Self::Sqlite { path, .. } = self {
            reserve::hold(path);
        }
    }

    fn is_ready(&self) {
        if let Self::Sqlite { made, .. } = self {
            let _ = made.set(());
        }
    }

    /// Runs `work` within the time limit, and says what went wrong without anything secret. A server that is silent is
    /// not waited for again.
    pub(crate) async fn limited<T>(
        &self,
        access: Access,
        doing: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, RecordsError> {
        // In a box, since those who ask hold the work of many questions.
        match self {
            Self::Sqlite { .. } => Box::pin(self.within(SQLITE_TIMEOUT, doing, work)).await,
            Self::Postgres {
                pool,
                timeout,
                silences,
                losses,
                ..
            } => {
                if silences.last(access) {
                    return Err(RecordsError::silent(doing));
                }
                let answered = silences.answered();
                let done = Box::pin(self.within(*timeout, doing, work)).await;
                match &done {
                    Err(error) if error.kind == RecordsErrorKind::Timeout => {
                        silences.begin(answered, pool, *timeout);
                    }
                    Err(error) if error.kind == RecordsErrorKind::Unavailable => {
                        losses.note();
                        silences.end(access);
                    }
                    _ => silences.end(access),
                }
                done
            }
        }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, RecordsError> {
        match timeout(limit, work).await {
            Err(_) => Err(RecordsError::timeout(doing)),
            Ok(done) => self.unlimited(doing, done),
        }
    }

    /// The same for work that has a time of its own.
    pub(crate) fn unlimited<T>(
        &self,
        doing: &'static str,
        done: Result<T, sqlx::Error>,
    ) -> Result<T, RecordsError> {
        done.map_err(|error| {
            let error = RecordsError::from_sql(&error, doing);
            match self {
                Self::Sqlite { path, .. } => error.of_file(path),
                Self::Postgres { url, .. } => error.scrubbed(|text| url.scrub(text)),
            }
        })
    }
}

/// Runs `$body` on a connection that reads, once the schema is there. The text of its SQL is compiled for both databases; `?` in it passes on
/// `sqlx::Error`.
macro_rules! read {
    ($db:expr, $doing:expr, $conn:ident => $body:expr) => {{
        let db: &$crate::db::Db = $db;
        match db.ready().await {
            Ok(()) => $crate::db::read_now!(db, $doing, $conn => $body),
            Err(error) => Err(error),
        }
    }};
}

/// The same whether the schema is there or not.
macro_rules! read_now {
    ($db:expr, $doing:expr, $conn:ident => $body:expr) => {{
        let db: &$crate::db::Db = $db;
        db.limited($crate::silence::Access::Read, $doing, async {
            match db {
                $crate::db::Db::Sqlite { read, .. } => {
                    let mut pooled = read.acquire().await?;
                    let $conn = &mut *pooled;
                    Ok::<_, sqlx::Error>($body)
                }
                $crate::db::Db::Postgres { pool, .. } => {
                    let mut lent = $crate::db::Lent::new(pool.acquire().await?);
                    let $conn = lent.connection();
                    let done = $body;
                    lent.give_back();
                    Ok(done)
                }
            }
        })
        .await
    }};
}

/// Runs `$body` in a transaction, which is committed if `$body` succeeds, once the schema is there.
macro_rules! write {
    ($db:expr, $doing:expr, $tx:ident => $body:expr) => {{
        let db: &$crate::db::Db = $db;
        match db.ready().await {
            Ok(()) => $crate::db::write_now!(db, $doing, $tx => $body),
            Err(error) => Err(error),
        }
    }};
}

/// The same whether the schema is there or not.
macro_rules! write_now {
    ($db:expr, $doing:expr, $tx:ident => $body:expr) => {{
        let db: &$crate::db::Db = $db;
        db.limited($crate::silence::Access::Write, $doing, async {
            match db {
                $crate::db::Db::Sqlite { write, .. } => {
                    let mut pooled = write.acquire().await?;
                    // Takes the lock at once: one that reads first and then writes could be refused for good.
                    let mut begun =
                        sqlx::Connection::begin_with(&mut *pooled, "BEGIN IMMEDIATE").await?;
                    let $tx = &mut *begun;
                    let done = $body;
                    begun.commit().await?;
                    Ok::<_, sqlx::Error>(done)
                }
                $crate::db::Db::Postgres { pool, .. } => {
                    let mut lent = $crate::db::Lent::new(pool.acquire().await?);
                    let mut begun = sqlx::Connection::begin(lent.connection()).await?;
                    let $tx = &mut *begun;
                    let done = $body;
                    begun.commit().await?;
                    lent.give_back();
                    Ok(done)
                }
            }
        })
        .await
    }};
}

pub(crate) use {read, read_now, write, write_now};

/// A connection that is closed unless it is given back: whoever gives up in the middle leaves it in no known state.
pub(crate) struct Lent(Option<PoolConnection<sqlx::Postgres>>);

impl Lent {
    pub(crate) fn new(pooled: PoolConnection<sqlx::Postgres>) -> Self {
        Self(Some(pooled))
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it was not given back")
    }

    pub(crate) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(pooled) = self.0.take() {
            drop(pooled.detach());
        }
    }
}

pub(crate) fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A retired version stays retired when the power fails, and a tree head is there before what it proves. What is
        // written often comes many at a time.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(SQLITE_BUSY)
        .statement_cache_capacity(24)
        // KiB: what it reads again and again is small, and the system keeps the file in memory anyway.
        .pragma("cache_size", "-256")
        .thread_name(|id| format!("records-{id}"))
        .log_statements(LevelFilter::Off)
        .log_slow_statements(LevelFilter::Off, Duration::ZERO)
}

fn open_sqlite(path: &Path) -> Db {
    let one = || {
        SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(SQLITE_TIMEOUT)
            .test_before_acquire(false)
            .max_lifetime(None)
    };
    let options = sqlite_options(path);
    let write = one()
        .idle_timeout(None)
        // A full disk ends a transaction inside SQLite, and nobody can end it again: a connection that counts one as open
        // could never begin another.
        .before_acquire(|connection, _| {
            let ended = !sqlx::Connection::is_in_transaction(connection);
            Box::pin(async move { Ok(ended) })
        })
        .connect_lazy_with(options.clone().create_if_missing(true));
    let read = one()
        .idle_timeout(SQLITE_IDLE)
        .connect_lazy_with(options.pragma("query_only", "ON"));
    Db::Sqlite {
        path: path.to_owned(),
        write,
        read,
        made: OnceCell::new(),
    }
}

async fn open_postgres(
    url: &PostgresUrl,
    max_connections: u32,
    limit: Duration,
) -> Result<Db, RecordsError> {
    let options = url
        .options()
        .application_name("modgate")
        .log_statements(LevelFilter::Off)
        .log_slow_statements(LevelFilter::Off, Duration::ZERO);
    let losses = Arc::new(Losses::default());
    let doubts = Arc::clone(&losses);
    let pool = PgPoolOptions::new()
        .max_connections(max_connections.max(2))
        .acquire_timeout(limit)
        .acquire_slow_level(LevelFilter::Off)
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            let doubted = meta.idle_for > POSTGRES_RESTED || doubts.since(meta.idle_for);
            Box::pin(async move {
                if doubted {
                    let alive = sqlx::Connection::ping(connection);
                    return Ok(matches!(timeout(POSTGRES_RESTED, alive).await, Ok(Ok(()))));
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(POSTGRES_SESSION).execute(connection).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options);
    let db = Db::Postgres {
        url: url.clone(),
        pool: pool.clone(),
        timeout: limit,
        silences: Silences::default(),
        losses,
    };
    // Known at once, with its reason: a pool would try until its time is over and then only say that it was.
    let connected = db.within(limit, "connecting", pool.acquire()).await;
    match connected {
        Ok(connection) => drop(connection),
        Err(error) if error.kind == RecordsErrorKind::Timeout => {
            let direct = db
                .within(limit, "connecting", url.options().connect())
                .await
                .err()
                .unwrap_or(error);
            return Err(direct);
        }
        Err(error) => return Err(error),
    }
    Ok(db)
}
