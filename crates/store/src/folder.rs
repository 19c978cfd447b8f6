//! A data folder as somebody sees it who works beside its owner: without the lock, and with nothing in memory.
//!
//! Files appear and go by rename alone, as the owner's do. What was changed must be told to the owner, which may
//! still have the old file open.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    process::geteuid,
};

use crate::{
    Committed, Digest, Key,
    journal::waiting,
    notes,
    place::{is_absent, place},
    remedy::at,
    seal,
    spool::TempPath,
};

/// Temporary files are in here, since the owner's start empties `tmp/`.
const WORK: &str = "care";
/// How their names end.
const TEMP: &str = "tmp";

/// A data folder without its lock.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// A file in the data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Its key.
    pub key: Key,
    /// Its length.
    pub size: u64,
    /// When it was kept, in milliseconds since 1970.
    pub kept_at_ms: i64,
    /// When it was last read as far as the file system knows, the same way.
    pub used_at_ms: i64,
}

/// What a walk came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file under a key.
    File(Filed),
    /// Something that no key leads to: a link, a hidden file.
    Stray(PathBuf),
}

/// A file that is being made. It goes unless it is placed.
#[derive(Debug)]
pub struct Temp {
    /// To write to.
    pub file: File,
    path: TempPath,
}

impl Temp {
    /// Where it is.
    pub fn path(&self) -> io::Result<&Path> {
        let path = self.path.0.as_deref();
        path.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Folder {
    /// The folder at `path`. Nothing is made or looked at.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where those who work beside the owner have what is theirs. Nothing is made or looked at.
    pub fn work_path(&self) -> PathBuf {
        self.0.join(WORK)
    }

    /// The same; made if absent.
    pub fn work(&self) -> io::Result<PathBuf> {
        let work = self.work_path();
        if !work.is_dir() {
            fs::create_dir_all(&work).map_err(|error| at(&work, error))?;
            // Opened so that it is the folder itself, and nowhere that a link leads to.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(made) = open(&work, flags, Mode::empty()) {
                self.give(&File::from(made));
            }
        }
        Ok(work)
    }

    /// Gives what was just made here to whom the data folder belongs: what root makes would be closed to a server that runs as
    /// another user. Where that is not possible it stays as it is.
    pub fn give(&self, made: &File) {
        if !geteuid().is_root() {
            return;
        }
        if let Ok(owner) = fs::metadata(&self.0) {
            let _ = fchown(made, Some(owner.uid()), Some(owner.gid()));
        }
    }

    fn at(&self, key: &Key) -> PathBuf {
        self.0.join(key.as_str())
    }

    /// The files below the folder `below` whose keys come after `after`, in the order of their keys' bytes.
    pub fn walk(&self, below: &str, after: &str) -> Walk {
        let mut walk = Walk {
            root: self.0.clone(),
            after: after.to_owned(),
            stack: Vec::new(),
        };
        walk.stack.push(Step::Folder(format!("{below}/")));
        walk
    }

    /// What is known of a file without reading it.
    pub fn look(&self, key: &Key) -> io::Result<Option<Filed>> {
        match fs::symlink_metadata(self.at(key)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(filed(key.clone(), &metadata))),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file so that this is no use of it where the system allows that. What somebody put in its place and is no
    /// file is an error that says so.
    pub fn open(&self, key: &Key) -> io::Result<Option<File>> {
        let path = self.at(key);
        let file = match notes::open_unused(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !file.metadata()?.is_file() {
            let path = path.display();
            let what = format!("{path} is a folder, a pipe or the like, and no file: remove it");
            return Err(io::Error::other(what));
        }
        Ok(Some(file))
    }

    /// The digest that was noted at a file when it was kept.
    pub fn noted(&self, file: &File) -> io::Result<Option<Digest>> {
        notes::digest_of(file)
    }

    /// Moves a file that is not what it should be to `quarantine/`.
    pub fn set_aside(&self, key: &Key) -> io::Result<()> {
        let aside = self.0.join("quarantine").join(key.as_str());
        if let Some(parent) = aside.parent() {
            fs::create_dir_all(parent)?;
        }
        absent_is_fine(fs::rename(self.at(key), aside))
    }

    /// Removes a file; whoever reads it reads on.
    pub fn remove(&self, key: &Key) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.at(key)))
    }

    /// A new file, outside of what is kept. It is locked for as long as it is open: what nobody holds was left by a killed
    /// process.
    pub fn temp(&self) -> io::Result<Temp> {
        let work = self.work()?;
        loop {
            let mut name = [0; 16];
            getrandom::fill(&mut name).map_err(|error| io::Error::other(error.to_string()))?;
            let name = format!("{:032x}.{TEMP}", u128::from_le_bytes(name));
            let path = work.join(name);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)?;
            self.give(&file);
            // Where files cannot be locked, nobody can lock them, and what is left stays.
            let _ = flock(&file, FlockOperation::LockExclusive);
            // Before it was locked it may have been taken for a left one.
            if file.metadata()?.nlink() > 0 {
                let path = TempPath(Some(path));
                return Ok(Temp { file, path });
            }
        }
    }

    /// Keeps a file under `key`, with its digest noted at it. What is there already stays.
    pub fn place(&self, temp: Temp, key: &Key, digest: Option<&Digest>) -> io::Result<Committed> {
        match digest {
            Some(digest) => notes::put_digest(&temp.file, digest),
            None => notes::put_sha256(&temp.file, &seal::sha256(&temp.file)?),
        }
        let _ = seal::put(&temp.file, key);
        temp.file.sync_all()?;
        place(&self.0, temp.path, key, false)
    }

    /// Writes `bytes` under `key`, over what is there. For state, never for what is kept for ever.
    pub fn replace_small(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        let mut temp = self.temp()?;
        temp.file.write_all(bytes)?;
        let _ = seal::put(&temp.file, key);
        temp.file.sync_all()?;
        place(&self.0, temp.path, key, true).map(drop)
    }

    /// Unfinished files that nobody has written to since `before`: downloads that a killed process left, parts of the
    /// journal.
    pub fn partial(&self, before: SystemTime) -> io::Result<Vec<PathBuf>> {
        let mut partial = Vec::new();
        for (folder, ending) in [("tmp", None), (WORK, Some(TEMP)), ("journal", Some("data"))] {
            let entries = match fs::read_dir(self.0.join(folder)) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let path = entry?.path();
                // It may be gone by now.
                let Ok(metadata) = fs::symlink_metadata(&path) else {
                    continue;
                };
                let old = metadata.modified().is_ok_and(|at| at < before);
                let kind =
                    ending.is_none_or(|ending| path.extension().is_some_and(|e| e == ending));
                let whole = folder == "journal" && path.with_extension("json").exists();
                if metadata.is_file() && old && kind && !whole {
                    partial.push(path);
                }
            }
        }
        partial.sort();
        Ok(partial)
    }

    /// Removes one of those.
    pub fn remove_partial(&self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        absent_is_fine(fs::remove_file(path))
    }

    /// What waits in the journal to be written to its tier: names of tiers and keys.
    pub fn waiting(&self) -> io::Result<HashSet<(String, Key)>> {
        waiting(&self.0)
    }
}

/// Removes from the folder of such work what killed processes left of the files that they made. Waits for the disk.
pub fn remove_left(work: &Path) -> io::Result<()> {
    for entry in fs::read_dir(work)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != TEMP) || !entry.file_type()?.is_file() {
            continue;
        }
        // It may be gone by now.
        let Ok(file) = OpenOptions::new().write(true).open(&path) else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            absent_is_fine(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

fn filed(key: Key, metadata: &fs::Metadata) -> Filed {
    let kept_at_ms = metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000;
    // 0 says that it was not read since it came.
    let used_at_ms = metadata.atime() * 1000 + metadata.atime_nsec() / 1_000_000;
    Filed {
        key,
        size: metadata.len(),
        kept_at_ms,
        used_at_ms: used_at_ms.max(kept_at_ms),
    }
}

#[derive(Debug)]
enum Step {
    /// A folder's key, with a slash at its end.
    Folder(String),
    File(String),
    Stray(PathBuf),
}

/// A walk over the files of a data folder; the names of one folder at a time are in memory. Waits for the disk.
#[derive(Debug)]
pub struct Walk {
    root: PathBuf,
    after: String,
    /// What is to be done, the next last.
    stack: Vec<Step>,
}

impl Walk {
    fn open(&mut self, folder: &str) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let step = match name.to_str() {
                Some(name) if kind.is_dir() && !name.starts_with('.') => {
                    Step::Folder(format!("{folder}{name}/"))
                }
                Some(name) if kind.is_file() => Step::File(format!("{folder}{name}")),
                _ => Step::Stray(entry.path()),
            };
            steps.push(step);
        }
        let name = |step: &Step| match step {
            Step::Folder(name) | Step::File(name) => name.clone(),
            Step::Stray(_) => String::new(),
        };
        steps.sort_by_cached_key(|step| std::cmp::Reverse(name(step)));
        self.stack.extend(steps);
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.stack.pop()? {
                Step::Folder(folder) => {
                    // All keys in it come before.
                    if folder <= self.after && !self.after.starts_with(&folder) {
                        continue;
                    }
                    if let Err(error) = self.open(&folder) {
                        return Some(Err(error));
                    }
                }
                Step::File(name) if name <= self.after => {}
                Step::File(name) => {
                    let path = self.root.join(&name);
                    let Ok(key) = Key::new(name) else {
                        return Some(Ok(Entry::Stray(path)));
                    };
                    match fs::symlink_metadata(&path) {
                        Ok(metadata) => return Some(Ok(Entry::File(filed(key, &metadata)))),
                        // Gone by now.
                        Err(error) if is_absent(&error) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
                // Those have no place in the order: told when the walk is new.
                Step::Stray(_) if !self.after.is_empty() => {}
                Step::Stray(path) => return Some(Ok(Entry::Stray(path))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_on_where_another_stopped() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::new(data.path());
        let keys = [
            "go/a/@v/v1.mod",
            "go/a-b/@v/v1.mod",
            "go/a/b/@v/v1.mod",
            "go/b",
            "go/a.c",
        ];
        for key in keys {
            let mut temp = folder.temp().unwrap();
            temp.file.write_all(b"x").unwrap();
            let key = Key::new(key.to_owned()).unwrap();
            assert_eq!(folder.place(temp, &key, None).unwrap(), Committed::New);
        }
        let names = |after: &str| -> Vec<String> {
            let entries = folder.walk("go", after).map(|entry| match entry.unwrap() {
                Entry::File(filed) => filed.key.to_string(),
                Entry::Stray(path) => panic!("{}", path.display()),
            });
            entries.collect()
        };
        let mut sorted = keys.map(str::to_owned).to_vec();
        sorted.sort_unstable();
        assert_eq!(names(""), sorted);
        for at in 0..sorted.len() {
            assert_eq!(names(&sorted[at]), sorted[at + 1..]);
        }
        assert_eq!(names("go/zz"), Vec::<String>::new());
        assert_eq!(
            names("go/a/@v/v0"),
            sorted[sorted.iter().position(|k| k == "go/a/@v/v1.mod").unwrap()..]
        );
        assert!(
            fs::read_dir(folder.work().unwrap())
                .unwrap()
                .next()
                .is_none()
        );
    }
}
