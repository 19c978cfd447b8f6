//! Whether the service heeds the conditions of a write.

use bytes::Bytes;
use object_store::{Attributes, PutMode};

use super::{ObjectTier, upload::Created};
use crate::{
    Key,
    tier::{Source, TierError, TierErrorKind},
};

impl ObjectTier {
    /// Makes a small object, and if it was not there, a second time, which the service must not do. The object stays, so that
    /// all others ask once. A service that passes over what it does not know says nothing of it, and overwrites.
    pub async fn heeds_conditions(&self) -> Result<bool, TierError> {
        let name = Key::new("conditions".to_owned())
            .map_err(|error| self.gate.error(TierErrorKind::Refused, error))?;
        let path = self.below("_modgate", &name)?;
        let note = "modgate looks by this object whether conditional writes are heeded.\n";
        for _ in 0..2 {
            let source = Source::from(Bytes::from_static(note.as_bytes()));
            let made = self.write(&path, source, Attributes::new(), PutMode::Create);
            if let Created::Taken = made.await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
