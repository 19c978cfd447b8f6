//! What a proxy reads of a `go.mod`: retractions. Lenient, as the client is with the files of dependencies.

use crate::{Version, semver};

/// The largest `go.mod`, in bytes (protocol.md section 6).
pub const MAX_BYTES: usize = 16 << 20;

/// An interval of retracted versions, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// Lowest.
    pub low: Version,
    /// Highest.
    pub high: Version,
}

impl Retraction {
    /// Whether `version` is retracted by this.
    pub fn covers(&self, version: &Version) -> bool {
        semver::compare(self.low.as_str(), version.as_str()).is_le()
            && semver::compare(version.as_str(), self.high.as_str()).is_le()
    }
}

/// The `retract` lines of a `go.mod`: single versions and intervals, alone or in a block. What cannot be read is passed over.
pub fn retractions(file: &[u8]) -> Vec<Retraction> {
    let Ok(text) = std::str::from_utf8(&file[..file.len().min(MAX_BYTES)]) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut block: Option<bool> = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        match block {
            Some(_) if line == ")" => block = None,
            Some(true) => found.extend(retraction(line)),
            Some(false) => {}
            None => {
                let (word, rest) = line
                    .split_once(|c: char| c.is_whitespace() || c == '(' || c == '[')
                    .map_or((line, ""), |(word, _)| (word, line[word.len()..].trim()));
                if rest == "(" {
                    block = Some(word == "retract");
                } else if word == "retract" {
                    found.extend(retraction(rest));
                }
            }
        }
    }
    found
}

fn retraction(text: &str) -> Option<Retraction> {
    let version = |text: &str| Version::parse(text.trim().trim_matches(['"', '`'])).ok();
    if let Some(interval) = text.strip_prefix('[') {
        let (low, high) = interval.strip_suffix(']')?.split_once(',')?;
        return Some(Retraction {
            low: version(low)?,
            high: version(high)?,
        });
    }
    version(text).map(|only| Retraction {
        low: only.clone(),
        high: only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_blocks_and_intervals() {
        let file = b"module a.com/m // x\n\ngo 1.20\n\nretract v1.0.0 // bad\nretract [v1.2.0, v1.3.0]\nretract (\n\tv1.5.0\n\t\"v1.6.0\" // why\n\t[v1.7.0,v1.7.9]\n\tnonsense\n)\n\
            require (\n\tb.com/x v1.9.0\n)\nretract(\nv1.8.0\n)\n";
        let found = retractions(file);
        assert_eq!(found.len(), 6);
        let retracted = |version: &str| {
            found
                .iter()
                .any(|r| r.covers(&Version::parse(version).unwrap()))
        };
        for yes in [
            "v1.0.0", "v1.2.0", "v1.2.5", "v1.3.0", "v1.5.0", "v1.6.0", "v1.7.3", "v1.8.0",
        ] {
            assert!(retracted(yes), "{yes}");
        }
        for no in ["v1.0.1", "v1.1.0", "v1.3.1", "v1.9.0"] {
            assert!(!retracted(no), "{no}");
        }
        assert!(retractions(b"\xff\xfe").is_empty());
    }
}
