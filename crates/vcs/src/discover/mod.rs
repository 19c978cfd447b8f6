//! From a module path to its repository (`go help importpath`): mappings of the configuration, well-known hosts,
//! elements such as `x.git`, and the `go-import` tags of the page that the path itself names.
//!
//! The page and what it leads to are a stranger's: all requests go through the guard of [`egress`], and only URLs that
//! no program can mistake for something else come out.

mod html;
mod kept;
mod known;
mod mapping;
pub(crate) mod page;
mod repo_url;
mod root;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use egress::{Ask, Egress};
use futures_util::future::BoxFuture;
use gomod::ModulePath;
use gomod::pattern::Patterns;
use reqwest::Url;

use crate::govcs::Govcs;
use crate::{DirectError, DirectSettings, ErrorKind};
use html::Import;
use kept::KeptAnswers;
use known::{Known, known, launchpad};

pub use mapping::Mapping;
pub use root::{Kind, Root};

/// How long trouble is believed, so that a crowd does not ask a host in trouble once each.
const TROUBLE_LIFE: Duration = Duration::from_secs(5);

/// Asks, by the system's program, whether a repository answers at a URL. Only for URLs that this module has checked.
pub type Probe =
    Arc<dyn Fn(Kind, Url) -> BoxFuture<'static, Result<bool, DirectError>> + Send + Sync>;

/// Finds roots, and remembers what it was told.
pub struct Discovery {
    egress: Egress,
    govcs: Govcs,
    private: Patterns,
    insecure: Patterns,
    mappings: Vec<Mapping>,
    life: Duration,
    negative_life: Duration,
    probe: Probe,
    /// Tags of pages, by path.
    pages: KeptAnswers<Arc<Vec<Import>>>,
    /// Schemes of repositories, by system, host and path.
    schemes: KeptAnswers<&'static str>,
}

impl Discovery {
    /// `probe` is used where the scheme must be tried out and HTTP cannot tell.
    pub fn new(settings: &DirectSettings, egress: Egress, probe: Probe) -> Self {
        let longest = settings
            .discovery_life
            .max(settings.discovery_negative_life);
        Self {
            egress,
            govcs: settings.govcs.clone(),
            private: settings.private.clone(),
            insecure: settings.insecure.clone(),
            mappings: settings.mappings.clone(),
            life: settings.discovery_life,
            negative_life: settings.discovery_negative_life,
            probe,
            pages: KeptAnswers::new(longest),
            schemes: KeptAnswers::new(longest),
        }
    }

    /// Where the module's repository is. Whether `GOVCS` allows to ask it is looked at only where it is tried out.
    pub async fn find(&self, module: &ModulePath) -> Result<Root, DirectError> {
        self.find_since(module, None).await
    }

    /// The same when the repository has not what is asked for, or does not answer: pages are believed no longer than that
    /// there is none.
    pub async fn find_again(&self, module: &ModulePath) -> Result<Root, DirectError> {
        self.find_since(module, Some(self.negative_life)).await
    }

    async fn find_since(
        &self,
        module: &ModulePath,
        oldest: Option<Duration>,
    ) -> Result<Root, DirectError> {
        let path = module.as_str();
        // `gopkg.in/x.v1` keeps its major version: it is no element of its own.
        let base = match module.split_major() {
            (base, major) if major.starts_with('/') => base,
            _ => path,
        };
        if let Some(mapped) = mapping::map(&self.mappings, path, base) {
            let root = mapped.map_err(|short| DirectError {
                kind: ErrorKind::NotFound,
                text: format!(
                    "{path} is no module: a repository has {} path elements behind {}",
                    short.elements, short.prefix
                ),
                hint: Some(format!("see [[vcs]] prefix = \"{}\"", short.prefix)),
            })?;
            // Tests of what comes after discovery need no server.
            if cfg!(test) && root.url.starts_with("file://") {
                return Ok(root);
            }
            let url = repo_url::check(root.vcs, &root.url, self.is_insecure(path, &root.url))?;
            return Ok(Root {
                url: written(&url, &root.url),
                ..root
            });
        }
        match known(path) {
            Known::Root(root) => Ok(root),
            Known::Invalid(text) => Err(not_found(text)),
            Known::Schemeless { prefix, vcs, repo } => {
                // Who is not to be asked is not tried out either.
                let private = self.private.matches_str(path);
                self.govcs.check(path, private, &prefix, vcs.name())?;
                let scheme = self.scheme(path, vcs, &repo).await?;
                Ok(Root {
                    prefix,
                    vcs,
                    url: format!("{scheme}://{repo}"),
                    subdir: String::new(),
                    credentials: true,
                })
            }
            Known::Unknown => match (self.ask_host(path, oldest).await, launchpad(path)) {
                (Err(_), Some((first, None))) => Ok(first),
                (Err(_), Some((first, Some(wider)))) => self.bazaar_branch(first, wider).await,
                (asked, _) => asked,
            },
        }
    }

    /// Whether a module, its host or its repository's host may be asked without encryption.
    pub fn is_insecure(&self, path: &str, repo: &str) -> bool {
        let host = path.split('/').next().unwrap_or(path);
        let repo = repo.parse::<Url>().ok();
        let repo_host = repo.as_ref().and_then(Url::host_str);
        let port = repo.as_ref().and_then(Url::port);
        let with_port = repo_host
            .zip(port)
            .map(|(host, port)| format!("{host}:{port}"));
        self.insecure.matches_str(path)
            || self.insecure.matches_str(host)
            || repo_host.is_some_and(|host| self.insecure.matches_str(host))
            || with_port.is_some_and(|host| self.insecure.matches_str(&host))
    }

    /// By the `go-import` tags of the path's page, which the page of the prefix that it claims must confirm.
    async fn ask_host(&self, path: &str, oldest: Option<Duration>) -> Result<Root, DirectError> {
        match self.ask_pages(path, oldest).await {
            // A repository that moved is told of anew by one page and as of old by the other, if that one was kept.
            Err(Disagreement::Pages(_)) => self.ask_pages(path, Some(self.negative_life)).await,
            told => told,
        }
        .map_err(|error| match error {
            Disagreement::Pages(error) | Disagreement::No(error) => error,
        })
    }

    async fn ask_pages(&self, path: &str, oldest: Option<Duration>) -> Result<Root, Disagreement> {
        let unknown =
            |why: String| not_found(format!("unrecognized import path \"{path}\": {why}"));
        let own = self.page(path, oldest).await?;
        let import = page::choose(&own, path).map_err(&unknown)?;
        if import.prefix != path {
            let wider = self.page(&import.prefix, oldest).await?;
            if page::choose(&wider, path) != Ok(import) {
                let why = format!(
                    "the page of {} does not confirm its go-import meta tag",
                    import.prefix
                );
                return Err(Disagreement::Pages(unknown(why)));
            }
        }
        Ok(self.accept(path, import)?)
    }

    /// The tags of a path's page, kept for long only if one of them is for the path.
    async fn page(
        &self,
        path: &str,
        oldest: Option<Duration>,
    ) -> Result<Arc<Vec<Import>>, DirectError> {
        let fetch = async || {
            let got = page::imports(&self.egress, path, self.is_insecure(path, "")).await;
            let life = match &got {
                Ok(imports) if page::choose(imports, path).is_ok() => self.life,
                Ok(_) => self.negative_life,
                Err(error) => self.error_life(error),
            };
            (got.map(Arc::new), life)
        };
        self.pages.get(path, oldest, fetch).await
    }

    fn error_life(&self, error: &DirectError) -> Duration {
        match error.kind {
            ErrorKind::NotFound | ErrorKind::Refused => self.negative_life,
            _ => self.negative_life.min(TROUBLE_LIFE),
        }
    }

    /// Checks what a page says of a module.
    fn accept(&self, path: &str, import: &Import) -> Result<Root, DirectError> {
        let of_page = |what: String| {
            not_found(format!(
                "unrecognized import path \"{path}\": {what} in the page of {}",
                import.prefix
            ))
        };
        let vcs = Kind::by_name(&import.vcs).ok_or_else(|| {
            of_page(format!(
                "unknown version control system \"{}\"",
                repo_url::show(&import.vcs)
            ))
        })?;
        let subdir = cleaned(&import.subdir);
        if !is_folder(&subdir) {
            return Err(of_page(format!(
                "invalid subdirectory \"{}\"",
                repo_url::show(&import.subdir)
            )));
        }
        let url = repo_url::check(vcs, &import.url, self.is_insecure(path, &import.url))?;
        let host = path.split('/').next();
        let credentials = url.host_str() == host || self.private.matches_str(path);
        if !credentials && self.egress.is_internal(&url) {
            return Err(DirectError {
                kind: ErrorKind::Refused,
                text: format!(
                    "the page of {} names a repository on an internal host, and {path} is not private",
                    import.prefix
                ),
                hint: Some(format!(
                    "if {path} is a module of yours, list it in `private`"
                )),
            });
        }
        Ok(Root {
            prefix: import.prefix.clone(),
            vcs,
            url: written(&url, &import.url),
            subdir,
            credentials,
        })
    }

    /// The scheme by which a repository answers: the first that does, in the go command's order.
    async fn scheme(&self, path: &str, vcs: Kind, repo: &str) -> Result<&'static str, DirectError> {
        let insecure = self.is_insecure(path, "");
        let try_out = async || {
            let found = self.try_schemes(vcs, repo, insecure).await;
            let life = found
                .as_ref()
                .err()
                .map_or(self.life, |error| self.error_life(error));
            (found, life)
        };
        let key = format!("{vcs} {insecure} {repo}");
        self.schemes.get(&key, None, try_out).await
    }

    async fn try_schemes(
        &self,
        vcs: Kind,
        repo: &str,
        insecure: bool,
    ) -> Result<&'static str, DirectError> {
        let mut trouble: Option<DirectError> = None;
        for (scheme, encrypted) in vcs.schemes() {
            if !encrypted && !insecure {
                continue;
            }
            // fossil has no way to ask: the first will do.
            if vcs == Kind::Fossil {
                return Ok(scheme);
            }
            let url = repo_url::check(vcs, &format!("{scheme}://{repo}"), insecure)?;
            let answer = match (vcs, *scheme) {
                (Kind::Git, "https" | "http") => self.answers_git(&url, insecure).await,
                _ => (self.probe)(vcs, url).await,
            };
            let error = match answer {
                Ok(true) => return Ok(scheme),
                Ok(false) => continue,
                Err(error) => error,
            };
            // The first trouble is told, but a 401 says more than a missing ssh server.
            let better = |known: &DirectError| {
                known.kind != ErrorKind::Unauthorized && error.kind == ErrorKind::Unauthorized
            };
            if trouble.as_ref().is_none_or(better) {
                trouble = Some(error);
            }
        }
        let secure = if insecure { "" } else { "secure " };
        Err(trouble.unwrap_or_else(|| {
            not_found(format!("no {secure}protocol found for repository {repo}"))
        }))
    }

    /// Whether a git repository answers over http.
    async fn answers_git(&self, url: &Url, plain_http: bool) -> Result<bool, DirectError> {
        let mut url = url.clone();
        url.set_path(&format!("{}/info/refs", url.path().trim_end_matches('/')));
        url.set_query(Some("service=git-upload-pack"));
        let what = format!("the repository {}", url.host_str().unwrap_or(""));
        let ask = Ask {
            url,
            timeout: page::WITHIN,
            plain_http,
            credentials: true,
        };
        // Only the status counts, the list of refs may be long.
        let answer = self
            .egress
            .as_git()
            .open(ask)
            .await
            .map_err(|error| page::from_egress(&what, error))?;
        let host = answer.url().host_str().unwrap_or("");
        match answer.status() {
            200 => Ok(true),
            status @ (408 | 425 | 429 | 500..) => Err(DirectError {
                kind: ErrorKind::Unavailable,
                text: format!("{what} answered {status}"),
                hint: None,
            }),
            status => match page::refused_with(status, host, answer.credential()) {
                Some(error) => Err(error),
                None => Ok(false),
            },
        }
    }

    /// Launchpad: the series if it has a branch, else the whole project.
    async fn bazaar_branch(&self, first: Root, wider: Root) -> Result<Root, DirectError> {
        let branch = first
            .prefix
            .replacen("launchpad.net", "https://code.launchpad.net", 1);
        let Ok(url) = format!("{branch}/.bzr/branch-format").parse() else {
            return Ok(wider);
        };
        let ask = Ask {
            url,
            timeout: page::WITHIN,
            plain_http: false,
            credentials: false,
        };
        let answer = self
            .egress
            .open(ask)
            .await
            .map_err(|error| page::from_egress("launchpad.net", error))?;
        Ok(if answer.status() == 200 { first } else { wider })
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("private", &self.private)
            .field("insecure", &self.insecure)
            .field("mappings", &self.mappings)
            .finish_non_exhaustive()
    }
}

/// Why two pages gave no root.
enum Disagreement {
    /// They say different things, perhaps because one was kept.
    Pages(DirectError),
    /// Another reason.
    No(DirectError),
}

impl From<DirectError> for Disagreement {
    fn from(error: DirectError) -> Self {
        Self::No(error)
    }
}

fn not_found(text: String) -> DirectError {
    DirectError {
        kind: ErrorKind::NotFound,
        text,
        hint: None,
    }
}

/// The URL as it was written, since that is what `Origin` shows, unless the parser had to change what it means.
fn written(url: &Url, text: &str) -> String {
    match text.parse::<Url>() {
        Ok(same) if same == *url && text.starts_with(url.scheme()) => text.to_owned(),
        _ => url.to_string(),
    }
}

/// A folder as a page names it, without the `./` and `/` around it that go does not mind either.
fn cleaned(subdir: &str) -> String {
    let elements = subdir.trim_end_matches('/').split('/');
    let mut elements: Vec<&str> = elements.collect();
    elements.retain(|element| *element != ".");
    if elements.is_empty() {
        // go looks for tags below `./`, which no repository has.
        return subdir.to_owned();
    }
    elements.join("/")
}

/// A folder in a repository, or nothing.
fn is_folder(subdir: &str) -> bool {
    let element = |element: &str| !matches!(element, "" | "." | "..") && !element.starts_with('-');
    let fine =
        |c: char| !c.is_control() && !"\\:*?\"<>|".contains(c) && c != char::REPLACEMENT_CHARACTER;
    subdir.is_empty() || subdir.split('/').all(element) && subdir.chars().all(fine)
}
