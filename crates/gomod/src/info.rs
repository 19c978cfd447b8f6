//! `.info` and `@latest`: a version and its time (protocol.md 1.3).

use std::borrow::Cow;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{ModulePath, Version};

/// The longest `.info` that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Why an answer is no `.info`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// No JSON object.
    #[error("not the JSON that .info has{0}")]
    Json(String),
    /// `Version` is missing or no canonical version of the module.
    #[error("a Version that is missing or not canonical: {0:?}")]
    Version(String),
    /// `Version` is another than was asked for.
    #[error("info for version {got} instead of the requested {asked}")]
    Other {
        /// What was asked for.
        asked: String,
        /// What it is about.
        got: String,
    },
    /// `Time` cannot be read.
    #[error("a Time that is not RFC 3339: {0:?}")]
    Time(String),
}

/// A readable `.info`.
#[derive(Clone, Debug)]
pub struct Info {
    /// The canonical version.
    pub version: Version,
    /// The commit's time, where there is one.
    pub time: Option<OffsetDateTime>,
    object: Map<String, Value>,
}

impl Info {
    /// Its origin as it came.
    pub fn origin(&self) -> Option<&Value> {
        self.object.get("Origin")
    }

    /// The commit of its origin, if it names one.
    pub fn commit(&self) -> Option<&str> {
        let hash = self.origin()?.get("Hash")?.as_str()?;
        (!hash.is_empty()).then_some(hash)
    }

    /// Reads what a client would accept for a module, whatever was asked.
    pub fn parse(body: &[u8], path: &ModulePath) -> Result<Self, InfoError> {
        if body.len() > MAX_BYTES {
            return Err(InfoError::Json(": longer than 1 MiB".to_owned()));
        }
        let object: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| InfoError::Json(hint(body, &error)))?;
        // Go's decoder takes names in any case; so must whoever judges for it.
        let member = |name: &str| {
            object
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let text = member("Version")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let version = Version::parse(text)
            .ok()
            .filter(|version| version.check_major(path).is_ok());
        let version = version.ok_or_else(|| InfoError::Version(shorten(text)))?;
        let time = match member("Time") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                Some(
                    OffsetDateTime::parse(&text, &Rfc3339)
                        .map_err(|_| InfoError::Time(shorten(&text)))?,
                )
            }
        };
        Ok(Self {
            version,
            time,
            object,
        })
    }
}

fn hint(body: &[u8], error: &serde_json::Error) -> String {
    let start = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if start == Some(&b'<') {
        ", but an HTML page: a login or error page in between?".to_owned()
    } else {
        format!(": {error}")
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What of an answer for a canonical version is kept: the very bytes, unless its origin has parts that say
/// more than this version (`TagPrefix`, `TagSum`, `RepoSum`; for a pseudo-version `Ref` too).
pub fn keepable<'a>(
    body: &'a [u8],
    path: &ModulePath,
    version: &Version,
) -> Result<Cow<'a, [u8]>, InfoError> {
    let mut info = Info::parse(body, path)?;
    if info.version != *version {
        return Err(InfoError::Other {
            asked: version.to_string(),
            got: info.version.to_string(),
        });
    }
    let Some(Value::Object(origin)) = info.object.get_mut("Origin") else {
        return Ok(Cow::Borrowed(body));
    };
    let before = origin.len();
    origin.retain(|key, _| {
        !(matches!(key.as_str(), "TagPrefix" | "TagSum" | "RepoSum")
            || (key == "Ref" && version.is_pseudo()))
    });
    if origin.len() == before {
        return Ok(Cow::Borrowed(body));
    }
    Ok(Cow::Owned(
        Value::Object(info.object).to_string().into_bytes(),
    ))
}

/// Writes the least an `.info` must have.
pub fn format(version: &Version, time: Option<OffsetDateTime>) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("Version".to_owned(), version.as_str().into());
    if let Some(time) = time.and_then(|time| time.format(&Rfc3339).ok()) {
        object.insert("Time".to_owned(), time.into());
    }
    Value::Object(object).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_client_reads_it() {
        let path = ModulePath::parse("a.com/m").unwrap();
        let version = Version::parse("v1.2.3").unwrap();
        let keep = |body: &str| {
            keepable(body.as_bytes(), &path, &version)
                .map(|kept| String::from_utf8(kept.into_owned()).unwrap())
        };
        for good in [
            r#"{"Version":"v1.2.3"}"#,
            r#"{"Version":"v1.2.3","Time":"2024-05-01T12:00:00Z","Name":"x","Short":"y"}"#,
            r#"{"Version":"v1.2.3","Time":"2024-05-01T12:00:00+02:00","Origin":{"VCS":"git","Ref":"refs/tags/v1.2.3"}}"#,
            "{\"version\":\"v1.2.3\"}\n",
            r#"{"Version":"v1.2.3","Time":null}"#,
        ] {
            assert_eq!(keep(good).unwrap(), good);
        }
        let pruned = keep(r#"{"Version":"v1.2.3","Origin":{"VCS":"git","TagSum":"t1:x","TagPrefix":"a/","RepoSum":"r1:y"}}"#).unwrap();
        assert_eq!(pruned, r#"{"Origin":{"VCS":"git"},"Version":"v1.2.3"}"#);
        for bad in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"Version":"v1.2.4"}"#,
            r#"{"Version":"v1"}"#,
            r#"{"Version":"v1.2.3","Time":"yesterday"}"#,
            r#"{"Version":"v1.2.3"} x"#,
        ] {
            assert!(keep(bad).is_err(), "{bad}");
        }
        assert!(keep("<html>").unwrap_err().to_string().contains("HTML"));
    }
}
