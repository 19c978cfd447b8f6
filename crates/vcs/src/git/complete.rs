//! Which packs a mirror has, and whether all history is in them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::mirror::{Disk, Mirror, blocking};
use crate::DirectError;

/// Where packs are.
const PACKS: &str = "objects/pack";
/// Where most references are.
const PACKED_REFS: &str = "packed-refs";

/// The files of packs with their sizes and times: others, if somebody changed them.
pub(super) type Packs = BTreeSet<(OsString, u64, Option<SystemTime>)>;

/// The references whose history is all there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complete {
    /// Their sum.
    sum: String,
    /// The size and time of the file that has them: others, if somebody changed it.
    refs: (u64, Option<SystemTime>),
    /// The packs that were there.
    packs: Packs,
}

impl Mirror {
    /// Whether the history of all references with this sum is there, and nobody changed anything of it since.
    pub(super) async fn is_complete(&self, disk: &Disk, sum: &str) -> bool {
        let Some(complete) = disk.complete.as_ref().filter(|had| had.sum == sum) else {
            return false;
        };
        let file = self.folder.join(PACKED_REFS);
        let refs = blocking(move || stamp(&file)).await;
        let packs = self.packs().await;
        refs.is_ok_and(|refs| complete.refs == refs)
            && packs.is_ok_and(|packs| complete.packs.is_subset(&packs))
    }

    /// Writes references, lines of hash and name in order, and notes that the history of those with this sum is there.
    pub(crate) async fn completed(
        &self,
        disk: &mut Disk,
        lines: Vec<String>,
        sum: String,
    ) -> Result<(), DirectError> {
        let folder = self.folder.clone();
        let write = move || {
            let packed = folder.join(PACKED_REFS);
            let before = match fs::read(&packed) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                before => before?,
            };
            // Damage in it goes with the rest.
            let before = String::from_utf8_lossy(&before);
            // What was kept for its own sake stays; `refs/kept/` comes between `refs/heads/` and `refs/tags/`.
            let kept = before.lines().filter(|line| line.contains(" refs/kept/"));
            let tags = lines.partition_point(|line| !line.contains(" refs/tags/"));
            let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
            text.extend(lines[..tags].iter().map(String::as_str));
            for line in kept {
                text.push_str(line);
                text.push('\n');
            }
            text.extend(lines[tags..].iter().map(String::as_str));
            let new = folder.join("packed-refs.lock");
            fs::write(&new, text)?;
            fs::rename(new, &packed)?;
            // Those in files of their own would count more.
            for name in ["refs/heads", "refs/tags"] {
                let place = folder.join(name);
                match fs::remove_dir_all(&place) {
                    // They are empty: who restores a backup may have none.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => fs::create_dir_all(&place)?,
                }
            }
            fs::write(folder.join("complete"), &sum)?;
            let (refs, packs) = (stamp(&packed)?, packs(&folder)?);
            Ok(Complete { sum, refs, packs })
        };
        disk.complete = Some(blocking(write).await?);
        Ok(())
    }

    /// The files of its packs.
    pub(super) async fn packs(&self) -> Result<Packs, DirectError> {
        let folder = self.folder.clone();
        blocking(move || packs(&folder)).await
    }

    /// Removes what came after these packs were all.
    pub(super) async fn keep_packs(&self, before: Packs) -> Result<(), DirectError> {
        self.stop_care().await;
        let folder = self.folder.clone();
        let remove = move || {
            let now = packs(&folder)?;
            // Else they were repacked meanwhile, with what came.
            if before.is_subset(&now) {
                for (name, ..) in now.difference(&before) {
                    fs::remove_file(folder.join(PACKS).join(name))?;
                }
            }
            Ok(())
        };
        blocking(remove).await
    }
}

/// The size and time of a file.
fn stamp(file: &Path) -> io::Result<(u64, Option<SystemTime>)> {
    let data = fs::metadata(file)?;
    Ok((data.len(), data.modified().ok()))
}

fn packs(folder: &Path) -> io::Result<Packs> {
    let entries = match fs::read_dir(folder.join(PACKS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Packs::new()),
        entries => entries?,
    };
    let file = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let data = match entry.metadata() {
            // Packed again, with others, while we look.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            data => data?,
        };
        Ok(Some((entry.file_name(), data.len(), data.modified().ok())))
    };
    entries
        .filter_map(|entry| file(entry).transpose())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn packs_that_go_meanwhile_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(PACKS);
        fs::create_dir_all(&place).unwrap();
        let stays = place.join("stays.pack");
        fs::write(stays, "").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for n in 0..30 {
                        fs::write(place.join(format!("{n}.pack")), "").unwrap();
                    }
                    for n in 0..30 {
                        fs::remove_file(place.join(format!("{n}.pack"))).unwrap();
                    }
                }
            });
            let looked = (0..2_000).try_for_each(|_| {
                let packs = packs(folder.path())?;
                assert!(packs.iter().any(|(name, ..)| name == "stays.pack"));
                io::Result::Ok(())
            });
            done.store(true, Ordering::Relaxed);
            looked.unwrap();
        });
    }
}
