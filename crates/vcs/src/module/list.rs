//! The tagged versions of a module (protocol.md 2.3).

use gomod::Version;

use super::Module;
use crate::repository::{Plan, Trouble};

impl Module {
    /// The versions without `+incompatible`, sorted: by the names of tags alone.
    pub(super) async fn compatible(&mut self) -> Result<Vec<Version>, Trouble> {
        Ok(self.tagged().await?.0)
    }

    /// Those that fit the path, and those of higher majors that may be `+incompatible`; both sorted.
    async fn tagged(&mut self) -> Result<(Vec<Version>, Vec<Version>), Trouble> {
        let (mut fit, mut higher) = (Vec::new(), Vec::new());
        // The tags of `x.v2` are not those of `x.v2-unstable`, which has none.
        if self.path.as_str().starts_with("gopkg.in/") && self.path.as_str().ends_with("-unstable")
        {
            return Ok((fit, higher));
        }
        for tag in self.repository.tags(&self.tag_prefix).await? {
            let Ok(version) = Version::parse(&tag.name[self.tag_prefix.len()..]) else {
                continue;
            };
            if version.is_incompatible() || version.is_pseudo() {
                continue;
            }
            if version.check_major(&self.path).is_ok() {
                fit.push(version);
            } else if self.folder.is_empty() && self.major().is_empty() {
                higher.push(version);
            }
        }
        fit.sort();
        higher.sort();
        Ok((fit, higher))
    }

    /// All versions, sorted.
    pub(crate) async fn versions(&mut self) -> Result<Vec<Version>, Trouble> {
        let (mut versions, higher) = self.tagged().await?;
        if higher.is_empty() {
            return Ok(versions);
        }
        if let Some(highest) = versions.last().cloned() {
            // With a go.mod there, the author is for modules: nothing is incompatible any more.
            if self.has_go_mod(&highest, &[]).await? {
                return Ok(versions);
            }
        }
        let mut majors: Vec<&[Version]> = higher.chunk_by(|a, b| a.major() == b.major()).collect();
        majors.retain(|major| !major.is_empty());
        let highest: Vec<String> = majors
            .iter()
            .filter_map(|major| major.last())
            .map(Version::to_string)
            .collect();
        let mut incompatible = Vec::new();
        for major in majors {
            let Some(last) = major.last() else {
                continue;
            };
            if !self.has_go_mod(last, &highest).await? {
                incompatible.extend(
                    major.iter().filter_map(|version| {
                        Version::parse(&format!("{version}+incompatible")).ok()
                    }),
                );
            }
        }
        versions.extend(incompatible);
        Ok(versions)
    }

    /// Whether there is a go.mod at the root of a tagged version. `also` are tags that will be asked about too.
    async fn has_go_mod(&mut self, version: &Version, also: &[String]) -> Result<bool, Trouble> {
        let plan = Plan {
            also,
            ..Plan::default()
        };
        let commit = self.repository.stat(version.as_str(), plan).await?;
        Ok(self.read(&commit.hash, "go.mod").await?.is_some())
    }
}
