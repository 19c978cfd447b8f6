//! The questions that direct fetch answers.

use bytes::Bytes;
use gomod::{ModulePath, Version};
use tokio::sync::mpsc;

use crate::{DirectError, DirectSettings, ErrorKind, Reach, Revision};

/// Direct fetch: asks repositories themselves, from mirrors that are kept. Shared by reference.
#[derive(Debug)]
pub struct Direct {
    settings: DirectSettings,
    reach: Reach,
}

/// A module zip on its way: blocks of bytes, the same for the same version every time. An error ends it; without one
/// it is whole when the blocks end. Dropping it ends the work.
#[derive(Debug)]
pub struct ZipStream(mpsc::Receiver<Result<Bytes, DirectError>>);

impl ZipStream {
    /// The next block; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, DirectError>> {
        self.0.recv().await
    }
}

impl Direct {
    /// With these settings; nothing is touched before the first question.
    pub fn new(settings: DirectSettings, reach: Reach) -> Self {
        Self { settings, reach }
    }

    /// The tagged versions of a module, sorted: what `list` says (protocol.md 1.2, 2.3). Always asks the repository.
    pub async fn versions(&self, module: &ModulePath) -> Result<Vec<Version>, DirectError> {
        self.soon(module)
    }

    /// What `@latest` says: the highest release, else the highest pre-release, else the tip of the default branch.
    pub async fn latest(&self, module: &ModulePath) -> Result<Revision, DirectError> {
        self.soon(module)
    }

    /// What a query resolves to: a canonical version to itself, a branch, tag or commit to its version, `v1`, `<v1.5.0`
    /// or `latest` to what go would pick from the list.
    pub async fn revision(
        &self,
        module: &ModulePath,
        query: &str,
    ) -> Result<Revision, DirectError> {
        let _ = query;
        self.soon(module)
    }

    /// The go.mod of a version, made up if the module has none.
    pub async fn go_mod(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Bytes, DirectError> {
        let _ = version;
        self.soon(module)
    }

    /// The zip of a version.
    pub async fn zip(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<ZipStream, DirectError> {
        let _ = version;
        self.soon(module)
    }

    /// Looks after the mirrors: evicts what is too much, repacks what has grown. For the background, now and then.
    pub async fn tidy(&self) {}

    fn soon<T>(&self, module: &ModulePath) -> Result<T, DirectError> {
        let _ = (&self.reach, &self.settings);
        let text = format!("{module}: not asked yet");
        Err(DirectError::new(ErrorKind::Unavailable, text))
    }
}
