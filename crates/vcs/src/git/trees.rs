//! Trees as git stores them: `MODE NAME\0HASH`, one entry after the other.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use gomod::zip::Kind;

use super::names;
use crate::DirectError;
use crate::repository::Trouble;

/// Most files of a commit, and the bytes of their names: more than any zip may have.
const MAX_FILES: usize = 1_000_000;
const MAX_BYTES: usize = 128 << 20;
/// Longest path, in bytes.
const MAX_PATH: usize = 64 << 10;

/// The trees of a commit by their hashes. One that is in many places is there once.
#[derive(Debug, Default)]
pub(super) struct Trees {
    trees: HashMap<String, Vec<u8>>,
    bytes: usize,
}

/// A file or a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its path from the folder.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) hash: String,
}

/// An entry of a tree.
struct Item<'a> {
    kind: ItemKind,
    name: &'a [u8],
    hash: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ItemKind {
    Tree,
    /// A commit of another repository.
    Submodule,
    Leaf(Kind),
}

impl Trees {
    /// How many bytes of trees may still come.
    pub(super) fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// Takes trees whose hashes have so many digits; the hashes of those below that are not here yet.
    pub(super) fn add(
        &mut self,
        read: Vec<(String, Vec<u8>)>,
        digits: usize,
    ) -> Result<Vec<String>, DirectError> {
        let mut below = HashSet::new();
        for (_, tree) in &read {
            for item in items(tree, digits / 2) {
                let item = item?;
                if item.kind == ItemKind::Tree {
                    below.insert(hex(item.hash));
                }
            }
        }
        for (hash, tree) in read {
            self.bytes += tree.len();
            self.trees.insert(hash, tree);
        }
        below.retain(|hash| !self.trees.contains_key(hash));
        Ok(below.into_iter().collect())
    }

    /// All files and links in a folder below the tree `root`, in the order of the trees. All names are looked at, those
    /// outside of the folder too.
    pub(super) fn leaves(
        &self,
        root: &str,
        digits: usize,
        folder: &str,
    ) -> Result<Vec<Leaf>, Trouble> {
        let inside = if folder.is_empty() {
            Vec::new()
        } else {
            format!("{folder}/").into_bytes()
        };
        let mut leaves = Vec::new();
        let (mut files, mut bytes) = (0, 0);
        // No recursion: how deep it goes is the repository's choice.
        let mut path = Vec::new();
        let mut open = vec![(items(self.tree(root)?, digits / 2), 0)];
        while let Some((items, start)) = open.last_mut() {
            path.truncate(*start);
            let Some(item) = items.next() else {
                open.pop();
                continue;
            };
            let item = item?;
            path.extend_from_slice(item.name);
            if path.len() > MAX_PATH {
                return Err(DirectError::too_large(format!(
                    "a path of more than {MAX_PATH} bytes"
                ))
                .into());
            }
            match item.kind {
                ItemKind::Tree => {
                    path.push(b'/');
                    let below = self.tree(&hex(item.hash))?;
                    open.push((self::items(below, digits / 2), path.len()));
                    continue;
                }
                ItemKind::Submodule => allowed(&path, false)?,
                ItemKind::Leaf(kind) => {
                    allowed(&path, kind == Kind::Symlink)?;
                    if let Some(name) = path.strip_prefix(&*inside) {
                        leaves.push(Leaf {
                            name: name.to_owned(),
                            kind,
                            hash: hex(item.hash),
                        });
                    }
                }
            }
            files += 1;
            bytes += path.len() + digits;
            if files > MAX_FILES || bytes > MAX_BYTES {
                let text =
                    format!("more than {MAX_FILES} files, or names of more than {MAX_BYTES} bytes");
                return Err(DirectError::too_large(text).into());
            }
        }
        if leaves.is_empty() && !folder.is_empty() {
            let text = format!("the repository has no files in the folder {folder}");
            return Err(DirectError::not_found(text).into());
        }
        Ok(leaves)
    }

    fn tree(&self, hash: &str) -> Result<&[u8], Trouble> {
        let tree = self.trees.get(hash);
        let tree = tree.ok_or_else(|| Trouble::Mirror(format!("the tree {hash} is missing")))?;
        Ok(tree)
    }
}

/// The entries of a tree, whose hashes have so many bytes.
fn items(mut tree: &[u8], hash: usize) -> impl Iterator<Item = Result<Item<'_>, DirectError>> {
    std::iter::from_fn(move || {
        if tree.is_empty() {
            return None;
        }
        let item = item(&mut tree, hash);
        if item.is_none() {
            tree = &[];
        }
        Some(
            item.ok_or_else(|| {
                DirectError::invalid("a folder in the repository is no tree of git's")
            }),
        )
    })
}

fn item<'a>(tree: &mut &'a [u8], hash: usize) -> Option<Item<'a>> {
    let space = tree.iter().position(|byte| *byte == b' ')?;
    let (mode, rest) = tree.split_at(space);
    let rest = &rest[1..];
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (name, rest) = rest.split_at(end);
    let (hash, rest) = rest[1..].split_at_checked(hash)?;
    *tree = rest;
    let mode = std::str::from_utf8(mode).ok()?;
    let mode = u32::from_str_radix(mode, 8).ok()?;
    let kind = match mode & 0o170_000 {
        0o040_000 => ItemKind::Tree,
        0o160_000 => ItemKind::Submodule,
        0o120_000 => ItemKind::Leaf(Kind::Symlink),
        _ => ItemKind::Leaf(Kind::Regular),
    };
    (!name.is_empty()).then_some(Item { kind, name, hash })
}

/// Refuses names that git makes no archive of.
fn allowed(name: &[u8], link: bool) -> Result<(), DirectError> {
    if names::is_allowed(name, link) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let text = format!("{name:?} in the repository is a name that git does not take");
    Err(DirectError::invalid(text).hint("the go command makes no zip of it either"))
}

fn hex(hash: &[u8]) -> String {
    hash.iter()
        .fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: usize = 40;

    fn entry(mode: &str, name: &str, hash: u8) -> Vec<u8> {
        let mut entry = format!("{mode} {name}\0").into_bytes();
        entry.extend([hash; DIGITS / 2]);
        entry
    }

    fn named(hash: u8) -> String {
        hex(&[hash; DIGITS / 2])
    }

    fn names(leaves: &[Leaf]) -> Vec<String> {
        let name = |leaf: &Leaf| String::from_utf8_lossy(&leaf.name).into_owned();
        leaves.iter().map(name).collect()
    }

    #[test]
    fn files_in_the_order_of_the_trees() {
        let mut trees = Trees::default();
        let root = [
            entry("100644", "a", 1),
            entry("40000", "d", 10),
            entry("160000", "other", 3),
            entry("120000", "link", 4),
            entry("040000", "twice", 10),
        ];
        let below = trees.add(vec![(named(9), root.concat())], DIGITS).unwrap();
        assert_eq!(below, [named(10)]);
        let tree = [entry("100755", "x", 5), entry("100664", "y", 6)].concat();
        assert!(
            trees
                .add(vec![(named(10), tree)], DIGITS)
                .unwrap()
                .is_empty()
        );
        let leaves = trees.leaves(&named(9), DIGITS, "").unwrap();
        assert_eq!(
            names(&leaves),
            ["a", "d/x", "d/y", "link", "twice/x", "twice/y"]
        );
        assert_eq!(leaves[3].kind, Kind::Symlink);
        assert_eq!(leaves[1].hash, named(5));
        let leaves = trees.leaves(&named(9), DIGITS, "d").unwrap();
        assert_eq!(names(&leaves), ["x", "y"]);
        let error = DirectError::from(trees.leaves(&named(9), DIGITS, "a").unwrap_err());
        assert_eq!(
            error.kind,
            crate::ErrorKind::NotFound,
            "a file is no folder"
        );
    }

    #[test]
    fn names_outside_of_the_folder_count() {
        let mut trees = Trees::default();
        let root = [entry("40000", ".git", 10), entry("40000", "d", 10)].concat();
        trees.add(vec![(named(9), root)], DIGITS).unwrap();
        trees
            .add(vec![(named(10), entry("100644", "x", 1))], DIGITS)
            .unwrap();
        let error = DirectError::from(trees.leaves(&named(9), DIGITS, "d").unwrap_err());
        assert!(error.text.contains(".git/x"), "{error}");
    }

    #[test]
    fn no_trees() {
        let half = &entry("100644", "a", 1)[..20];
        for bad in [
            &b"100644 a"[..],
            b"100644",
            b"\0",
            b"1006x4 a\0",
            half,
            &entry("100644", "", 1),
            &entry("", "a", 1),
        ] {
            let error = Trees::default().add(vec![(named(9), bad.to_vec())], DIGITS);
            assert_eq!(
                error.unwrap_err().kind,
                crate::ErrorKind::Invalid,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_tree_that_unfolds_is_too_large() {
        // Each has ten times the next: ten thousand million files in all.
        let mut trees = Trees::default();
        for level in 0..10 {
            let mode = if level == 9 { "100644" } else { "40000" };
            let tree: Vec<u8> = (0..10)
                .flat_map(|at| entry(mode, &format!("n{at}"), level + 1))
                .collect();
            trees.add(vec![(named(level), tree)], DIGITS).unwrap();
        }
        let error = DirectError::from(trees.leaves(&named(0), DIGITS, "").unwrap_err());
        assert_eq!(error.kind, crate::ErrorKind::TooLarge);
    }
}
