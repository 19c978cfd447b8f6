//! What it means that a commit has not a file: nothing is taken for absent that the commit names and the mirror has lost.
//!
//! git says the same of a name that leads nowhere and of an object that is gone. So where it says that, the trees on the way are
//! read: only one that has no such name proves that there is no such file.

use bytes::Bytes;

use super::objects::Objects;
use crate::repository::Trouble;

/// Largest tree that is read, in bytes: more than a million files in one folder.
const MAX_TREE: u64 = 64 << 20;

/// What a tree says of a name.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    is_tree: bool,
    /// A commit of another repository, which is never here.
    is_submodule: bool,
    hash: String,
}

impl Objects {
    /// The content of a file in a commit that is there, up to `max` bytes; `None` if the commit has no such file.
    pub(super) async fn file(
        &mut self,
        commit: &str,
        path: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        let name = format!("{commit}:{path}");
        let content = self.contents(&name, "blob", max).await?;
        if content.is_none() {
            self.prove_absent(commit, path).await?;
        }
        Ok(content)
    }

    /// An error if something on the way to a file is lost.
    async fn prove_absent(&mut self, commit: &str, path: &str) -> Result<(), Trouble> {
        let mut tree = format!("{commit}^{{tree}}");
        for element in path.split('/') {
            let listing = self.contents(&tree, "tree", MAX_TREE).await?;
            let listing = listing.ok_or_else(|| lost(&tree))?;
            match find(&listing, element.as_bytes(), commit.len() / 2) {
                Some(named) if named.is_tree => tree = named.hash,
                // Where the object is there, git's own search does not come so far: a tree out of order.
                Some(named) if !named.is_submodule && self.info(&named.hash).await?.is_none() => {
                    return Err(lost(&named.hash));
                }
                _ => return Ok(()),
            }
        }
        // A folder of this name.
        match self.info(&tree).await? {
            Some(_) => Ok(()),
            None => Err(lost(&tree)),
        }
    }
}

fn lost(object: &str) -> Trouble {
    Trouble::Mirror(format!("{object} is missing"))
}

/// Looks for a name in a tree, whose entries are `MODE NAME\0HASH`, with the bytes of a hash.
fn find(mut tree: &[u8], name: &[u8], hash_bytes: usize) -> Option<Named> {
    loop {
        let end = tree.iter().position(|byte| *byte == 0)?;
        let space = tree.iter().position(|byte| *byte == b' ')?;
        let hash = tree.get(end + 1..end + 1 + hash_bytes)?;
        if tree.get(space + 1..end)? == name {
            let mode = tree[..space].trim_ascii_start();
            let mode = mode.strip_prefix(b"0").unwrap_or(mode);
            return Some(Named {
                is_tree: mode == b"40000",
                is_submodule: mode == b"160000",
                hash: hex::encode(hash),
            });
        }
        tree = &tree[end + 1 + hash_bytes..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_trees() {
        let mut tree = Vec::new();
        for (entry, byte) in [
            ("100644 a b", 1),
            ("120000 link", 2),
            ("40000 folder", 3),
            ("040000 old", 4),
            ("160000 sub", 5),
        ] {
            tree.extend_from_slice(entry.as_bytes());
            tree.push(0);
            tree.extend_from_slice(&[byte; 20]);
        }
        let found = |name: &str| find(&tree, name.as_bytes(), 20);
        let kind = |name| found(name).map(|named| (named.is_tree, named.is_submodule));
        assert_eq!(kind("a b"), Some((false, false)));
        assert_eq!(kind("link"), Some((false, false)));
        assert_eq!(kind("folder"), Some((true, false)));
        assert_eq!(kind("old"), Some((true, false)));
        assert_eq!(kind("sub"), Some((false, true)));
        assert_eq!(found("sub").unwrap().hash, "05".repeat(20));
        for none in ["a", "b", "", "link2"] {
            assert_eq!(found(none), None, "{none}");
        }
        assert_eq!(find(b"100644 a", b"a", 20), None);
        assert_eq!(find(b"100644 a\x00123", b"a", 20), None);
    }
}
