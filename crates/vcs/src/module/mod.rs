//! A module of a repository: Go's rules of tags, versions and folders (protocol.md 1.5, 2).

mod convert;
mod go_mod;
mod list;
mod pseudo;
mod query;

use std::collections::HashMap;

use bytes::Bytes;
use gomod::gomod_file::{Retraction, retractions, synthesized};
use gomod::{ModulePath, Version};

use crate::discover::Root;
use crate::repository::{Ancestry, Commit, Plan, Repository, Trouble};
use crate::{DirectError, ErrorKind, Revision, zip};

/// A module and its repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct Module {
    path: ModulePath,
    root: Root,
    repository: Repository,
    /// The folder of the module, without that of its major version.
    folder: String,
    /// What tags start with.
    tag_prefix: String,
    /// Versions whose tags count for nothing, without `+incompatible`.
    moved: Vec<String>,
    /// Which files were there: by commit and name.
    seen: HashMap<(String, String), Option<Bytes>>,
}

/// A version that was found, with what its files need.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) revision: Revision,
    pub(crate) hash: String,
    /// The module's folder in the repository.
    pub(crate) folder: String,
    /// Its go.mod, if there is one.
    pub(crate) go_mod: Option<Bytes>,
}

impl Module {
    pub(crate) fn new(
        path: ModulePath,
        root: Root,
        repository: Repository,
    ) -> Result<Self, DirectError> {
        let folder = folder(&path, &root)?;
        Ok(Self {
            tag_prefix: if folder.is_empty() {
                String::new()
            } else {
                format!("{folder}/")
            },
            path,
            root,
            repository,
            folder,
            moved: Vec::new(),
            seen: HashMap::new(),
        })
    }

    /// The tags of these versions count for nothing where a commit is given a version.
    pub(crate) fn without(mut self, moved: &[Version]) -> Self {
        let plain = |version: &Version| {
            let text = version.as_str();
            text.strip_suffix("+incompatible")
                .unwrap_or(text)
                .to_owned()
        };
        self.moved = moved.iter().map(plain).collect();
        self
    }

    /// The zip of a version, to be made, of at most `max_bytes`.
    pub(crate) async fn zip(
        mut self,
        version: &Version,
        pin: Option<&str>,
        max_bytes: u64,
    ) -> Result<zip::Plan, Trouble> {
        let found = self.version(version, pin).await?;
        let license = match &*found.folder {
            "" => None,
            _ => self.read(&found.hash, "LICENSE").await?,
        };
        let files = self.repository.files(&found.hash, &found.folder).await?;
        let go_mod = found.go_mod.as_deref();
        Ok(zip::Plan::new(
            &self.path, version, files, go_mod, license, max_bytes,
        )?)
    }

    /// The major version in the path: `/v2`, `.v1`, `.v1-unstable` or nothing.
    fn major(&self) -> &str {
        self.path.split_major().1
    }

    /// The number of the major version, `v2`, or nothing where v0 and v1 may be.
    fn major_number(&self) -> &str {
        major_number(self.major())
    }

    /// What a query resolves to; see [`crate::Direct::revision`].
    pub(crate) async fn revision(&mut self, query: &str) -> Result<Revision, Trouble> {
        if query::is_of_list(query) {
            return self.pick(query).await;
        }
        // With `+meta` behind it too it must be true, even if it is the name of a tag.
        let plain = gomod::semver::canonical(query).filter(|_| Version::parse(query).is_err());
        let is_pseudo = |plain: &String| Version::parse(plain).is_ok_and(|v| v.is_pseudo());
        if let Some(plain) = plain.filter(is_pseudo) {
            return Ok(self.stat(&plain).await?.revision);
        }
        match self.stat(query).await {
            Ok(found) => Ok(found.revision),
            Err(trouble) => {
                // Of `v1.2.3+meta` without such a tag, `v1.2.3` is as good.
                let canonical =
                    gomod::semver::canonical(query).filter(|canonical| canonical != query);
                match (canonical, &trouble) {
                    (Some(canonical), Trouble::Other(error))
                        if error.kind == crate::ErrorKind::NotFound =>
                    {
                        self.stat(&canonical)
                            .await
                            .map(|found| found.revision)
                            .map_err(|_| trouble)
                    }
                    _ => Err(trouble),
                }
            }
        }
    }

    /// A canonical version, which must resolve to itself. `pin` is the commit that it was on when something of it was
    /// handed out first: nothing of another one is handed out after that, whatever became of the tag.
    pub(crate) async fn version(
        &mut self,
        version: &Version,
        pin: Option<&str>,
    ) -> Result<Located, Trouble> {
        let found = self.resolved(version).await;
        let Some(pin) = pin.filter(|_| self.repository.has_hashes() && !version.is_pseudo()) else {
            return found;
        };
        let now = match &found {
            Ok(found) if found.hash == pin => return Ok(found.clone()),
            Ok(found) => format!("it is on {} now", found.hash),
            Err(Trouble::Other(error)) if is_final(error) => error.text.clone(),
            Err(_) => return found,
        };
        match self.repository.stat(pin, Plan::default()).await {
            Ok(commit) if commit.hash == pin => self.at(version, commit).await,
            Err(trouble @ (Trouble::Mirror(_) | Trouble::Killed(_))) => Err(trouble),
            Err(Trouble::Other(error)) if !is_final(&error) => Err(error.into()),
            _ => {
                let text = format!(
                    "{}@{version} was commit {pin} when it was served first, which is not to be had any more: {now}",
                    self.path
                );
                Err(DirectError::new(ErrorKind::Refused, text)
                    .hint("its tag was moved: retire the version, and use a new one")
                    .into())
            }
        }
    }

    /// A version on a commit that its tag is not on any more.
    async fn at(&mut self, version: &Version, commit: Commit) -> Result<Located, Trouble> {
        let (folder, go_mod) = self.find_folder(&commit.hash).await?;
        Ok(Located {
            revision: Revision {
                version: version.clone(),
                time: Some(commit.time),
                origin: None,
            },
            hash: commit.hash,
            folder,
            go_mod,
        })
    }

    async fn resolved(&mut self, version: &Version) -> Result<Located, Trouble> {
        let found = self.stat(version.as_str()).await?;
        if found.revision.version != *version {
            let text = format!(
                "{}@{version} resolves to version {}",
                self.path, found.revision.version
            );
            return Err(DirectError::not_found(text).into());
        }
        Ok(found)
    }

    /// The bytes of `.mod`.
    pub(crate) async fn go_mod(
        &mut self,
        version: &Version,
        pin: Option<&str>,
    ) -> Result<Bytes, Trouble> {
        let found = self.version(version, pin).await?;
        Ok(found
            .go_mod
            .unwrap_or_else(|| synthesized(&self.path).into()))
    }

    /// What a tag, branch, hash or version resolves to.
    async fn stat(&mut self, asked: &str) -> Result<Located, Trouble> {
        let pseudo = Version::parse(asked).ok().filter(Version::is_pseudo);
        let revision = match pseudo.as_ref().and_then(Version::pseudo) {
            Some(pseudo) => pseudo.rev.to_owned(),
            None => self.tag_of(asked),
        };
        let by_hash = pseudo.is_some();
        let canonical = Version::parse(asked).is_ok();
        // Only what is no version yet may turn out to be a retracted one.
        let also: Vec<String> = if canonical {
            Vec::new()
        } else {
            self.retracting().await?.into_iter().collect()
        };
        let ancestry = match pseudo {
            Some(version) if version.pseudo_base().is_ok_and(|base| base.is_some()) => {
                Ancestry::Needed
            }
            _ if canonical => Ancestry::No,
            // The tag that is on it may be one that does not count.
            _ if !self.moved.is_empty() => Ancestry::Needed,
            _ => Ancestry::UnlessTagged(&self.tag_prefix),
        };
        let plan = Plan {
            also: &also,
            ancestry,
            by_hash,
        };
        let commit = self.repository.stat(&revision, plan).await;
        let commit = commit.map_err(|trouble| self.named(asked, trouble))?;
        self.convert(commit, asked)
            .await
            .map_err(|trouble| self.named(asked, trouble))
    }

    /// The tip of the default branch.
    async fn tip(&mut self) -> Result<Located, Trouble> {
        let ancestry = Ancestry::UnlessTagged(&self.tag_prefix);
        let commit = self
            .repository
            .latest(Plan {
                ancestry,
                ..Plan::default()
            })
            .await;
        let commit = commit.map_err(|trouble| self.named("latest", trouble))?;
        self.convert(commit, "")
            .await
            .map_err(|trouble| self.named("latest", trouble))
    }

    /// The tag or other revision that a query names.
    fn tag_of(&self, asked: &str) -> String {
        if gomod::semver::parse(asked).is_none() {
            return asked.to_owned();
        }
        let plain = asked.strip_suffix("+incompatible").unwrap_or(asked);
        format!("{}{plain}", self.tag_prefix)
    }

    /// Says in an error what was asked for.
    fn named(&self, asked: &str, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Other(mut error) if !error.text.starts_with(self.path.as_str()) => {
                error.text = format!("{}@{asked}: {}", self.path, error.text);
                Trouble::Other(error)
            }
            trouble => trouble,
        }
    }

    /// The tag whose go.mod says what is retracted: of the highest release, else of the highest pre-release.
    async fn retracting(&mut self) -> Result<Option<String>, Trouble> {
        let versions = self.compatible().await?;
        let highest = versions
            .iter()
            .rfind(|version| !version.is_prerelease())
            .or(versions.last());
        Ok(highest.map(|version| format!("{}{version}", self.tag_prefix)))
    }

    /// What is retracted; nothing if that cannot be read.
    async fn retractions(&mut self) -> Result<Vec<Retraction>, Trouble> {
        let Some(tag) = self.retracting().await? else {
            return Ok(Vec::new());
        };
        let found = async {
            let commit = self.repository.stat(&tag, Plan::default()).await?;
            self.find_folder(&commit.hash).await
        };
        match found.await {
            Ok((_, Some(go_mod))) => Ok(retractions(&go_mod)),
            Ok((_, None)) => Ok(Vec::new()),
            Err(Trouble::Other(error)) if is_final(&error) => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }

    /// A file of a commit that is there.
    async fn read(&mut self, hash: &str, file: &str) -> Result<Option<Bytes>, Trouble> {
        let key = (hash.to_owned(), file.to_owned());
        if let Some(seen) = self.seen.get(&key) {
            return Ok(seen.clone());
        }
        let max = gomod::gomod_file::MAX_BYTES as u64;
        let content = self.repository.read(hash, file, max).await?;
        self.seen.insert(key, content.clone());
        Ok(content)
    }

    /// The tags on a commit that are versions of this module: each with whether the tag is just that.
    fn versions_on<'a>(&'a self, commit: &'a Commit) -> impl Iterator<Item = (&'a str, bool)> {
        commit.tags.iter().filter_map(|tag| self.version_of(tag))
    }

    /// The version that a tag stands for, without build metadata, and whether the tag is just that. Tags that look like
    /// pseudo-versions are none.
    fn version_of<'a>(&self, tag: &'a str) -> Option<(&'a str, bool)> {
        let trimmed = tag.strip_prefix(&*self.tag_prefix)?;
        let version = crate::git::refs::version_of(trimmed)?;
        if self.moved.iter().any(|moved| moved == version) {
            return None;
        }
        // Below a folder they are not recognized; so it is with the go command.
        if self.tag_prefix.is_empty()
            && Version::parse(version).is_ok_and(|version| version.is_pseudo())
        {
            return None;
        }
        Some((version, version == trimmed))
    }
}

/// Whether asking again will tell the same: an error about what is there, not about getting at it.
fn is_final(error: &DirectError) -> bool {
    matches!(
        error.kind,
        crate::ErrorKind::NotFound | crate::ErrorKind::Invalid
    )
}

/// `module.PathMajorPrefix`
fn major_number(major: &str) -> &str {
    let number = major.get(1..).unwrap_or_default();
    number.strip_suffix("-unstable").unwrap_or(number)
}

/// The folder of a module in its repository, without that of its major version.
fn folder(path: &ModulePath, root: &Root) -> Result<String, DirectError> {
    let text = path.as_str();
    let mut folder = String::new();
    if root.prefix != text {
        let before_major = path.split_major().0;
        let below = before_major
            .strip_prefix(&*root.prefix)
            .filter(|below| below.is_empty() || below.starts_with('/'));
        let below = below.ok_or_else(|| {
            DirectError::not_found(format!(
                "the repository of {} cannot have the module {text}",
                root.prefix
            ))
        })?;
        below.trim_matches('/').clone_into(&mut folder);
    }
    // The odd way round, as the go command has it (protocol.md 8.1). A root of the configuration leaves nothing below it
    // where it has a folder.
    for element in root.subdir.split('/').filter(|element| !element.is_empty()) {
        if !folder.is_empty() {
            folder.push('/');
        }
        folder.push_str(element);
    }
    Ok(folder)
}
