//! From a commit to the version that it is of this module.

use std::cmp::Ordering;

use gomod::gomod_file::Retraction;
use gomod::{Version, semver};

use super::{Located, Module};
use crate::repository::{Commit, Trouble};
use crate::{DirectError, Origin, Revision};

impl Module {
    /// The version of a commit. `asked` is the query that led to it, or nothing for the tip of the default branch.
    pub(super) async fn convert(
        &mut self,
        mut commit: Commit,
        asked: &str,
    ) -> Result<Located, Trouble> {
        let (version, folder, go_mod) = self.version_for(&mut commit, asked).await?;
        let mut origin = Origin {
            vcs: self.repository.vcs().to_owned(),
            url: self.root.url.clone(),
            subdir: self.folder.clone(),
            hash: if self.repository.has_hashes() {
                commit.hash.clone()
            } else {
                String::new()
            },
            reference: commit.reference.clone().unwrap_or_default(),
            ..Origin::default()
        };
        let first_form = version.as_str() == asked && asked.starts_with("v0.0.0-");
        if version.is_pseudo() && !first_form {
            // The base that was chosen depends on these tags.
            let mut prefix = self.tag_prefix.clone();
            if let Some(major) = self.major().get(1..) {
                prefix.push_str(major);
                prefix.push('.');
            }
            let sums = self.repository.sums(&prefix).await?;
            origin.tag_prefix = sums.tag_prefix;
            origin.tag_sum = sums.tag_sum;
            origin.repo_sum = sums.repo_sum;
        }
        Ok(Located {
            revision: Revision {
                version,
                time: Some(commit.time),
                origin: Some(origin),
            },
            hash: commit.hash,
            folder,
            go_mod,
        })
    }

    async fn version_for(&mut self, commit: &mut Commit, asked: &str) -> Result<Checked, Trouble> {
        if let Some(version) = Version::parse(asked).ok().filter(Version::is_pseudo) {
            let checked = self.check(commit, asked, asked).await?;
            self.prove(commit, &version).await?;
            return Ok(checked);
        }
        if let Some((version, true)) = commit.tag.as_deref().and_then(|tag| self.version_of(tag)) {
            let version = version.to_owned();
            match self.check(commit, &version, asked).await {
                // What else is on the commit may do.
                Err(Trouble::Other(error)) if super::is_final(&error) => {}
                done => return done,
            }
        }
        let on_commit: Vec<(String, bool)> = self
            .versions_on(commit)
            .map(|(version, exact)| (version.to_owned(), exact))
            .collect();
        let mut base = None;
        for (version, exact) in &on_commit {
            if semver::compare(version, asked) == Ordering::Equal {
                if *exact {
                    return self.check(commit, version, asked).await;
                }
                // `v1.2.3+a` and `v1.2.3+b` may be two commits: what was asked for is only the base.
                base = Some(version.clone());
            }
        }
        let retractions = self.retractions().await?;
        let exact: Vec<String> = on_commit
            .iter()
            .filter(|(_, exact)| *exact)
            .map(|(version, _)| version.clone())
            .collect();
        if let Some(highest) = self.highest(commit, exact, &retractions, asked).await? {
            return self.check(commit, &highest, asked).await;
        }
        if base.is_none() {
            let all = on_commit.into_iter().map(|(version, _)| version).collect();
            // At the tip of a branch, a tag on the commit itself hides higher ones before it; the go command, which has
            // no more of the history then, answers so.
            base = if commit.tip {
                self.highest(commit, all, &retractions, asked).await?
            } else {
                None
            };
        }
        if base.is_none() {
            let seen = commit.tags.len();
            let merged = self
                .repository
                .merged_tags(commit, &self.tag_prefix)
                .await?;
            if commit.tags.len() > seen {
                // With all of its tags it may be a version.
                return Box::pin(self.version_for(commit, asked)).await;
            }
            let versions = merged
                .iter()
                .filter_map(|tag| Some(self.version_of(tag)?.0.to_owned()));
            let versions = versions.collect();
            base = self.highest(commit, versions, &retractions, asked).await?;
        }
        let major = if self.major().is_empty() {
            "v0"
        } else {
            self.major_number()
        };
        let version = Version::pseudo_version(major, base.as_deref(), commit.time, &commit.short)
            .map_err(|error| {
            DirectError::not_found(format!("the version of commit {}: {error}", commit.hash))
        })?;
        self.check(commit, version.as_str(), asked).await
    }

    /// The highest of some versions that the module may have and that is not retracted.
    async fn highest(
        &mut self,
        commit: &Commit,
        versions: Vec<String>,
        retractions: &[Retraction],
        asked: &str,
    ) -> Result<Option<String>, Trouble> {
        let parts = versions
            .iter()
            .filter_map(|text| Some((semver::parse(text)?, text)));
        let mut sorted: Vec<_> = parts.collect();
        sorted.sort_by(|(a, _), (b, _)| semver::compare_parts(b, a));
        for (_, text) in sorted {
            let Ok(version) = Version::parse(text) else {
                continue;
            };
            if retractions
                .iter()
                .any(|retraction| retraction.covers(&version))
            {
                continue;
            }
            if version.check_major(&self.path).is_ok()
                || self.may_be_incompatible(commit, text, asked).await?
            {
                return Ok(Some(text.clone()));
            }
        }
        Ok(None)
    }

    /// Whether a version of a higher major may have `+incompatible`: there is no go.mod that speaks against it.
    async fn may_be_incompatible(
        &mut self,
        commit: &Commit,
        version: &str,
        asked: &str,
    ) -> Result<bool, Trouble> {
        if !self.folder.is_empty() || !self.major().is_empty() {
            return Ok(false);
        }
        if self.read(&commit.hash, "go.mod").await?.is_some() {
            return Ok(false);
        }
        if asked.ends_with("+incompatible") {
            return Ok(true);
        }
        let major = semver::parse(version).map_or("", |parts| parts.major);
        Ok(self
            .read(&commit.hash, &format!("v{major}/go.mod"))
            .await?
            .is_none())
    }

    /// Checks that the module may have a version, and adds `+incompatible` where it belongs.
    async fn check(
        &mut self,
        commit: &Commit,
        version: &str,
        asked: &str,
    ) -> Result<Checked, Trouble> {
        let fault = |text: String| Err(DirectError::not_found(text).into());
        let (folder, go_mod) = self.find_folder(&commit.hash).await?;
        let plain = |version: &str| {
            version
                .strip_suffix("+incompatible")
                .unwrap_or(version)
                .to_owned()
        };
        let base = plain(version);
        let mut version = if base == plain(asked) {
            asked.to_owned()
        } else {
            version.to_owned()
        };
        let fits =
            Version::parse(&base).is_ok_and(|version| version.check_major(&self.path).is_ok());
        let mut refused = None;
        if fits {
            if version.ends_with("+incompatible") {
                refused = Some(
                    "+incompatible is not allowed: the major version is compatible".to_owned(),
                );
            }
        } else if self.may_be_incompatible(commit, &base, asked).await? {
            version = format!("{base}+incompatible");
        } else if self.major().is_empty() {
            refused = Some(format!(
                "{base} has a go.mod, so the module path must have its major version"
            ));
        } else {
            refused = Some(format!(
                "{base} does not have the major version of the module path"
            ));
        }
        if Version::parse(asked).is_ok() && plain(asked) != base {
            return fault(format!(
                "resolves to version {version} ({} is not a tag)",
                plain(asked)
            ));
        }
        if let Some(refused) = refused {
            return fault(refused);
        }
        match Version::parse(&version) {
            Ok(version) => Ok((version, folder, go_mod)),
            Err(error) => fault(format!("{version}: {error}")),
        }
    }
}

/// A version, the module's folder and its go.mod.
type Checked = (Version, String, Option<bytes::Bytes>);
