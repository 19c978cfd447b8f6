//! Which files of a source tree make up a module's zip: `module/zip.CheckFiles`, and so what `zip.Create` writes.

use std::collections::HashSet;

use super::{
    Limits, ZipError,
    names::{Seen, check_path, note},
};
use crate::gomod_file::GoMod;

/// What a file of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, executable or not.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A folder; they need not be listed, and are not kept.
    Folder,
    /// Anything else, like a submodule.
    Other,
}

/// A file of the tree, as a version control system lists it.
#[derive(Clone, Copy, Debug)]
pub struct SourceFile<'a> {
    /// Its path from the module's root, with slashes; any bytes.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a file is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omitted {
    /// A package in a folder `vendor`.
    Vendored,
    /// In a folder with its own `go.mod`.
    OtherModule,
    /// `.hg_archival.txt`, which `hg archive` adds.
    HgArchival,
    /// No regular file.
    Irregular,
}

/// What becomes of the files, by their places in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that the zip has, in the order given.
    pub included: Vec<usize>,
    /// Those that it has not.
    pub omitted: Vec<(usize, Omitted)>,
    /// The sum of the sizes of those included, in bytes.
    pub uncompressed_bytes: u64,
}

/// Chooses among all files below the module's root. `go_mod` is the content of the file `go.mod` there, if it is
/// one: its `go` line decides how folders named `vendor` are read. One file that no module may have fails them all.
///
/// A module in a folder of a repository, without a `LICENSE`, has the one of the repository's root: add it before.
pub fn select(
    files: &[SourceFile<'_>],
    go_mod: Option<&[u8]>,
    limits: &Limits,
) -> Result<Selection, ZipError> {
    let modules = module_folders(files);
    let vendor = VendorRule::of(go_mod.filter(|_| modules.contains(&b""[..])));
    let mut selection = Selection::default();
    let mut omitted_names: HashSet<&[u8]> = HashSet::new();
    let mut seen = Seen::new(files.len());
    for (index, file) in files.iter().enumerate() {
        let verdict = verdict(file, &modules, vendor, &mut seen);
        let omitted = match verdict {
            Ok(None) => None,
            Ok(Some(omitted)) => Some(omitted),
            // A name is judged once: what was left out does not fail when it comes again.
            Err(_) if omitted_names.contains(file.name) => continue,
            Err(why) => {
                return Err(ZipError::Entry {
                    name: String::from_utf8_lossy(file.name)
                        .chars()
                        .take(100)
                        .collect(),
                    why,
                });
            }
        };
        if let Some(omitted) = omitted {
            omitted_names.insert(file.name);
            selection.omitted.push((index, omitted));
            continue;
        }
        let sum = selection.uncompressed_bytes.saturating_add(file.size);
        if sum > limits.max_uncompressed_bytes {
            return Err(ZipError::TooLarge("the sum of its files"));
        }
        if file.name == b"go.mod" && file.size > limits.max_go_mod_bytes {
            return Err(ZipError::TooLarge("go.mod"));
        }
        if file.name == b"LICENSE" && file.size > limits.max_license_bytes {
            return Err(ZipError::TooLarge("LICENSE"));
        }
        selection.uncompressed_bytes = sum;
        selection.included.push(index);
    }
    Ok(selection)
}

/// The rules for one file, in the order that decides which of them speaks first.
fn verdict<'a>(
    file: &SourceFile<'a>,
    modules: &HashSet<&[u8]>,
    vendor: VendorRule,
    seen: &mut Seen<'a>,
) -> Result<Option<Omitted>, &'static str> {
    if !is_clean(file.name) {
        return Err("a path that is not clean");
    }
    if file.name.starts_with(b"/") {
        return Err("a path that is not relative");
    }
    if vendor.covers(file.name) {
        return Ok(Some(Omitted::Vendored));
    }
    if folders(file.name).any(|folder| modules.contains(folder)) {
        return Ok(Some(Omitted::OtherModule));
    }
    if file.name == b".hg_archival.txt" {
        return Ok(Some(Omitted::HgArchival));
    }
    let name = std::str::from_utf8(file.name).map_err(|_| "a file name that is not UTF-8")?;
    check_path(name)?;
    if name.eq_ignore_ascii_case("go.mod") && name != "go.mod" {
        return Err("go.mod in the wrong case");
    }
    note(seen, name, file.kind == Kind::Folder)?;
    Ok((file.kind != Kind::Regular).then_some(Omitted::Irregular))
}

/// The folders that have a `go.mod`, in any case, each with its final slash; the root is the empty name.
fn module_folders<'a>(files: &[SourceFile<'a>]) -> HashSet<&'a [u8]> {
    files
        .iter()
        .filter(|file| file.kind == Kind::Regular)
        .filter_map(|file| {
            let base = file.name.rsplit(|byte| *byte == b'/').next()?;
            let folder = &file.name[..file.name.len() - base.len()];
            // In the root only the right case says something.
            let named = if folder.is_empty() {
                base == b"go.mod"
            } else {
                base.eq_ignore_ascii_case(b"go.mod")
            };
            named.then_some(folder)
        })
        .collect()
}

/// The folders that a file is in, each with its final slash; without the root.
fn folders(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..name.len())
        .filter(|at| name[*at] == b'/')
        .map(|at| &name[..=at])
}

/// Whether a path is the shortest of its kind (`path.Clean`).
fn is_clean(name: &[u8]) -> bool {
    if matches!(name, b"." | b"/") {
        return true;
    }
    let rooted = name.first() == Some(&b'/');
    let mut leading = !rooted;
    name[usize::from(rooted)..]
        .split(|byte| *byte == b'/')
        .all(|element| match element {
            b"" | b"." => false,
            b".." => leading,
            _ => {
                leading = false;
                true
            }
        })
}

/// How folders named `vendor` are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VendorRule {
    /// Below `go 1.24`, with a mistake that old hashes depend on.
    Old,
    /// From `go 1.24` on.
    New,
}

impl VendorRule {
    fn of(go_mod: Option<&[u8]>) -> Self {
        let file = go_mod.and_then(|file| GoMod::parse_lax(file).ok());
        if file.is_some_and(|file| file.language_at_least(1, 24)) {
            Self::New
        } else {
            Self::Old
        }
    }

    fn covers(self, name: &[u8]) -> bool {
        const NESTED: &[u8] = b"/vendor/";
        if self == Self::New && name == b"vendor/modules.txt" {
            return true;
        }
        let rest = match name.strip_prefix(&NESTED[1..]) {
            Some(rest) => rest,
            None => match name.windows(NESTED.len()).position(|part| part == NESTED) {
                Some(at) if self == Self::New => &name[at + NESTED.len()..],
                // The mistake: cut at the length of `/vendor/`, wherever that stands.
                Some(_) => &name[NESTED.len()..],
                None => return false,
            },
        };
        rest.contains(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str], go_mod: &str) -> Result<Vec<String>, ZipError> {
        let files: Vec<SourceFile<'_>> = files
            .iter()
            .map(|name| SourceFile {
                name: name.trim_end_matches('@').as_bytes(),
                kind: if name.ends_with('@') {
                    Kind::Symlink
                } else {
                    Kind::Regular
                },
                size: 1,
            })
            .collect();
        let selection = select(&files, Some(go_mod.as_bytes()), &Limits::default())?;
        assert_eq!(
            selection.included.len() + selection.omitted.len(),
            files.len()
        );
        let name = |index: &usize| String::from_utf8_lossy(files[*index].name).into_owned();
        Ok(selection.included.iter().map(name).collect())
    }

    #[test]
    fn chosen() {
        let files = [
            "go.mod",
            "a.go",
            "link@",
            "sub/go.mod",
            "sub/x.go",
            "sub/deep/y.go",
            "Case/GO.MOD",
            "Case/z.go",
            "vendor/modules.txt",
            "vendor/a.com/x/x.go",
            "pkg/vendor/v.go",
            ".hg_archival.txt",
        ];
        let old = names(&files, "module m\ngo 1.23\n").unwrap();
        assert_eq!(old, ["go.mod", "a.go", "vendor/modules.txt"]);
        let new = names(&files, "module m\ngo 1.24\n").unwrap();
        assert_eq!(new, ["go.mod", "a.go", "pkg/vendor/v.go"]);
        for bad in [
            &["a.go", "A.go"][..],
            &["aux.go"],
            &["a", "a/b"],
            &["GO.MOD"],
            &["/a"],
            &["a//b"],
            &["a:b"],
        ] {
            assert!(names(bad, "").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        let file = |name: &'static str, size| SourceFile {
            name: name.as_bytes(),
            kind: Kind::Regular,
            size,
        };
        let limits = Limits::default();
        let fits = |files: &[SourceFile<'_>]| select(files, None, &limits).is_ok();
        assert!(fits(&[file("a", 500 << 20)]));
        assert!(!fits(&[file("a", 500 << 20), file("b", 1)]));
        assert!(!fits(&[file("a", u64::MAX), file("b", 1)]));
        for name in ["go.mod", "LICENSE"] {
            assert!(fits(&[file(name, 16 << 20)]));
            assert!(!fits(&[file(name, (16 << 20) + 1)]));
        }
    }
}
