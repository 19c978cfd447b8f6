//! How the program is linked: with packed relocations, where the system it is built on reads them. It saves 1 MiB of
//! memory of an idle process, which the table of them takes otherwise.

use std::{env, process::Command};

/// The first glibc that reads them.
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Of another system it is not known what it reads.
    if env::var("HOST") == env::var("TARGET") && glibc().is_some_and(|version| version >= GLIBC) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// This system's glibc, if it is one.
fn glibc() -> Option<(u32, u32)> {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = String::from_utf8(asked.ok()?.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
