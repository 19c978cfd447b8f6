//! Leases in a table of PostgreSQL, by its clock.

use std::{sync::Arc, time::Duration};

use records::Records;

use crate::{ReplicasError, leases::Held};

#[derive(Debug)]
pub(crate) struct PostgresLeases {
    records: Arc<Records>,
    holder: String,
}

impl PostgresLeases {
    pub(crate) fn new(records: &Arc<Records>, holder: &str) -> Self {
        Self {
            records: Arc::clone(records),
            holder: holder.to_owned(),
        }
    }

    pub(crate) async fn take(
        &self,
        key: &str,
        ttl: Duration,
    ) -> Result<Option<Held>, ReplicasError> {
        let taken = self
            .records
            .take_lease(key, &self.holder, milliseconds(ttl))
            .await?;
        Ok(taken.map(|row| Held {
            key: key.into(),
            token: row.token.unsigned_abs(),
            version: None,
        }))
    }

    pub(crate) async fn renew(&self, held: &Held, ttl: Duration) -> Result<bool, ReplicasError> {
        let renewed =
            self.records
                .renew_lease(&held.key, held.token.cast_signed(), milliseconds(ttl));
        Ok(renewed.await?)
    }

    pub(crate) async fn release(&self, held: &Held) -> Result<(), ReplicasError> {
        let released = self
            .records
            .release_lease(&held.key, held.token.cast_signed());
        Ok(released.await?)
    }

    pub(crate) async fn left(&self, key: &str) -> Result<Option<Duration>, ReplicasError> {
        let left = self.records.lease_left(key).await?;
        Ok(left.map(Duration::from_millis))
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
