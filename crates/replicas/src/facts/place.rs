//! Where the document is: an object in a bucket, or a key in Redis. It is written on the condition that it is still what
//! was read, and read only if it is not what is known.

use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    Error, GetOptions, ObjectStore, PutMode, PutOptions, UpdateVersion, path::Path,
};
use store::tier::is_absent;
use tokio::time::timeout;

use super::document::{Document, FORM};
use crate::{
    Coordinate, ReplicasError,
    redis::Connection,
    storage::{failed, is_other},
};

const DOING: &str = "the shared list of retired versions and tree heads";
/// Far more than administrators retire.
const MAX_BYTES: usize = 32 << 20;

/// What a state of the document is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Object(UpdateVersion),
    Sha1(String),
}

/// What there is.
#[derive(Debug)]
pub(super) enum Read {
    /// What was known.
    Same,
    Absent,
    Document(Document, Version),
}

pub(super) enum Place {
    Storage {
        store: Arc<dyn ObjectStore>,
        path: Path,
        timeout: Duration,
    },
    Redis {
        connection: Box<Connection>,
        key: String,
    },
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Storage { .. } => "Storage",
            Self::Redis { .. } => "Redis",
        })
    }
}

impl Place {
    pub(super) fn of(coordinate: &Coordinate) -> Option<Self> {
        match coordinate {
            Coordinate::Alone | Coordinate::Postgres => None,
            Coordinate::Redis {
                client,
                prefix,
                timeout,
            } => Some(Self::Redis {
                connection: Box::new(Connection::new(*client.clone(), *timeout)),
                key: format!("{prefix}{{modgate}}:facts"),
            }),
            Coordinate::Storage {
                store,
                prefix,
                timeout,
            } => Some(Self::Storage {
                store: Arc::clone(store),
                path: prefix.clone().join("_modgate").join("facts"),
                timeout: *timeout,
            }),
        }
    }

    pub(super) async fn read(&self, known: Option<&Version>) -> Result<Read, ReplicasError> {
        let found = match self {
            Self::Storage {
                store,
                path,
                timeout: limit,
            } => timeout(*limit, get(store, path, known))
                .await
                .unwrap_or_else(|_| Err(ReplicasError::timeout(DOING)))?,
            Self::Redis { connection, key } => {
                let known = match known {
                    Some(Version::Sha1(sha1)) => sha1,
                    _ => "",
                };
                match connection.fact(key, known).await? {
                    None => Found::Absent,
                    Some((sha1, _)) if sha1 == known => Found::Same,
                    Some((sha1, text)) => Found::Bytes(text, Version::Sha1(sha1)),
                }
            }
        };
        let (bytes, version) = match found {
            Found::Same => return Ok(Read::Same),
            Found::Absent => return Ok(Read::Absent),
            Found::Bytes(bytes, version) => (bytes, version),
        };
        let document = match serde_json::from_slice::<Document>(&bytes) {
            Ok(document) if document.form > FORM => {
                let text = "a newer modgate wrote it in a form that this one does not know";
                return Err(ReplicasError::new(DOING, text));
            }
            Ok(document) => document,
            // All of it is with the replicas.
            Err(error) => {
                tracing::error!(%error, "{DOING} is damaged: it is begun anew with what replicas know");
                Document::default()
            }
        };
        Ok(Read::Document(document, version))
    }

    /// Writes it, if what is there still is `before`. Returns whether it was.
    pub(super) async fn write(
        &self,
        document: &Document,
        before: Option<&Version>,
    ) -> Result<bool, ReplicasError> {
        let text = serde_json::to_string(document);
        let text = text.map_err(|error| ReplicasError::new(DOING, error))?;
        if text.len() > MAX_BYTES {
            return Err(ReplicasError::new(DOING, "it would be over 32 MiB"));
        }
        match self {
            Self::Storage {
                store,
                path,
                timeout: limit,
            } => {
                let mode = match before {
                    Some(Version::Object(version)) => PutMode::Update(version.clone()),
                    _ => PutMode::Create,
                };
                let put = store.put_opts(path, text.into(), PutOptions::from(mode));
                match timeout(*limit, put).await {
                    Err(_) => Err(ReplicasError::timeout(DOING)),
                    Ok(Ok(_)) => Ok(true),
                    Ok(Err(error)) if is_other(&error) => Ok(false),
                    Ok(Err(error)) => Err(failed(&error)),
                }
            }
            Self::Redis { connection, key } => {
                let before = match before {
                    Some(Version::Sha1(sha1)) => sha1,
                    _ => "",
                };
                connection.set_fact(key, before, &text).await
            }
        }
    }
}

enum Found {
    Same,
    Absent,
    Bytes(Vec<u8>, Version),
}

async fn get(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    known: Option<&Version>,
) -> Result<Found, ReplicasError> {
    let known = match known {
        Some(Version::Object(version)) => version.e_tag.clone(),
        _ => None,
    };
    let options = GetOptions {
        if_none_match: known,
        ..GetOptions::default()
    };
    let got = match store.get_opts(path, options).await {
        Err(Error::NotModified { .. }) => return Ok(Found::Same),
        Err(error) if is_absent(&error) => return Ok(Found::Absent),
        got => got.map_err(|error| failed(&error))?,
    };
    if got.meta.size > MAX_BYTES as u64 {
        return Err(ReplicasError::new(DOING, "it is over 32 MiB"));
    }
    let version = Version::Object(UpdateVersion {
        e_tag: got.meta.e_tag.clone(),
        version: got.meta.version.clone(),
    });
    let bytes = got.bytes().await.map_err(|error| failed(&error))?;
    Ok(Found::Bytes(bytes.into(), version))
}
