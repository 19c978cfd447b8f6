//! `.info` and `@latest`: a version and its time (protocol.md 1.3).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
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
    /// `Version` is missing, not canonical, or of a major that the module cannot have.
    #[error("a Version that is missing, not canonical, or of another major than the module: {0:?}")]
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
    /// Its origin, under the names that Go writes.
    pub fn origin(&self) -> Option<&Value> {
        self.object.get(ORIGIN)
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
        let Members(object) =
            serde_json::from_slice(body).map_err(|error| InfoError::Json(hint(body, &error)))?;
        let text = object
            .get(VERSION)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let version = Version::parse(text)
            .ok()
            .filter(|version| version.check_major(path).is_ok());
        let version = version.ok_or_else(|| InfoError::Version(shorten(text)))?;
        let time = match object.get(TIME).and_then(Value::as_str) {
            None => None,
            Some(text) => Some(strict_time(text).ok_or_else(|| InfoError::Time(shorten(text)))?),
        };
        Ok(Self {
            version,
            time,
            object,
        })
    }
}

const VERSION: &str = "Version";
const TIME: &str = "Time";
const ORIGIN: &str = "Origin";
/// The members of an origin, all of them texts.
const OF_ORIGIN: [&str; 8] = [
    "VCS",
    "URL",
    "Subdir",
    "Hash",
    "TagPrefix",
    "TagSum",
    "Ref",
    "RepoSum",
];

/// The members of an `.info` as Go's decoder takes them: names in any case, the last of the same name counts, `null` says
/// nothing, and another type is an error. Under the names that Go writes.
struct Members(Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match known(&key, &[VERSION, TIME, ORIGIN]) {
                // Go reads the very bytes of a time: an escape in it is none to it.
                Some(TIME) => {
                    let text = map.next_value::<Option<&str>>();
                    let text = text.map_err(|_| A::Error::custom("`Time` is no plain text"))?;
                    if let Some(text) = text {
                        object.insert(TIME.to_owned(), text.into());
                    }
                }
                Some(ORIGIN) => match map.next_value::<Option<Map<String, Value>>>()? {
                    None => drop(object.remove(ORIGIN)),
                    Some(said) => {
                        let mut origin = match object.remove(ORIGIN) {
                            Some(Value::Object(before)) => before,
                            _ => Map::new(),
                        };
                        add_origin(&mut origin, said).map_err(A::Error::custom)?;
                        object.insert(ORIGIN.to_owned(), origin.into());
                    }
                },
                Some(name) => {
                    if let Some(text) = map.next_value::<Option<String>>()? {
                        object.insert(name.to_owned(), text.into());
                    }
                }
                None => drop(object.insert(key, map.next_value()?)),
            }
        }
        Ok(Members(object))
    }
}

fn add_origin(origin: &mut Map<String, Value>, said: Map<String, Value>) -> Result<(), String> {
    for (key, value) in said {
        match (known(&key, &OF_ORIGIN), value) {
            (None, value) => drop(origin.insert(key, value)),
            (Some(_), Value::Null) => {}
            (Some(name), Value::String(text)) => {
                origin.insert(name.to_owned(), text.into());
            }
            (Some(name), _) => return Err(format!("`{name}` of the origin is no text")),
        }
    }
    Ok(())
}

/// Which of `names` Go's decoder takes a key for. It folds case as Unicode does: a long s is an s.
fn known(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let folded = key.replace('\u{17f}', "s");
    let mut names = names.iter();
    names
        .find(|name| name.eq_ignore_ascii_case(&folded))
        .copied()
}

/// A time as Go reads it: with a capital `T` and `Z`, and no leap second.
fn strict_time(text: &str) -> Option<OffsetDateTime> {
    let bytes = text.as_bytes();
    if bytes.get(10) != Some(&b'T') || bytes.ends_with(b"z") || bytes.get(17..19) == Some(b"60") {
        return None;
    }
    OffsetDateTime::parse(text, &Rfc3339).ok()
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
    let Some(Value::Object(origin)) = info.object.get_mut(ORIGIN) else {
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
            r#"{"Version":"v1.0.9","version":"v1.2.3"}"#,
            r#"{"Version":"v1.2.3","VERSION":null,"Origin":{"VCS":"git"},"Origin":null}"#,
            r#"{"Version":"v1.2.3","Name":5,"Origin":{"Other":5,"VCS":null}}"#,
            r#"{"Version":"v1.2.3","Time":"0001-01-01T00:00:00.123456789123Z"}"#,
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
            // What Go's decoder refuses, or reads as another version.
            r#"{"Version":"v1.2.3","version":"v1.0.9"}"#,
            "{\"Version\":\"v1.2.3\",\"ver\u{17f}ion\":\"v1.0.9\"}",
            r#"{"Version":5,"version":"v1.2.3"}"#,
            r#"{"Version":"v1.2.3","Origin":"x"}"#,
            r#"{"Version":"v1.2.3","origin":{"VCS":5}}"#,
            r#"{"Version":"v1.2.3","Origin":{"hash":["x"]}}"#,
            r#"{"Version":"v1.2.3","Time":""}"#,
            r#"{"Version":"v1.2.3","Time":5}"#,
            r#"{"Version":"v1.2.3","Time":"2024-01-01t00:00:00Z"}"#,
            r#"{"Version":"v1.2.3","Time":"2024-01-01T00:00:00z"}"#,
            r#"{"Version":"v1.2.3","Time":"2024-01-01 00:00:00Z"}"#,
            r#"{"Version":"v1.2.3","Time":"2016-12-31T23:59:60Z"}"#,
            r#"{"Version":"v1.2.3","Time":"2024-01-01T00:00:00\u005a"}"#,
        ] {
            assert!(keep(bad).is_err(), "{bad}");
        }
        assert!(keep("<html>").unwrap_err().to_string().contains("HTML"));
        let time = keep(r#"{"Version":"v1.2.3","Time":5}"#).unwrap_err();
        assert!(time.to_string().contains("`Time` is no plain text"));
    }
}
