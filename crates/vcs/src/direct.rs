//! The questions that direct fetch answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use egress::{Egress, Grant};
use futures_util::{FutureExt as _, future::BoxFuture};
use gomod::{ModulePath, Version};
use tokio::sync::{OnceCell, mpsc};

use crate::bzr::BzrRepository;
use crate::discover::page::from_egress;
use crate::discover::{Discovery, Kind, Root};
use crate::fossil::FossilRepository;
use crate::git::{GitRepository, Mirror, Mirrors, Page, is_redirect, version};
use crate::hg::HgRepository;
use crate::incident::{Incidents, Watch};
use crate::module::Module;
use crate::places::{Place, Places};
use crate::process::within;
use crate::proxy::ModProxy;
use crate::reach::{Reach, Way};
use crate::repository::{Repository, Trouble};
use crate::svn::SvnRepository;
use crate::whole::Whole;
use crate::zip::{Again, ZipStream};
use crate::{DirectError, DirectSettings, ErrorKind, Revision, probe, ssh};

/// Direct fetch: asks repositories themselves, from mirrors that are kept. Shared by reference.
#[derive(Debug)]
pub struct Direct {
    settings: DirectSettings,
    reach: Reach,
    discovery: Discovery,
    mirrors: Mirrors,
    places: Places,
    watch: Arc<Watch>,
    /// Filled once the git that is installed was found to do.
    git: OnceCell<()>,
}

/// How many blocks of a module proxy's zip wait for the one who reads them.
const PROXY_BLOCKS: usize = 8;
/// How often a question is asked again when what is kept turns out to be damaged.
const TRIES: usize = 2;
/// How many runs of a process a question may take, one after the other and waits for those of others counted in.
const RUNS: u32 = 3;

impl Direct {
    /// With these settings, and `egress` as the way out; nothing is touched before the first question.
    pub fn new(settings: DirectSettings, egress: Egress) -> Arc<Self> {
        Arc::new(Self::make(settings, egress))
    }

    fn make(settings: DirectSettings, egress: Egress) -> Self {
        let reach = Reach::new(egress, settings.folder.clone());
        let watch = Arc::new(Watch::default());
        let probe = probe::by_program(&settings, reach.clone());
        Self {
            discovery: Discovery::new(&settings, reach.egress().clone(), probe),
            mirrors: Mirrors::new(&settings, Arc::clone(&watch)),
            watch,
            places: Places::new(settings.max_processes, settings.process_timeout),
            settings,
            reach,
            git: OnceCell::new(),
        }
    }

    /// The same over the mirrors that this one has, with other settings but for the folder. To be used in its place: what
    /// it is doing goes on, under the same locks, and is not begun a second time.
    #[must_use]
    pub fn renewed(&self, settings: DirectSettings, egress: Egress) -> Arc<Self> {
        let settings = DirectSettings {
            folder: self.settings.folder.clone(),
            ..settings
        };
        self.mirrors.limit(&settings);
        let same = settings.max_processes == self.settings.max_processes
            && settings.process_timeout == self.settings.process_timeout;
        let mut new = Self::make(settings, egress);
        new.mirrors = self.mirrors.clone();
        new.watch = Arc::clone(&self.watch);
        if same {
            new.places = self.places.clone();
        }
        Arc::new(new)
    }

    /// The tagged versions of a module, sorted: what `list` says (protocol.md 1.2, 2.3). Always asks the repository.
    pub async fn versions(&self, module: &ModulePath) -> Result<Vec<Version>, DirectError> {
        if let Some(proxy) = self.proxy(module).await? {
            return proxy.versions(module).await;
        }
        let _place = self.place(module).await?;
        self.ask(module, Duration::ZERO, |mut module| {
            async move { module.versions().await }.boxed()
        })
        .await
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
        self.revision_without(module, query, &[]).await
    }

    /// The same as if these versions had no tags: each was handed out as another commit than the one its tag is on by now.
    /// A branch or commit is a pseudo-version then.
    pub async fn revision_without(
        &self,
        module: &ModulePath,
        query: &str,
        moved: &[Version],
    ) -> Result<Revision, DirectError> {
        if let Some(proxy) = self.proxy(module).await? {
            let (info, _) = match query {
                "latest" => proxy.latest(module).await?,
                query => proxy.revision(module, &escaped(query)).await?,
            };
            // As it came; one that cannot be read is none.
            let origin = info.origin().cloned();
            return Ok(Revision {
                version: info.version,
                time: info.time,
                origin: origin.and_then(|origin| serde_json::from_value(origin).ok()),
            });
        }
        let _place = self.place(module).await?;
        let believe = match Version::parse(query) {
            Ok(_) => self.settings.refs_life,
            Err(_) => Duration::ZERO,
        };
        self.ask(module, believe, |module| {
            let mut module = module.without(moved);
            async move { module.revision(query).await }.boxed()
        })
        .await
    }

    /// The go.mod of a version, made up if the module has none. `pin` is the commit of the [`Origin`](crate::Origin) that
    /// was told of the version: another one is not read, even if the tag was moved since.
    pub async fn go_mod(
        &self,
        module: &ModulePath,
        version: &Version,
        pin: Option<&str>,
    ) -> Result<Bytes, DirectError> {
        if let Some(proxy) = self.proxy(module).await? {
            return proxy.go_mod(module, version).await;
        }
        let _place = self.place(module).await?;
        self.ask(module, self.settings.refs_life, |mut module| {
            async move { module.go_mod(version, pin).await }.boxed()
        })
        .await
    }

    /// The zip of a version, with `pin` as in [`go_mod`](Direct::go_mod). What no zip can be made of is an error here;
    /// trouble on the way ends the stream,
    /// but for a mirror that turns out to be damaged, which is made anew, or a program that died: once, and the stream
    /// goes on.
    pub async fn zip(
        self: &Arc<Self>,
        module: &ModulePath,
        version: &Version,
        pin: Option<&str>,
    ) -> Result<ZipStream, DirectError> {
        if let Some(proxy) = self.proxy(module).await? {
            let mut answer = proxy.zip(module, version).await?;
            let what = format!("{module}@{version}");
            let (sender, receiver) = mpsc::channel(PROXY_BLOCKS);
            tokio::spawn(async move {
                // Ends when nobody reads any more.
                while let Some(block) = answer.next_chunk().await.transpose() {
                    let block = block.map_err(|error| from_egress(&what, error).into());
                    let last = block.is_err();
                    if sender.send(block).await.is_err() || last {
                        return;
                    }
                }
            });
            return Ok(ZipStream::new(receiver, None));
        }
        let blocks = self.zip_blocks(module, version, pin).await?;
        let again = Again {
            direct: Arc::clone(self),
            module: module.clone(),
            version: version.clone(),
            pin: pin.map(str::to_owned),
        };
        Ok(ZipStream::new(blocks, Some(again)))
    }

    /// The same of a repository, once.
    pub(crate) async fn zip_blocks(
        &self,
        module: &ModulePath,
        version: &Version,
        pin: Option<&str>,
    ) -> Result<mpsc::Receiver<Result<Bytes, Trouble>>, DirectError> {
        let place = self.place(module).await?;
        let max = self.settings.max_zip_bytes;
        let plan = self
            .ask(module, self.settings.refs_life, |found| {
                async move { found.zip(version, pin, max).await }.boxed()
            })
            .await?;
        Ok(plan.start(place))
    }

    /// What happened since the start that an operator should look at. It is also in the log, as errors.
    pub fn incidents(&self) -> Incidents {
        self.watch.seen()
    }

    /// Calls `listener` for each tag that moved from now on. Only the first listener is called.
    pub fn on_moved_tag(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.watch.listen(Box::new(listener));
    }

    /// Looks after the mirrors: evicts what is too much, repacks what has grown. For the background, now and then.
    pub async fn tidy(&self) {
        if let Err(error) = self.mirrors.tidy(&self.places).await {
            tracing::warn!(%error, "care of the mirrors failed");
        }
    }

    /// Asks a question about a module, within bounded time.
    async fn ask<'a, T>(
        &self,
        path: &ModulePath,
        believe: Duration,
        question: impl Fn(Module) -> BoxFuture<'a, Result<T, Trouble>>,
    ) -> Result<T, DirectError> {
        let limit = self.settings.process_timeout.saturating_mul(RUNS);
        within(
            limit,
            path.as_str(),
            Box::pin(self.answer(path, believe, question)),
        )
        .await
    }

    /// Asks it again with a new mirror if the one that is kept is damaged, once more if a program died while it read that
    /// mirror, with a new credential if the one at hand is refused and there may be another by now, a little later if an ssh server
    /// took no connection, and where the module's
    /// page says by now that the repository is.
    async fn answer<'a, T>(
        &self,
        path: &ModulePath,
        believe: Duration,
        question: impl Fn(Module) -> BoxFuture<'a, Result<T, Trouble>>,
    ) -> Result<T, DirectError> {
        let mut root = self.discovery.find(path).await?;
        self.allowed(path, &root)?;
        // Where it is asked; its name stays the one that was found.
        let mut asked = root.clone();
        let (mut tries, mut logins, mut killed, mut sought) = (1, 1, false, false);
        let mut closed = 0;
        loop {
            let way = self.reach.way(&asked).await?;
            let grant = way.grant.clone();
            let (repository, mirror) = self.repository(&asked, way, believe).await?;
            let generation = mirror.as_ref().map(|mirror| mirror.generation());
            let module = Module::new(path.clone(), root.clone(), repository)?;
            let answer = question(module).await;
            if mirror.as_ref().is_some_and(|mirror| mirror.grew()) {
                // Ours is not evicted while it is held.
                self.enforce().await;
            }
            let answer = match answer {
                Err(Trouble::Killed(again)) if killed => Err(again.again()),
                answer => answer,
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Killed(died)) => {
                    tracing::warn!(repository = root.url, why = died.text, "it is asked again");
                    killed = true;
                }
                Err(Trouble::Mirror(why)) if tries < TRIES => {
                    tracing::warn!(
                        repository = root.url,
                        why,
                        "its mirror is damaged and made anew"
                    );
                    if let (Some(mirror), Some(generation)) = (mirror, generation) {
                        GitRepository::discard(&mirror, generation).await?;
                    }
                    tries += 1;
                }
                Err(Trouble::Other(error)) if asked == root && is_redirect(&error) => {
                    let ours = self.settings.is_ours(path);
                    asked = self.reach.moved(&root, ours).await?.ok_or(error)?;
                }
                Err(Trouble::Other(error))
                    if closed < ssh::TRIES
                        && ssh::is_ssh(&asked.url)
                        && ssh::closed(&error.text) =>
                {
                    closed += 1;
                    ssh::wait().await;
                }
                Err(Trouble::Other(error)) => {
                    let login = logins < TRIES && error.kind == ErrorKind::Unauthorized;
                    if login && self.has_another(grant).await {
                        logins += 1;
                        continue;
                    }
                    if sought {
                        return Err(error);
                    }
                    root = self.elsewhere(path, &root, error).await?;
                    (asked, sought) = (root.clone(), true);
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
    }

    /// Whether there may be another credential in place of one that was refused.
    async fn has_another(&self, grant: Option<Grant>) -> bool {
        match grant {
            Some(grant) => self.reach.egress().credentials().refused(&grant).await,
            None => false,
        }
    }

    /// Where the module's repository is by now, if it may have moved since its page was read; else the error.
    async fn elsewhere(
        &self,
        path: &ModulePath,
        root: &Root,
        error: DirectError,
    ) -> Result<Root, DirectError> {
        let may = matches!(
            error.kind,
            ErrorKind::NotFound | ErrorKind::Unavailable | ErrorKind::Unauthorized
        );
        if !may {
            return Err(error);
        }
        match self.discovery.find_again(path).await {
            Ok(new) if new != *root && new.vcs != Kind::Mod => {
                self.allowed(path, &new)?;
                Ok(new)
            }
            _ => Err(error),
        }
    }

    async fn enforce(&self) {
        if let Err(error) = self.mirrors.enforce().await {
            tracing::warn!(%error, "mirrors cannot be evicted");
        }
    }

    /// The module proxy that a module's page names in place of a repository.
    async fn proxy(&self, module: &ModulePath) -> Result<Option<ModProxy>, DirectError> {
        let root = self.discovery.find(module).await?;
        if root.vcs != Kind::Mod {
            return Ok(None);
        }
        let insecure = self.discovery.is_insecure(module.as_str(), &root.url);
        Ok(Some(ModProxy::new(
            self.reach.egress().clone(),
            &root,
            insecure,
        )))
    }

    /// A place to ask the host of a module's repository.
    async fn place(&self, module: &ModulePath) -> Result<Place, DirectError> {
        let root = self.discovery.find(module).await?;
        self.places.enter(Some(&root.url)).await
    }

    /// Whether GOVCS lets the repository be asked.
    fn allowed(&self, path: &ModulePath, root: &Root) -> Result<(), DirectError> {
        let private = self.settings.private.matches(path);
        let govcs = &self.settings.govcs;
        govcs.check(path.as_str(), private, &root.prefix, root.vcs.name())
    }

    async fn mirror(&self, root: &Root) -> Result<Arc<Mirror>, DirectError> {
        let vcs = root.vcs.name();
        self.mirrors.open(vcs, &root.url, root.credentials).await
    }

    async fn repository(
        &self,
        root: &Root,
        way: Way,
        believe: Duration,
    ) -> Result<(Repository, Option<Arc<Mirror>>), DirectError> {
        match root.vcs {
            Kind::Git => {
                let mirror = self.mirror(root).await?;
                let check = || version::check(&self.settings.folder);
                self.git.get_or_try_init(check).await?;
                let page = Page {
                    egress: self.reach.egress().clone(),
                    credentials: root.credentials,
                };
                let git =
                    GitRepository::new(Arc::clone(&mirror), way, page, &self.settings, believe);
                Ok((Repository::Git(Box::new(git)), Some(mirror)))
            }
            Kind::Hg => {
                let (whole, mirror) = self.whole(root, way, believe).await?;
                let hg = HgRepository::new(whole)?;
                Ok((Repository::Hg(Box::new(hg)), Some(mirror)))
            }
            Kind::Bzr => {
                let (whole, mirror) = self.whole(root, way, believe).await?;
                let (scratch, most) = (self.settings.folder.clone(), self.settings.max_zip_bytes);
                let bzr = BzrRepository::new(whole, scratch, most).await?;
                Ok((Repository::Bzr(Box::new(bzr)), Some(mirror)))
            }
            Kind::Fossil => {
                let (whole, mirror) = self.whole(root, way, believe).await?;
                let (scratch, most) = (self.settings.folder.clone(), self.settings.max_zip_bytes);
                let fossil = FossilRepository::new(whole, scratch, most)?;
                Ok((Repository::Fossil(Box::new(fossil)), Some(mirror)))
            }
            Kind::Svn => {
                let settings = &self.settings;
                let (limit, most) = (settings.process_timeout, settings.max_zip_bytes);
                let svn = SvnRepository::new(&settings.folder, way, limit, most)?;
                Ok((Repository::Svn(Box::new(svn)), None))
            }
            // It is asked before, as what it is.
            Kind::Mod => {
                let text = format!("{}: a module proxy is no repository", root.prefix);
                Err(DirectError::new(ErrorKind::Refused, text))
            }
        }
    }

    /// What is kept of a repository whole.
    async fn whole(
        &self,
        root: &Root,
        way: Way,
        believe: Duration,
    ) -> Result<(Whole, Arc<Mirror>), DirectError> {
        let mirror = self.mirror(root).await?;
        let whole = Whole::new(Arc::clone(&mirror), way, &self.settings, believe);
        Ok((whole, mirror))
    }
}

/// A query as it stands in a module proxy's URL.
fn escaped(query: &str) -> String {
    query.chars().fold(String::new(), |mut out, c| {
        if c.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(c.to_ascii_lowercase());
        out
    })
}

#[cfg(test)]
mod kept_tests;
