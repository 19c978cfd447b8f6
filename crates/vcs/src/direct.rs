//! The questions that direct fetch answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gomod::{ModulePath, Version};
use tokio::sync::mpsc;

use crate::discover::{self, Kind, Root};
use crate::git::{GitRepository, Mirror, Mirrors};
use crate::module::Module;
use crate::process::{Place, Places};
use crate::repository::{Repository, Trouble};
use crate::{DirectError, DirectSettings, ErrorKind, Reach, Revision};

/// Direct fetch: asks repositories themselves, from mirrors that are kept. Shared by reference.
#[derive(Debug)]
pub struct Direct {
    settings: DirectSettings,
    reach: Reach,
    mirrors: Mirrors,
    places: Places,
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

/// How often a question is asked again when what is kept turns out to be damaged.
const TRIES: usize = 2;

impl Direct {
    /// With these settings; nothing is touched before the first question.
    pub fn new(settings: DirectSettings, reach: Reach) -> Self {
        Self {
            mirrors: Mirrors::new(&settings),
            places: Places::new(settings.max_processes, settings.process_timeout),
            settings,
            reach,
        }
    }

    /// The tagged versions of a module, sorted: what `list` says (protocol.md 1.2, 2.3). Always asks the repository.
    pub async fn versions(&self, module: &ModulePath) -> Result<Vec<Version>, DirectError> {
        let mut question = self.question(module, Duration::ZERO).await?;
        loop {
            let answer = question.module().await?.versions().await;
            if let Some(versions) = question.settle(answer).await? {
                return Ok(versions);
            }
        }
    }

    /// What `@latest` says: the highest release, else the highest pre-release, else the tip of the default branch, and
    /// nothing that is retracted. Always asks the repository.
    pub async fn latest(&self, module: &ModulePath) -> Result<Revision, DirectError> {
        self.revision(module, "latest").await
    }

    /// What a query resolves to: a canonical version to itself, a branch, tag or commit to its version, `v1`, `<v1.5.0`
    /// or `latest` to what go would pick from the list. Asks the repository, but for a canonical version only if what
    /// was heard from it within [`DirectSettings::refs_life`] does not tell.
    pub async fn revision(
        &self,
        module: &ModulePath,
        query: &str,
    ) -> Result<Revision, DirectError> {
        let believe = match Version::parse(query) {
            Ok(_) => self.settings.refs_life,
            Err(_) => Duration::ZERO,
        };
        let mut question = self.question(module, believe).await?;
        loop {
            let answer = question.module().await?.revision(query).await;
            if let Some(revision) = question.settle(answer).await? {
                return Ok(revision);
            }
        }
    }

    /// The go.mod of a version, made up if the module has none.
    pub async fn go_mod(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Bytes, DirectError> {
        let mut question = self.question(module, self.settings.refs_life).await?;
        loop {
            let answer = question.module().await?.go_mod(version).await;
            if let Some(go_mod) = question.settle(answer).await? {
                return Ok(go_mod);
            }
        }
    }

    /// The zip of a version. What no zip can be made of is an error here; trouble on the way ends the stream.
    pub async fn zip(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<ZipStream, DirectError> {
        let mut question = self.question(module, self.settings.refs_life).await?;
        loop {
            let answer = question
                .module()
                .await?
                .zip(version, self.settings.max_zip_bytes)
                .await;
            if let Some(plan) = question.settle(answer).await? {
                return Ok(ZipStream(plan.start(question.place)));
            }
        }
    }

    /// How many tags of versions were seen to point elsewhere than before, since the start: each is an incident, and told
    /// in the log. What is kept of these versions elsewhere is not touched by it.
    pub fn moved_tags(&self) -> u64 {
        self.mirrors.moves()
    }

    /// Looks after the mirrors: evicts what is too much, repacks what has grown. For the background, now and then.
    pub async fn tidy(&self) {
        if let Err(error) = self.mirrors.tidy(&self.places).await {
            tracing::warn!(%error, "care of the mirrors failed");
        }
    }

    async fn question<'a>(
        &'a self,
        path: &'a ModulePath,
        believe: Duration,
    ) -> Result<Question<'a>, DirectError> {
        let root = discover::find(&self.settings, path)?;
        self.allowed(path, &root)?;
        let host = root.url.split("://").nth(1).unwrap_or_default();
        let host = host.split('/').next().unwrap_or_default();
        Ok(Question {
            direct: self,
            path,
            place: self.places.enter(Some(host)).await?,
            root,
            believe,
            mirror: None,
            tries: 0,
        })
    }

    /// Whether GOVCS lets the repository be asked.
    fn allowed(&self, path: &ModulePath, root: &Root) -> Result<(), DirectError> {
        let private = self.settings.private.matches(path);
        if self
            .settings
            .govcs
            .allows(&root.prefix, private, root.vcs.name())
        {
            return Ok(());
        }
        let what = if private { "private" } else { "public" };
        let text = format!(
            "{path}: {} is not allowed for {what} modules of {}",
            root.vcs, root.prefix
        );
        Err(DirectError::new(ErrorKind::Refused, text)
            .hint("see the setting govcs, which has the syntax of GOVCS"))
    }

    async fn repository(
        &self,
        root: &Root,
        believe: Duration,
    ) -> Result<(Repository, Arc<Mirror>), DirectError> {
        match root.vcs {
            Kind::Git => {
                let mirror = self.mirrors.open(&root.url, root.credentials).await?;
                let way = self.reach.way(root).await?;
                let git = GitRepository::new(Arc::clone(&mirror), way, &self.settings, believe);
                Ok((Repository::Git(Box::new(git)), mirror))
            }
            other => {
                let text = format!(
                    "{}: {other} repositories are not supported yet",
                    root.prefix
                );
                Err(DirectError::new(ErrorKind::MissingProgram, text))
            }
        }
    }
}

/// A question about a module, asked again with a new mirror if the one that is kept is damaged.
struct Question<'a> {
    direct: &'a Direct,
    path: &'a ModulePath,
    place: Place,
    root: Root,
    believe: Duration,
    /// The mirror that is asked, and which making of it.
    mirror: Option<(Arc<Mirror>, u64)>,
    tries: usize,
}

impl Question<'_> {
    /// The module, to be asked.
    async fn module(&mut self) -> Result<Module, DirectError> {
        self.tries += 1;
        let (repository, mirror) = self.direct.repository(&self.root, self.believe).await?;
        self.mirror = Some((Arc::clone(&mirror), mirror.generation()));
        Module::new(self.path.clone(), self.root.clone(), repository)
    }

    /// The answer; `None` if it is to be asked again.
    async fn settle<T>(&mut self, answer: Result<T, Trouble>) -> Result<Option<T>, DirectError> {
        match (answer, &self.mirror) {
            (Ok(answer), _) => Ok(Some(answer)),
            (Err(Trouble::Mirror(why)), Some((mirror, generation))) if self.tries < TRIES => {
                tracing::warn!(
                    repository = self.root.url,
                    why,
                    "its mirror is damaged and made anew"
                );
                GitRepository::discard(mirror, *generation).await?;
                Ok(None)
            }
            (Err(trouble), _) => Err(trouble.into()),
        }
    }
}
