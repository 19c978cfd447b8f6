//! Leases in PostgreSQL, by its own clock. What they are for is in crate `replicas`.

use crate::{
    db::{Db, Lent, Records},
    error::{RecordsError, RecordsErrorKind},
    silence::Access,
};

/// The channel on which the end of a lease is told; what is told is its key, if that is short enough.
pub const LEASES_CHANNEL: &str = "modgate_leases";

const DOING: &str = "leasing";
/// Only a free or expired one is taken, in one statement.
const TAKE: &str = "INSERT INTO leases AS held (key, holder, token, expires_ms) \
     VALUES ($1, $2, nextval('lease_tokens'), CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) + $3) \
     ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, token = excluded.token, expires_ms = excluded.expires_ms \
     WHERE held.expires_ms <= CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) \
     RETURNING token";
const RENEW: &str = "UPDATE leases SET expires_ms = CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) + $3 \
     WHERE key = $1 AND token = $2 \
     AND expires_ms > CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
/// PostgreSQL tells less than 8,000 bytes; who waits for a longer key looks now and then.
const RELEASE: &str = "WITH gone AS (DELETE FROM leases WHERE key = $1 AND token = $2 RETURNING key) \
     SELECT pg_notify('modgate_leases', CASE WHEN octet_length(key) < 4000 THEN key ELSE '' END) FROM gone";
/// Milliseconds that are left of a lease.
const LEFT: &str = "SELECT expires_ms - CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) FROM leases \
     WHERE key = $1";

/// A lease that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Greater than that of any lease before.
    pub token: i64,
}

/// Runs `$body` on a connection to PostgreSQL, without a transaction around it. Once more if that connection was lost: its server
/// or a pooler in between may have ended it while nobody asked, and be there.
macro_rules! on_postgres {
    ($records:expr, $access:ident, $conn:ident => $body:expr) => {{
        let db = &*$records.db;
        let Db::Postgres { pool, .. } = db else {
            let text = "only PostgreSQL has leases".to_owned();
            return Err(RecordsError::new(RecordsErrorKind::Refused, DOING, text));
        };
        let ask = || {
            db.limited(Access::$access, DOING, async {
                let mut lent = Lent::new(pool.acquire().await?);
                let $conn = lent.connection();
                let done = $body;
                lent.give_back();
                Ok(done)
            })
        };
        match ask().await {
            Err(error) if error.kind == RecordsErrorKind::Unavailable => ask().await,
            done => done,
        }
    }};
}

impl Records {
    /// Takes the lease of a key if nobody holds it, or if its time is over.
    pub async fn take_lease(
        &self,
        key: &str,
        holder: &str,
        ttl_ms: i64,
    ) -> Result<Option<LeaseRow>, RecordsError> {
        let token: Option<i64> = on_postgres!(self, Write, conn => {
            sqlx::query_scalar(TAKE).bind(key).bind(holder).bind(ttl_ms).fetch_optional(conn).await?
        })?;
        Ok(token.map(|token| LeaseRow { token }))
    }

    /// Prolongs a lease; false if it is lost.
    pub async fn renew_lease(
        &self,
        key: &str,
        token: i64,
        ttl_ms: i64,
    ) -> Result<bool, RecordsError> {
        on_postgres!(self, Write, conn => {
            sqlx::query(RENEW).bind(key).bind(token).bind(ttl_ms).execute(conn).await?.rows_affected() > 0
        })
    }

    /// Gives a lease back and tells those who wait; nothing happens if it is lost.
    pub async fn release_lease(&self, key: &str, token: i64) -> Result<(), RecordsError> {
        on_postgres!(self, Write, conn => {
            sqlx::query(RELEASE).bind(key).bind(token).execute(conn).await?;
        })
    }

    /// Milliseconds that are left of the lease of a key; none if nobody holds it.
    pub async fn lease_left(&self, key: &str) -> Result<Option<u64>, RecordsError> {
        let left: Option<i64> = on_postgres!(self, Read, conn => {
            sqlx::query_scalar(LEFT).bind(key).fetch_optional(conn).await?
        })?;
        Ok(left
            .and_then(|left| u64::try_from(left).ok())
            .filter(|left| *left > 0))
    }
}
