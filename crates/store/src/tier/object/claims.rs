//! Claims: who may upload in parts, for which there are no conditional writes.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::{TryStreamExt, stream::BoxStream};
use object_store::{Attributes, Error, ObjectStoreExt, PutMode, UpdateVersion, path::Path};

use super::{
    ObjectTier, TierError, map,
    upload::{Created, PAUSE, TRIES},
};
use crate::{Digest, Key};

/// A claim that is older by the storage's clock was left behind by a writer that ended.
const CLAIM_LIFE: Duration = Duration::from_hours(24);

impl ObjectTier {
    /// Takes the right to write bytes with this digest. A claim of the same digest is as good as an own one.
    pub(super) async fn claim(
        &self,
        key: &Key,
        claim: &Path,
        digest: &Digest,
    ) -> Result<(), TierError> {
        let text = Bytes::from(digest.sha256_hex());
        let write = async |mode| {
            self.write(claim, text.clone().into(), Attributes::new(), mode)
                .await
        };
        for _ in 0..TRIES {
            if let Created::Yes = write(PutMode::Create).await? {
                return Ok(());
            }
            let asked = async {
                match self.client.store.get(claim).await {
                    Ok(got) => Ok(Some(got)),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(map(&self.gate, error)),
                }
            };
            let Some(got) = self.gate.run(self.settings.timeout, asked).await? else {
                // Another writer is just about to have it, or gave it back.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let claimed = SystemTime::from(got.meta.last_modified);
            // One from the future, by our clock, is new.
            let age = claimed.elapsed().unwrap_or_default();
            // Google goes by the version, the others by the tag.
            let seen = UpdateVersion {
                e_tag: got.meta.e_tag.clone(),
                version: got.meta.version.clone(),
            };
            let there = self
                .gate
                .watch(self.settings.timeout, short(self.steps(got)))
                .await?;
            if there == text {
                return Ok(());
            }
            if age <= CLAIM_LIFE {
                return Err(self.differs(key));
            }
            if let Created::Yes = write(PutMode::Update(seen)).await? {
                return Ok(());
            }
        }
        Err(self.contradiction(claim))
    }

    pub(super) async fn unclaim(&self, claim: &Path) {
        // A claim that stays behind is as good as ours for the same bytes, and grows old for others.
        let _ = self.delete(claim).await;
    }
}

/// The first few bytes of a body that should be short.
async fn short(
    mut stream: BoxStream<'static, Result<Bytes, TierError>>,
) -> Result<Bytes, TierError> {
    let mut bytes = BytesMut::new();
    while let Some(block) = stream.try_next().await? {
        bytes.extend_from_slice(&block);
        if bytes.len() > 256 {
            break;
        }
    }
    Ok(bytes.freeze())
}
