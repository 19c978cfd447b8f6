//! What was compared with its SHA-256 once is compared with less work the next time.
//!
//! Where there is no disk, each client of a large object reads it from its tier, and every time the whole is compared before the
//! last part goes out. SHA-256 takes most of that work. So when it was right, the bytes' BLAKE3 is kept, by a key that this process made
//! and tells nobody: whoever alters bytes cannot know which others have the same. Bytes that differ from it are judged by their SHA-256.

use std::fmt;

use moka::sync::Cache;

use crate::{Digest, Hasher, Key};

/// Objects that are known at a time; some 200 bytes each.
const MOST: u64 = 10_000;

/// The objects of a tier that were right.
pub(crate) struct Known {
    /// None without randomness: then nothing is known.
    secret: Option<[u8; 32]>,
    tags: Cache<Key, Tag>,
}

#[derive(Clone)]
struct Tag {
    digest: Digest,
    tag: blake3::Hash,
}

/// A comparison of bytes as they come.
pub(crate) struct Comparing {
    digest: Digest,
    /// By the SHA-256, unless there is a tag to compare with.
    whole: Option<Hasher>,
    size: u64,
    tagger: Option<blake3::Hasher>,
    tag: Option<blake3::Hash>,
}

impl Default for Known {
    fn default() -> Self {
        let mut secret = [0; 32];
        Self {
            secret: getrandom::fill(&mut secret).is_ok().then_some(secret),
            tags: Cache::new(MOST),
        }
    }
}

impl Known {
    /// Begins to compare what lies under `key` with what it must be.
    pub(crate) fn compare(&self, key: &Key, digest: Digest) -> Comparing {
        let tag = self.tags.get(key);
        let tag = tag.filter(|known| known.digest.same_bytes(&digest));
        Comparing {
            whole: tag.is_none().then(Hasher::default),
            tagger: self.secret.as_ref().map(blake3::Hasher::new_keyed),
            tag: tag.map(|known| known.tag),
            size: 0,
            digest,
        }
    }

    /// Whether all that came is right. What it must be comes back either way.
    pub(crate) fn judge(&self, key: &Key, compared: Comparing) -> Result<Digest, Digest> {
        let digest = compared.digest;
        let found = compared.tagger.map(|tagger| tagger.finalize());
        let Some(whole) = compared.whole else {
            let right = compared.size == digest.size && found == compared.tag;
            return if right { Ok(digest) } else { Err(digest) };
        };
        if !whole.finish().same_bytes(&digest) {
            return Err(digest);
        }
        if let Some(tag) = found {
            let digest = digest.clone();
            self.tags.insert(key.clone(), Tag { digest, tag });
        }
        Ok(digest)
    }
}

impl Comparing {
    /// Whether it was right before: somebody asks for it again.
    pub(crate) fn again(&self) -> bool {
        self.tag.is_some()
    }

    /// The next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        if let Some(tagger) = &mut self.tagger {
            tagger.update(bytes);
        }
    }
}

/// Without the secret.
impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("objects", &self.tags.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_right_the_first_time_and_after_it() {
        let known = Known::default();
        let key = Key::new("a".to_owned()).unwrap();
        let compare = |bytes: &[u8], digest: &Digest| {
            let mut comparing = known.compare(&key, digest.clone());
            let fast = comparing.whole.is_none();
            // However it comes.
            let (first, rest) = bytes.split_at(bytes.len() / 3);
            comparing.update(first);
            comparing.update(rest);
            (fast, known.judge(&key, comparing).is_ok())
        };
        let digest = Digest::of(b"right");
        assert_eq!(compare(b"wrong", &digest), (false, false));
        assert_eq!(compare(b"right", &digest), (false, true));
        for (bytes, right) in [
            (&b"right"[..], true),
            (b"wrong", false),
            (b"righ", false),
            (b"rightt", false),
            (b"", false),
            (b"right", true),
        ] {
            assert_eq!(compare(bytes, &digest), (true, right), "{bytes:?}");
        }
        // Another object under the same key.
        let other = Digest::of(b"other");
        assert_eq!(compare(b"right", &other), (false, false));
        assert_eq!(compare(b"other", &other), (false, true));
        assert_eq!(
            compare(b"right", &digest),
            (false, true),
            "of the last alone"
        );
    }
}
