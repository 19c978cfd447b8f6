//! What a query resolves to.

use bytes::Bytes;
use gomod::Version;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A version of a module, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The canonical version.
    pub version: Version,
    /// The commit's time, in UTC and whole seconds.
    pub time: Option<OffsetDateTime>,
    /// Where it comes from.
    pub origin: Option<Origin>,
}

/// Where a version comes from, with the names the go command gives (protocol.md 1.3). What is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Origin {
    /// The version control system.
    #[serde(rename = "VCS", skip_serializing_if = "String::is_empty")]
    pub vcs: String,
    /// The repository's URL, without userinfo.
    #[serde(rename = "URL", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The module's folder in the repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subdir: String,
    /// The commit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// Which tags the answer depends on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_prefix: String,
    /// A sum over these tags.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_sum: String,
    /// The full name of the branch or tag the answer depends on.
    #[serde(rename = "Ref", skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// A sum over all branches and tags, where the answer depends on them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo_sum: String,
}

impl Revision {
    /// The bytes of `.info`, as the go command writes them.
    pub fn info_json(&self) -> Bytes {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info<'a> {
            version: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            time: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            origin: Option<&'a Origin>,
        }
        let info = Info {
            version: self.version.as_str(),
            time: self.time.and_then(|time| time.format(&Rfc3339).ok()),
            origin: self.origin.as_ref(),
        };
        // Strings alone: this cannot fail.
        serde_json::to_vec(&info).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_it() {
        let revision = Revision {
            version: Version::parse("v1.2.3").unwrap(),
            time: OffsetDateTime::from_unix_timestamp(1_714_564_800).ok(),
            origin: Some(Origin {
                vcs: "git".to_owned(),
                url: "https://a.com/m".to_owned(),
                hash: "ab".to_owned(),
                reference: "refs/tags/v1.2.3".to_owned(),
                ..Origin::default()
            }),
        };
        let want = r#"{"Version":"v1.2.3","Time":"2024-05-01T12:00:00Z","Origin":{"VCS":"git","URL":"https://a.com/m","Hash":"ab","Ref":"refs/tags/v1.2.3"}}"#;
        assert_eq!(revision.info_json(), want);
    }
}
