//! One file of a version, fetched for a command rather than for a client.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use store::Key;

use crate::{
    artifact::Artifact,
    gateway::Gateway,
    import,
    pipeline::Want,
    refusal::{Code, Refusal},
};

/// The file of a version that a key names; none of lists, tiles and the like.
pub(crate) fn artifact_of(key: &str) -> Option<Artifact> {
    import::artifact(Path::new("go"), Path::new(key))
}

impl Gateway {
    /// What is fetched here is not what is kept, as far as anybody knows: nothing of it comes into the index.
    pub fn note_nothing(&self) {
        self.index.turn_off();
    }

    /// Fetches, verifies and keeps the file of a version that `key` names. Returns where it is when it is kept.
    ///
    /// # Errors
    /// What a client would be answered; a file that was not verified is refused too.
    pub async fn fetch_anew(self: &Arc<Self>, key: &Key) -> Result<PathBuf, Arc<Refusal>> {
        let refused = |why: &str| Arc::new(Refusal::new(Code::InvalidName, key.as_str(), why));
        let artifact = artifact_of(key.as_str()).ok_or_else(|| refused("no file of a version"))?;
        let want = Want {
            whole: true,
            ..Want::default()
        };
        let answer = self.artifact(artifact, want).await;
        let answer = answer.map_err(|refused| refused.refusal)?;
        match (answer.warning, self.store.get(key).await) {
            (None, Ok(Some(_))) => Ok(self.store.folder().join(key.as_str())),
            (Some(warning), _) => Err(refused(warning)),
            (None, Ok(None)) => Err(refused("it was not kept")),
            (None, Err(error)) => Err(refused(&error.to_string())),
        }
    }
}
