//! The index of kept objects. It says what is kept without a listing of a bucket, and since when it was not used.

use std::collections::HashMap;

use sqlx::{FromRow, QueryBuilder};

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Db, Records, read, write},
    error::RecordsError,
    removals::Remove as _,
};

/// Rows in one statement.
pub(crate) const ROWS: usize = 256;

/// One kept object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// For zips: the hash that the checksum database has.
    pub h1: Option<String>,
    /// When it was kept, in milliseconds of Unix time.
    pub kept_at_ms: i64,
    /// When it was last used, the same way.
    pub used_at_ms: i64,
    /// Whether it must stay whatever is cleaned up.
    pub pinned: bool,
}

impl Object {
    /// The part of its key before the last `/`.
    pub fn folder(&self) -> &str {
        folder(&self.key)
    }
}

fn folder(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Which objects are wanted. The default is all of them.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Their keys begin with this.
    pub prefix: String,
    /// Kept at this time or later.
    pub kept_from_ms: i64,
    /// Kept before this time.
    pub kept_before_ms: i64,
    /// Last used before this time.
    pub used_before_ms: i64,
    /// Also those that are pinned.
    pub pinned_too: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            kept_from_ms: i64::MIN,
            kept_before_ms: i64::MAX,
            used_before_ms: i64::MAX,
            pinned_too: true,
        }
    }
}

impl Filter {
    /// The first key after all that begin with the prefix: no character is greater.
    fn end(&self) -> String {
        format!("{}\u{10ffff}", self.prefix)
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(FromRow)]
pub(crate) struct Row {
    key: String,
    size: i64,
    sha256: Vec<u8>,
    h1: Option<String>,
    kept_at_ms: i64,
    used_at_ms: i64,
    pinned: bool,
}

impl TryFrom<Row> for Object {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            size: u64::try_from(row.size).map_err(|error| sqlx::Error::Decode(error.into()))?,
            sha256: row
                .sha256
                .try_into()
                .map_err(|_| sqlx::Error::Decode("a SHA-256 of another length".into()))?,
            key: row.key,
            h1: row.h1,
            kept_at_ms: row.kept_at_ms,
            used_at_ms: row.used_at_ms,
            pinned: row.pinned,
        })
    }
}

fn objects(rows: Vec<Row>) -> Result<Vec<Object>, sqlx::Error> {
    rows.into_iter().map(Object::try_from).collect()
}

impl Records {
    /// Notes objects that are kept, before this returns: in one transaction. What is noted already keeps its times; of
    /// other bytes under the same key the newer stand.
    pub async fn note(&self, objects: &[Object]) -> Result<(), RecordsError> {
        note(&self.db, objects).await
    }

    /// What is noted of one object.
    pub async fn object(&self, key: &str) -> Result<Option<Object>, RecordsError> {
        read!(&self.db, "reading the index", conn => {
            let row: Option<Row> = sqlx::query_as(
                "SELECT key, size, sha256, h1, kept_at_ms, used_at_ms, pinned FROM objects WHERE key = $1",
            )
            .bind(key)
            .fetch_optional(conn)
            .await?;
            row.map(Object::try_from).transpose()?
        })
    }

    /// The names in a folder, in order.
    pub async fn folder(&self, folder: &str) -> Result<Vec<String>, RecordsError> {
        let keys: Vec<String> = read!(&self.db, "reading the index", conn => {
            sqlx::query_scalar("SELECT key FROM objects WHERE folder = $1 ORDER BY key")
                .bind(folder)
                .fetch_all(conn)
                .await?
        })?;
        let start = folder.len() + usize::from(!folder.is_empty());
        Ok(keys
            .into_iter()
            .map(|mut key| key.split_off(start))
            .collect())
    }

    /// The next `limit` objects after `after_key`, in the order of their keys' bytes.
    pub async fn objects(
        &self,
        after_key: &str,
        limit: u32,
        filter: &Filter,
    ) -> Result<Vec<Object>, RecordsError> {
        read!(&self.db, "reading the index", conn => {
            let rows = sqlx::query_as(
                "SELECT key, size, sha256, h1, kept_at_ms, used_at_ms, pinned FROM objects \
                 WHERE key > $1 AND key >= $2 AND key < $3 AND kept_at_ms >= $4 AND kept_at_ms < $5 \
                 AND used_at_ms < $6 AND (pinned = FALSE OR $7) ORDER BY key LIMIT $8",
            )
            .bind(after_key)
            .bind(&filter.prefix)
            .bind(filter.end())
            .bind(filter.kept_from_ms)
            .bind(filter.kept_before_ms)
            .bind(filter.used_before_ms)
            .bind(filter.pinned_too)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            objects(rows)?
        })
    }

    /// The same in the order of last use, longest ago first, after the use and key of the last one seen.
    pub async fn least_used(
        &self,
        after: Option<(i64, &str)>,
        limit: u32,
        filter: &Filter,
    ) -> Result<Vec<Object>, RecordsError> {
        let (used_at_ms, key) = after.unwrap_or((i64::MIN, ""));
        read!(&self.db, "reading the index", conn => {
            let rows = sqlx::query_as(
                "SELECT key, size, sha256, h1, kept_at_ms, used_at_ms, pinned FROM objects \
                 WHERE (used_at_ms, key) > ($1, $2) AND key >= $3 AND key < $4 AND kept_at_ms >= $5 \
                 AND kept_at_ms < $6 AND used_at_ms < $7 AND (pinned = FALSE OR $8) \
                 ORDER BY used_at_ms, key LIMIT $9",
            )
            .bind(used_at_ms)
            .bind(key)
            .bind(&filter.prefix)
            .bind(filter.end())
            .bind(filter.kept_from_ms)
            .bind(filter.kept_before_ms)
            .bind(filter.used_before_ms)
            .bind(filter.pinned_too)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            objects(rows)?
        })
    }

    /// How much the filter lets through. Reads all of it.
    pub async fn totals(&self, filter: &Filter) -> Result<Totals, RecordsError> {
        let (count, bytes): (i64, i64) = read!(&self.db, "counting the index", conn => {
            sqlx::query_as(
                "SELECT CAST(count(*) AS BIGINT), CAST(coalesce(sum(size), 0) AS BIGINT) FROM objects \
                 WHERE key >= $1 AND key < $2 AND kept_at_ms >= $3 AND kept_at_ms < $4 \
                 AND used_at_ms < $5 AND (pinned = FALSE OR $6)",
            )
            .bind(&filter.prefix)
            .bind(filter.end())
            .bind(filter.kept_from_ms)
            .bind(filter.kept_before_ms)
            .bind(filter.used_before_ms)
            .bind(filter.pinned_too)
            .fetch_one(conn)
            .await?
        })?;
        Ok(Totals {
            count: count.unsigned_abs(),
            bytes: bytes.unsigned_abs(),
        })
    }

    /// Notes when objects were last used. Time only goes forward.
    pub async fn used(&self, used: &[(String, i64)]) -> Result<(), RecordsError> {
        note_use(&self.db, used).await
    }

    /// Takes an object out of the index, and tells everybody. Returns whether it was there.
    pub async fn forget(&self, key: &str) -> Result<bool, RecordsError> {
        write!(&self.db, "forgetting an object", tx => {
            let delete = sqlx::query("DELETE FROM objects WHERE key = $1").bind(key);
            let gone = delete.execute(&mut *tx).await?.rows_affected() > 0;
            // Told either way: another may have it in memory.
            tx.announce(ChangeKind::Forget, key).await?;
            gone
        })
    }

    /// The same for several at once, which were removed on purpose: replicas that do not run hear of it later.
    pub async fn forget_all(&self, keys: &[&str]) -> Result<(), RecordsError> {
        write!(&self.db, "forgetting objects", tx => {
            for key in keys {
                let delete = sqlx::query("DELETE FROM objects WHERE key = $1").bind(key);
                delete.execute(&mut *tx).await?;
                tx.announce(ChangeKind::Forget, key).await?;
                tx.note_removal(key).await?;
            }
        })
    }

    /// The same as `forget`, and tells nobody: it was told.
    pub async fn forget_quietly(&self, key: &str) -> Result<(), RecordsError> {
        write!(&self.db, "forgetting an object", tx => {
            let delete = sqlx::query("DELETE FROM objects WHERE key = $1").bind(key);
            delete.execute(&mut *tx).await?;
        })
    }

    /// Pins an object, so that no cleaning up takes it. Returns whether it is there.
    pub async fn pin(&self, key: &str) -> Result<bool, RecordsError> {
        self.set_pinned(key, true).await
    }

    /// The opposite.
    pub async fn unpin(&self, key: &str) -> Result<bool, RecordsError> {
        self.set_pinned(key, false).await
    }

    /// The next `limit` pinned objects after `after_key`, in the order of their keys' bytes.
    pub async fn pinned(&self, after_key: &str, limit: u32) -> Result<Vec<Object>, RecordsError> {
        read!(&self.db, "reading the pins", conn => {
            let rows = sqlx::query_as(
                "SELECT key, size, sha256, h1, kept_at_ms, used_at_ms, pinned FROM objects \
                 WHERE key > $1 AND pinned = TRUE ORDER BY key LIMIT $2",
            )
            .bind(after_key)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            objects(rows)?
        })
    }

    async fn set_pinned(&self, key: &str, pinned: bool) -> Result<bool, RecordsError> {
        write!(&self.db, "pinning an object", tx => {
            sqlx::query("UPDATE objects SET pinned = $2 WHERE key = $1")
                .bind(key)
                .bind(pinned)
                .execute(tx)
                .await?
                .rows_affected()
                > 0
        })
    }
}

/// Inserts objects within a transaction. Nothing is written for those of which nothing is new.
macro_rules! insert_objects {
    ($tx:ident, $rows:expr) => {
        for rows in $rows.chunks($crate::objects::ROWS) {
            let mut insert = sqlx::QueryBuilder::new(
                "INSERT INTO objects (key, folder, size, sha256, h1, kept_at_ms, used_at_ms, pinned) ",
            );
            insert.push_values(rows, |mut row, object| {
                row.push_bind(object.key.as_str())
                    .push_bind(object.folder())
                    .push_bind(i64::try_from(object.size).unwrap_or(i64::MAX))
                    .push_bind(object.sha256.as_slice())
                    .push_bind(object.h1.as_deref())
                    .push_bind(object.kept_at_ms)
                    .push_bind(object.used_at_ms)
                    .push_bind(object.pinned);
            });
            insert.push(
                " ON CONFLICT (key) DO UPDATE SET size = excluded.size, sha256 = excluded.sha256, \
                 h1 = coalesce(excluded.h1, objects.h1) \
                 WHERE objects.sha256 <> excluded.sha256 OR objects.size <> excluded.size \
                 OR (objects.h1 IS NULL AND excluded.h1 IS NOT NULL)",
            );
            insert.build().persistent(false).execute(&mut *$tx).await?;
        }
    };
}

pub(crate) use insert_objects;

pub(crate) async fn note(db: &Db, objects: &[Object]) -> Result<(), RecordsError> {
    // One statement cannot touch a row twice: the last note of a key stands.
    let mut unique: HashMap<&str, &Object> = HashMap::with_capacity(objects.len());
    for object in objects {
        unique.insert(&object.key, object);
    }
    let mut rows: Vec<&Object> = unique.into_values().collect();
    // In one order, so that two replicas that note the same objects wait for each other rather than deadlock.
    rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    if rows.is_empty() {
        return Ok(());
    }
    write!(db, "noting objects", tx => insert_objects!(tx, rows))
}

pub(crate) async fn note_use(db: &Db, used: &[(String, i64)]) -> Result<(), RecordsError> {
    let mut newest: HashMap<&str, i64> = HashMap::with_capacity(used.len());
    for (key, at_ms) in used {
        let newest = newest.entry(key).or_insert(*at_ms);
        *newest = (*newest).max(*at_ms);
    }
    let mut rows: Vec<(&str, i64)> = newest.into_iter().collect();
    rows.sort_unstable();
    if rows.is_empty() {
        return Ok(());
    }
    write!(db, "noting use", tx => {
        for rows in rows.chunks(ROWS) {
            // Both databases name the columns of bare values so.
            let mut update = QueryBuilder::new(
                "UPDATE objects SET used_at_ms = used.column2 FROM (",
            );
            update.push_values(rows, |mut row, (key, at_ms)| {
                row.push_bind(*key).push_bind(*at_ms);
            });
            update.push(
                ") AS used WHERE objects.key = used.column1 AND objects.used_at_ms < used.column2",
            );
            update.build().persistent(false).execute(&mut *tx).await?;
        }
    })
}
