//! Names and sizes of entries: `module/zip.CheckZip`.

use std::collections::{HashMap, hash_map::Entry as Slot};

use super::{Limits, ZipError, directory::Entry};
use crate::{
    path::is_windows_device,
    unicode::{fold, is_letter},
};

/// Checks all names and declared sizes; gives the sum of the sizes.
pub(super) fn check(entries: &[Entry], prefix: &str, limits: &Limits) -> Result<u64, ZipError> {
    let mut sum = 0u64;
    let mut seen = Seen::new(entries.len());
    for entry in entries {
        let fault = |why| ZipError::Entry {
            name: entry.name.chars().take(100).collect(),
            why,
        };
        let name = entry
            .name
            .strip_prefix(prefix)
            .ok_or_else(|| fault("does not start with module@version/"))?;
        if name.is_empty() {
            continue;
        }
        let folder = name.strip_suffix('/');
        let name = folder.unwrap_or(name);
        check_path(name).map_err(fault)?;
        note(&mut seen, name, folder.is_some()).map_err(fault)?;
        if folder.is_some() {
            continue;
        }
        let base = name.rsplit('/').next().unwrap_or_default();
        if base.eq_ignore_ascii_case("go.mod") && name != "go.mod" {
            return Err(fault(if base == name {
                "go.mod in the wrong case"
            } else {
                "a go.mod that is not in the module's root"
            }));
        }
        sum = sum.saturating_add(entry.uncompressed);
        if sum > limits.max_uncompressed_bytes {
            return Err(ZipError::TooLarge("the sum of its files"));
        }
        if name == "go.mod" && entry.uncompressed > limits.max_go_mod_bytes {
            return Err(ZipError::TooLarge("go.mod"));
        }
        if name == "LICENSE" && entry.uncompressed > limits.max_license_bytes {
            return Err(ZipError::TooLarge("LICENSE"));
        }
    }
    Ok(sum)
}

/// `module.CheckFilePath`.
pub(super) fn check_path(name: &str) -> Result<(), &'static str> {
    for element in name.split('/') {
        if element.is_empty() || element.bytes().all(|byte| byte == b'.') {
            return Err("an empty or dotted path element");
        }
        if element.ends_with('.') {
            return Err("a trailing dot in a path element");
        }
        let good = |c: char| {
            if c.is_ascii() {
                c.is_ascii_alphanumeric() || "!#$%&()+,-.=@[]^_{}~ ".contains(c)
            } else {
                is_letter(c)
            }
        };
        if !element.chars().all(good) {
            return Err("a character that file names of modules may not have");
        }
        if is_windows_device(element.split('.').next().unwrap_or_default()) {
            return Err("a name that Windows does not allow");
        }
    }
    Ok(())
}

/// Names met so far, folded; bounded in memory, since every folder of a deep path counts.
pub(super) struct Seen<'a> {
    names: HashMap<String, (&'a str, bool)>,
    bytes: usize,
}

impl Seen<'_> {
    pub(super) fn new(names: usize) -> Self {
        Self {
            names: HashMap::with_capacity(names),
            bytes: 0,
        }
    }
}

const MAX_SEEN_BYTES: usize = 64 << 20;
const MAX_NAME_BYTES: usize = 4096;

/// Notes a name and its folders: two that differ only in case, a file that is a folder too, a file twice.
pub(super) fn note<'a>(
    seen: &mut Seen<'a>,
    name: &'a str,
    folder: bool,
) -> Result<(), &'static str> {
    if name.len() > MAX_NAME_BYTES {
        return Err("a path too long or too deep");
    }
    match seen.names.entry(fold(name)) {
        Slot::Occupied(other) => {
            let (other, other_folder) = *other.get();
            if other != name {
                return Err("differs from another entry only in upper and lower case");
            }
            if other_folder != folder {
                return Err("both a file and a folder");
            }
            if !folder {
                return Err("there twice");
            }
            // A folder that was seen has had its own folders noted.
            return Ok(());
        }
        Slot::Vacant(slot) => {
            seen.bytes += name.len() + 64;
            if seen.bytes > MAX_SEEN_BYTES {
                return Err("a path too long or too deep");
            }
            slot.insert((name, folder));
        }
    }
    match name.rsplit_once('/') {
        Some((parent, _)) => note(seen, parent, true),
        None => Ok(()),
    }
}
