//! What replicas that have records of their own agreed on about retired versions.
//!
//! Beside the tombstones in effect stands, for every version that was ever retired, what all replicas said of it when
//! this one compared last. A tombstone that differs from that, or is missing, is a word of this replica that the others
//! do not know yet: so commands only edit tombstones, whether a server runs or not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Records, write},
    error::RecordsError,
};

/// The fact that says that there is something agreed.
const BEGUN: &str = "agreed";
/// The facts with what was agreed: this, and the version.
const PREFIX: &str = "agreed ";

const FIND: &str = "SELECT value FROM facts WHERE name = $1";
const PUT: &str = "INSERT INTO facts (name, value) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// Why and when a version was retired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Retired {
    /// What its retirer said.
    pub reason: String,
    /// When: RFC 3339, UTC.
    pub time: String,
}

/// What was agreed on about a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// Grows with every word on the version. Zero: it stood in the records before anything was agreed.
    pub rev: u64,
    /// None: it is not retired any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Retired>,
}

/// What was agreed and what is in effect here, at one moment, by `module@version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// What was agreed.
    pub agreed: BTreeMap<String, Agreed>,
    /// The tombstones.
    pub now: BTreeMap<String, Retired>,
}

impl Agreement {
    /// What this replica says and the others do not know: a version is retired, or is not any more.
    pub fn words(&self) -> impl Iterator<Item = (&str, Option<&Retired>)> {
        let differs = |name: &str, now: Option<&Retired>| {
            let agreed = self.agreed.get(name);
            agreed.and_then(|agreed| agreed.retired.as_ref()) != now
        };
        let gone = self.agreed.keys().map(|name| (name.as_str(), None));
        let gone = gone.filter(|(name, _)| !self.now.contains_key(*name));
        let set = self.now.iter();
        let set = set.map(|(name, retired)| (name.as_str(), Some(retired)));
        gone.chain(set)
            .filter(move |(name, now)| differs(name, *now))
    }
}

impl Records {
    /// What was agreed and what is in effect. What is in effect when this is asked first counts as agreed: it is no
    /// news, and may be older than what the others say.
    pub async fn agreement(&self) -> Result<Agreement, RecordsError> {
        // In one transaction: a command may compare at the same time.
        write!(&self.db, "reading what replicas agreed on", tx => {
            let rows: Vec<(String, String, String, String)> =
                sqlx::query_as("SELECT module, version, reason, time FROM tombstones")
                    .fetch_all(&mut *tx)
                    .await?;
            let now: BTreeMap<String, Retired> = rows
                .into_iter()
                .map(|(module, version, reason, time)| {
                    (format!("{module}@{version}"), Retired { reason, time })
                })
                .collect();
            let begun: Option<String> =
                sqlx::query_scalar(FIND).bind(BEGUN).fetch_optional(&mut *tx).await?;
            let mut agreed = BTreeMap::new();
            if begun.is_none() {
                for (name, retired) in &now {
                    let first = Agreed { rev: 0, retired: Some(retired.clone()) };
                    sqlx::query(PUT)
                        .bind(format!("{PREFIX}{name}"))
                        .bind(text(&first)?)
                        .execute(&mut *tx)
                        .await?;
                    agreed.insert(name.clone(), first);
                }
                sqlx::query(PUT).bind(BEGUN).bind("").execute(&mut *tx).await?;
            } else {
                let rows: Vec<(String, String)> = sqlx::query_as(
                    "SELECT name, value FROM facts WHERE substr(name, 1, 7) = 'agreed '",
                )
                .fetch_all(&mut *tx)
                .await?;
                for (name, value) in rows {
                    let name = name.strip_prefix(PREFIX).unwrap_or(&name).to_owned();
                    agreed.insert(name, parsed(&value)?);
                }
            }
            Agreement { agreed, now }
        })
    }

    /// Takes what replicas agreed on about some versions. It comes into effect, unless this replica said something else
    /// since: that stays, as a word that the others do not know. Returns whether other versions are retired now.
    pub async fn agree(&self, news: &BTreeMap<String, Agreed>) -> Result<bool, RecordsError> {
        if news.is_empty() {
            return Ok(false);
        }
        let changed = write!(&self.db, "taking what replicas agreed on", tx => {
            let mut changed = false;
            for (name, news) in news {
                let Some((module, version)) = name.rsplit_once('@') else {
                    continue;
                };
                let fact = format!("{PREFIX}{name}");
                let before: Option<String> =
                    sqlx::query_scalar(FIND).bind(&fact).fetch_optional(&mut *tx).await?;
                let before = before.map_or_else(|| Ok(Agreed::default()), |value| parsed(&value))?;
                // Another process compared meanwhile, and knows more.
                if before.rev > news.rev {
                    continue;
                }
                let now: Option<(String, String)> = sqlx::query_as(
                    "SELECT reason, time FROM tombstones WHERE module = $1 AND version = $2",
                )
                .bind(module)
                .bind(version)
                .fetch_optional(&mut *tx)
                .await?;
                let now = now.map(|(reason, time)| Retired { reason, time });
                if now == before.retired && now != news.retired {
                    let set = match &news.retired {
                        Some(retired) => sqlx::query(
                            "INSERT INTO tombstones (module, version, reason, time) VALUES ($1, $2, $3, $4) \
                             ON CONFLICT (module, version) DO UPDATE SET reason = excluded.reason, time = excluded.time",
                        )
                        .bind(module)
                        .bind(version)
                        .bind(&retired.reason)
                        .bind(&retired.time),
                        None => sqlx::query("DELETE FROM tombstones WHERE module = $1 AND version = $2")
                            .bind(module)
                            .bind(version),
                    };
                    set.execute(&mut *tx).await?;
                    changed = true;
                }
                sqlx::query(PUT).bind(&fact).bind(text(news)?).execute(&mut *tx).await?;
            }
            if changed {
                tx.announce(ChangeKind::Tombstones, "").await?;
            }
            changed
        })?;
        if changed {
            self.no_longer_fresh();
        }
        Ok(changed)
    }
}

fn text(agreed: &Agreed) -> Result<String, sqlx::Error> {
    serde_json::to_string(agreed).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn parsed(text: &str) -> Result<Agreed, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}
