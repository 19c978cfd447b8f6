//! Names of what is kept.

use std::{borrow::Borrow, fmt};

/// A relative path below the data folder, validated so that it can never leave it.
///
/// Slash-separated elements, none empty, `.` or `..`, none starting with a dot, without NUL, control
/// characters or backslashes; at most [`Key::MAX_BYTES`] bytes. Equal to the path on disk.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key(Box<str>);

/// Why a text is no [`Key`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a storage key: {0}")]
pub struct KeyError(&'static str);

impl Key {
    /// The longest key, in bytes: safely below Linux's `PATH_MAX` of 4096.
    pub const MAX_BYTES: usize = 3072;

    /// Checks and takes `text`.
    pub fn new(text: String) -> Result<Self, KeyError> {
        if text.len() > Self::MAX_BYTES {
            return Err(KeyError("longer than 3072 bytes"));
        }
        let mut at_start = true;
        for byte in text.bytes() {
            match byte {
                b'/' if at_start => return Err(KeyError("an empty element")),
                b'.' if at_start => return Err(KeyError("an element that starts with a dot")),
                0..=0x1f | 0x7f | b'\\' => {
                    return Err(KeyError("a control character or backslash"));
                }
                _ => {}
            }
            at_start = byte == b'/';
        }
        if at_start {
            return Err(KeyError("an empty element"));
        }
        Ok(Self(text.into_boxed_str()))
    }

    /// The key as the relative path it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_the_folder() {
        for good in ["go/a", "go/example.com/!a/@v/v1.0.0.zip", "a"] {
            assert_eq!(Key::new(good.into()).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "a/./b",
            ".a",
            "a/.b",
            "a\0b",
            "a\\b",
            "a\nb",
            &"a".repeat(4000),
        ] {
            assert!(Key::new(bad.into()).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_key_never_leaves_its_folder(text in ".{0,64}") {
            if let Ok(key) = Key::new(text) {
                let path = std::path::Path::new(key.as_str());
                assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }
}
