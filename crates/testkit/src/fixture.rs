//! Modules made up for tests, and the three files and two hashes by which a proxy and a checksum database know them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;

/// No file of [`big`] is larger than this, since Go refuses a go.mod or LICENSE of more than 16 MiB and other readers
/// may well have such a limit for any file.
const BIG_FILE_BYTES: usize = 8 << 20;

/// One version of a module. The same calls always make the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    path: String,
    version: String,
    time: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Module {
    /// A module with nothing but a go.mod that states its path. Path and version are unescaped and not checked, so
    /// that wrong ones can be made too.
    pub fn new(path: &str, version: &str) -> Module {
        Module {
            path: path.to_owned(),
            version: version.to_owned(),
            time: "2024-01-02T03:04:05Z".to_owned(),
            files: BTreeMap::new(),
        }
        .file("go.mod", format!("module {path}\n\ngo 1.21\n"))
    }

    /// Adds or replaces a file. `name` is relative to the module's root; `go.mod` replaces the one made by
    /// [`new`](Module::new).
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Module {
        self.files.insert(name.to_owned(), content.into());
        self
    }

    /// Replaces the time in [`info`](Module::info), an RFC 3339 text, which is not checked.
    #[must_use]
    pub fn time(mut self, time: &str) -> Module {
        time.clone_into(&mut self.time);
        self
    }

    /// The module's path, unescaped.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The version, unescaped.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The URL path of one of its files on a GOPROXY: `/lab.example/!m/@v/v1.0.0.zip` for the ending `zip`.
    pub fn url_path(&self, ending: &str) -> String {
        let path = crate::escape(&self.path);
        let version = crate::escape(&self.version);
        format!("/{path}/@v/{version}.{ending}")
    }

    /// The `.info` file: JSON with `Version` and `Time`.
    pub fn info(&self) -> Vec<u8> {
        serde_json::json!({ "Version": self.version, "Time": self.time })
            .to_string()
            .into_bytes()
    }

    /// The `.mod` file.
    pub fn mod_file(&self) -> Vec<u8> {
        self.files.get("go.mod").cloned().unwrap_or_default()
    }

    /// The `.zip` file: deflated entries `path@version/name`, sorted by name. As in the zips that Go writes, sizes and
    /// checksum of an entry follow its content in a data descriptor, and its local header has zeros for them.
    ///
    /// # Panics
    /// If a name cannot stand in a zip.
    pub fn zip(&self) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new_stream(Vec::new());
        for (name, content) in &self.files {
            zip.start_file(self.entry_name(name), SimpleFileOptions::default())
                .expect("the name can stand in a zip");
            zip.write_all(content).expect("memory can be written");
        }
        zip.finish().expect("memory can be written").into_inner()
    }

    /// The `h1:` hash of the zip, as in go.sum.
    pub fn h1(&self) -> String {
        let files = self.files.iter();
        h1(files.map(|(name, content)| (self.entry_name(name), content.as_slice())))
    }

    /// The `h1:` hash of the go.mod, as in the `/go.mod` lines of go.sum.
    pub fn go_mod_h1(&self) -> String {
        h1([("go.mod".to_owned(), self.mod_file().as_slice())].into_iter())
    }

    fn entry_name(&self, name: &str) -> String {
        format!("{}@{}/{name}", self.path, self.version)
    }
}

/// `h1:` over files that come sorted by name (golang.org/x/mod/sumdb/dirhash, Hash1).
fn h1<'a>(files: impl Iterator<Item = (String, &'a [u8])>) -> String {
    h1_of_sums(files.map(|(name, content)| (name, Sha256::digest(content).into())))
}

/// The same over the SHA-256 sums of the files.
fn h1_of_sums(sums: impl Iterator<Item = (String, [u8; 32])>) -> String {
    let mut lines = Sha256::new();
    for (name, sum) in sums {
        lines.update(format!("{}  {name}\n", hex(&sum)));
    }
    format!("h1:{}", STANDARD.encode(lines.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string can be written");
    }
    text
}

/// A module of `mib` MiB that deflate cannot make smaller, in files of at most 8 MiB. The content depends on the path,
/// the version and the size alone.
pub fn big(path: &str, version: &str, mib: usize) -> Module {
    let mut module = Module::new(path, version).file("m.go", "package m\n");
    let mut left = mib << 20;
    for number in 0.. {
        if left == 0 {
            break;
        }
        let name = format!("data/{number:04}.bin");
        let bytes = left.min(BIG_FILE_BYTES);
        let content = noise(&module.entry_name(&name), bytes);
        module = module.file(&name, content);
        left -= bytes;
    }
    module
}

/// A module version with a zip so large that it is kept as pieces of which many are the same memory: all its data files
/// have one content.
#[derive(Debug, Clone)]
pub struct Huge {
    module: Module,
    zip: Vec<Bytes>,
    h1: String,
}

impl Huge {
    /// Path, version, `.info` and `.mod`. Its own zip lacks the data files.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The zip, in pieces.
    pub fn zip(&self) -> &[Bytes] {
        &self.zip
    }

    /// The length of the zip in bytes.
    pub fn zip_bytes(&self) -> u64 {
        self.zip.iter().map(|piece| piece.len() as u64).sum()
    }

    /// SHA-256 of the zip.
    pub fn zip_sha256(&self) -> Vec<u8> {
        let mut digest = Sha256::new();
        self.zip.iter().for_each(|piece| digest.update(piece));
        digest.finalize().to_vec()
    }

    /// The `h1:` hash of the zip, as in go.sum.
    pub fn h1(&self) -> &str {
        &self.h1
    }
}

/// A module whose zip has `mib` MiB of data that is not compressed, in memory as large as one file of 8 MiB.
///
/// # Panics
/// If that makes no zip: it is limited to 4 GiB.
pub fn huge(path: &str, version: &str, mib: usize) -> Huge {
    let module = Module::new(path, version).file("m.go", "package m\n");
    let data = Bytes::from(noise(path, BIG_FILE_BYTES));
    let data_sum = Sha256::digest(&data);
    let mut entries: Vec<(String, Bytes)> = Vec::new();
    let mut left = mib << 20;
    while left > 0 {
        let bytes = left.min(BIG_FILE_BYTES);
        let name = format!("data/{:04}.bin", entries.len());
        entries.push((module.entry_name(&name), data.slice(..bytes)));
        left -= bytes;
    }
    for (name, content) in &module.files {
        entries.push((module.entry_name(name), content.clone().into()));
    }
    let sums = entries.iter().map(|(name, content)| {
        let sum = if content.len() == data.len() {
            data_sum
        } else {
            Sha256::digest(content)
        };
        (name.clone(), sum.into())
    });
    Huge {
        h1: h1_of_sums(sums),
        zip: stored_zip(&entries),
        module,
    }
}

/// A zip of files as they are (APPNOTE.TXT 4.3): for each a head and its content, then the directory.
fn stored_zip(entries: &[(String, Bytes)]) -> Vec<Bytes> {
    let short = |n: usize| u16::try_from(n).expect("below 64 KiB").to_le_bytes();
    let long = |n: usize| u32::try_from(n).expect("below 4 GiB").to_le_bytes();
    let (mut pieces, mut directory, mut at) = (Vec::new(), Vec::new(), 0);
    for (name, content) in entries {
        // Version 2.0, no flags, stored, 1980-01-01.
        let mut common = [20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0].to_vec();
        common.extend(crc32fast::hash(content).to_le_bytes());
        common.extend(long(content.len()));
        common.extend(long(content.len()));
        common.extend(short(name.len()));
        common.extend([0; 2]);
        let head = [b"PK\x03\x04", &*common, name.as_bytes()].concat();
        // Made by version 2.0; no comment, first disk, no attributes.
        directory.extend([b"PK\x01\x02", &[20, 0][..], &common, &[0; 10]].concat());
        directory.extend(long(at));
        directory.extend(name.as_bytes());
        at += head.len() + content.len();
        pieces.extend([head.into(), content.clone()]);
    }
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend(short(entries.len()));
    end.extend(short(entries.len()));
    end.extend(long(directory.len()));
    end.extend(long(at));
    end.extend([0; 2]);
    pieces.extend([directory.into(), end.into()]);
    pieces
}

/// `bytes` bytes that look random and are always the same for one seed (SplitMix64).
fn noise(seed: &str, bytes: usize) -> Vec<u8> {
    let digest: [u8; 32] = Sha256::digest(seed).into();
    let mut state = digest
        .iter()
        .take(8)
        .fold(0u64, |state, byte| state << 8 | u64::from(*byte));
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        noise.extend((mixed ^ mixed >> 31).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// `n` tiny modules `lab.example/m000`, `lab.example/m001` and so on, all at v1.0.0. Module `k` requires and imports
/// modules `2k+1` and `2k+2`, so the first one needs all of them, a few steps deep. [`project_go_mod`] requires them.
pub fn project(n: usize) -> Vec<Module> {
    let path = |number: usize| format!("lab.example/m{number:03}");
    (0..n)
        .map(|number| {
            let needs = (2 * number + 1..=2 * number + 2).filter(|need| *need < n);
            let mut go_mod = format!("module {}\n\ngo 1.21\n", path(number));
            let mut source = "package m\n".to_owned();
            for need in needs.map(path) {
                write!(go_mod, "\nrequire {need} v1.0.0\n").expect("a string can be written");
                write!(source, "\nimport _ \"{need}\"\n").expect("a string can be written");
            }
            write!(source, "\nconst Number = {number}\n").expect("a string can be written");
            Module::new(&path(number), "v1.0.0")
                .file("go.mod", go_mod)
                .file("m.go", source)
        })
        .collect()
}

/// The go.mod text of a main module that requires each of the modules.
pub fn project_go_mod(modules: &[Module]) -> String {
    let requires: String = modules.iter().fold(String::new(), |requires, module| {
        format!("{requires}\t{} {}\n", module.path, module.version)
    });
    format!("module project.example/root\n\ngo 1.21\n\nrequire (\n{requires})\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_modules_are_as_large_as_asked_and_the_same_each_time() {
        let module = big("lab.example/big", "v1.0.0", 9);
        let content: usize = module
            .files
            .iter()
            .filter(|(name, _)| name.starts_with("data/"))
            .map(|(_, content)| content.len())
            .sum();
        assert_eq!(content, 9 << 20);
        let zip = module.zip();
        assert!(zip.len() >= 9 << 20, "noise does not get smaller");
        assert_eq!(zip, big("lab.example/big", "v1.0.0", 9).zip());
    }

    #[test]
    fn zips_have_data_descriptors_as_those_of_go() {
        let zip = Module::new("lab.example/m", "v1.0.0").zip();
        let flags = u16::from_le_bytes([zip[6], zip[7]]);
        assert!(flags & 8 != 0, "{flags:#x}");
        assert_eq!(zip[14..26], [0; 12], "checksum and sizes come later");
    }

    #[test]
    fn huge_zip_is_in_order() {
        let huge = huge("lab.example/m", "v1.0.0", 17);
        let zip = huge.zip().concat();
        assert_eq!(zip.len() as u64, huge.zip_bytes());
        assert!(huge.zip_sha256() == Sha256::digest(&zip).to_vec());
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip)).expect("it is a zip");
        let mut sums = BTreeMap::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).expect("it is there");
            let mut content = Vec::new();
            // Its checksum is compared on the way.
            std::io::Read::read_to_end(&mut file, &mut content).expect("it is whole");
            let name = file.name().expect("it has a name").into_owned();
            sums.insert(name, Sha256::digest(&content).into());
        }
        assert_eq!(sums.len(), 5);
        assert_eq!(huge.h1(), h1_of_sums(sums.into_iter()));
    }

    #[test]
    fn hash_of_a_go_mod_is_that_of_go() {
        // As Go computed it for the go.sum of many a project.
        let quote = Module::new("rsc.io/quote", "v1.5.2").file(
            "go.mod",
            "module \"rsc.io/quote\"\n\nrequire \"rsc.io/sampler\" v1.3.0\n",
        );
        assert_eq!(
            quote.go_mod_h1(),
            "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0="
        );
    }
}
