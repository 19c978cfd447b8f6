//! Pseudo-versions that somebody asks for: each part must be true.

use gomod::{Version, semver};
use time::OffsetDateTime;

use super::Module;
use crate::DirectError;
use crate::repository::{Commit, Trouble};

impl Module {
    /// Proves that a pseudo-version is one of this commit (protocol.md 2.2).
    pub(super) async fn prove(
        &mut self,
        commit: &Commit,
        version: &Version,
    ) -> Result<(), Trouble> {
        let fault = |text: String| {
            Err(DirectError::not_found(format!("invalid pseudo-version: {text}")).into())
        };
        let Some(pseudo) = version.pseudo() else {
            return fault("of no known form".to_owned());
        };
        if pseudo.rev != commit.short {
            return fault(format!("the revision must be written {}", commit.short));
        }
        // Of a second's parts, versions say nothing.
        let seconds = |time: OffsetDateTime| time.unix_timestamp();
        if pseudo.time().map(seconds) != Some(seconds(commit.time)) {
            return fault(format!("the commit is of {}", digits(commit.time)));
        }
        let plain = version
            .as_str()
            .strip_suffix("+incompatible")
            .unwrap_or(version.as_str());
        let base = Version::parse(plain).and_then(|plain| plain.pseudo_base());
        let base = match base {
            Ok(Some(base)) => base,
            Ok(None) if self.major_number().is_empty() && version.major() == "1" => {
                return fault(
                    "without a tag before it, the major version is v0, not v1".to_owned(),
                );
            }
            Ok(None) => return Ok(()),
            Err(error) => return fault(error.to_string()),
        };
        let own = format!("{}{base}", self.tag_prefix);
        if commit.tags.contains(&own) {
            return fault(format!("the tag {own} is on the commit itself"));
        }
        // A tag may have build metadata that the base has not.
        let tags = self.repository.tags(&own).await?;
        let equal =
            |tag: &str| semver::compare(&tag[self.tag_prefix.len()..], base.as_str()).is_eq();
        let tags: Vec<_> = tags.into_iter().filter(|tag| equal(&tag.name)).collect();
        if tags.is_empty() {
            return fault(format!("there is no tag {own}"));
        }
        for tag in &tags {
            if self.repository.descends_from(commit, tag).await? {
                return Ok(());
            }
        }
        fault(format!("the tag {own} is not on an ancestor of the commit"))
    }
}

fn digits(time: OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}
