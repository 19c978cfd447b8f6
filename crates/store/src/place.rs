//! How a file comes to its final name: whole, synced, by rename.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{Committed, Key, spool::TempPath};

/// A new file in `folder`, which must be there.
pub(crate) fn new_file(folder: &Path) -> io::Result<(File, TempPath)> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(|error| io::Error::other(error.to_string()))?;
    let path = folder.join(format!("{:032x}", u128::from_le_bytes(name)));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let file = options.open(&path)?;
    Ok((file, TempPath(Some(path))))
}

/// Renames a synced temporary file to its final name below `root` and syncs the folders that changed.
pub(crate) fn place(
    root: &Path,
    mut temp: TempPath,
    key: &Key,
    replace: bool,
) -> io::Result<Committed> {
    let target = root.join(key.as_str());
    let parent = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let made = make_folders(root, parent)?;
    let source = temp.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let flags = if replace {
        RenameFlags::empty()
    } else {
        RenameFlags::NOREPLACE
    };
    match renameat_with(CWD, source, CWD, &target, flags) {
        Ok(()) => temp.0 = None,
        Err(rustix::io::Errno::EXIST) => return present(&target),
        // A file system without RENAME_NOREPLACE: a hard link does not replace either.
        Err(rustix::io::Errno::INVAL) if !replace => match fs::hard_link(source, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return present(&target),
            linked => linked?,
        },
        Err(error) => return Err(error.into()),
    }
    File::open(parent)?.sync_all()?;
    for folder in made {
        File::open(folder)?.sync_all()?;
    }
    Ok(Committed::New)
}

/// A file is there already. A folder, or a link that leads nowhere, is no copy of anything, and would be in the way for ever.
fn present(target: &Path) -> io::Result<Committed> {
    if target.symlink_metadata().is_ok() && !target.is_file() {
        let text = format!(
            "{}: what stands there is no file; remove it",
            target.display()
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    Ok(Committed::Present)
}

/// Makes the missing folders from `root` down to `folder`; returns the parents in which a new one stands.
fn make_folders(root: &Path, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| *path != root && !path.is_dir())
        .collect();
    let mut changed = Vec::new();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => changed.extend(path.parent().map(Path::to_owned)),
        }
    }
    Ok(changed)
}

/// A name that cannot exist is absent like one that does not.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound};
    matches!(
        error.kind(),
        NotFound | NotADirectory | IsADirectory | InvalidFilename
    )
}
