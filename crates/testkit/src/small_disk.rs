//! A full disk: a small file system of its own, in memory. Mounting needs root, or `sudo` without a password.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one of so many bytes.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub fn new(bytes: u64) -> SmallDisk {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let options = format!("size={bytes},mode=0777");
        run(
            &["mount", "-t", "tmpfs", "-o", &options, "modgate-test"],
            folder.path(),
        );
        SmallDisk(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it until `left` bytes are free.
    ///
    /// # Panics
    /// If nothing can be written.
    pub fn fill(&self, left: u64) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("a file can be made");
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
        let size = file.metadata().expect("the file is there").len();
        file.set_len(size.saturating_sub(left))
            .expect("a file can be cut");
    }

    /// Removes what it was filled with.
    ///
    /// # Panics
    /// If it was not filled.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    /// Lets nobody write to it any more. Nobody may be writing.
    ///
    /// # Panics
    /// If somebody is.
    pub fn read_only(&self) {
        run(&["mount", "-o", "remount,ro"], self.path());
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a gateway that is being killed may still have files open.
        run(&["umount", "--lazy"], self.path());
    }
}

fn run(command: &[&str], folder: &Path) {
    let attempt = |program: &[&str]| {
        Command::new(program[0])
            .args(&program[1..])
            .arg(folder)
            .output()
    };
    let first = attempt(command);
    if first.as_ref().is_ok_and(|output| output.status.success()) {
        return;
    }
    let sudo = attempt(&[&["sudo", "-n"], command].concat());
    assert!(
        sudo.is_ok_and(|output| output.status.success()) || std::thread::panicking(),
        "THIS TEST MUST MOUNT A SMALL FILE SYSTEM AND CANNOT: run it as root, or let `sudo -n mount` work ({first:?})"
    );
}
