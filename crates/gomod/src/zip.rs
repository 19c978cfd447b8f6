//! Checking a module zip (protocol.md section 6): everything the client checks, and that the content is true;
//! and choosing the files of one.
//!
//! The archive is read as `archive/zip` reads it, but stricter where honest zips do not differ: no bytes
//! before the first entry, and every CRC is checked. A file's content is never held, only blocks of it.

mod directory;
mod inflate;
mod names;
mod select;

use std::io::{Read, Seek};

use crate::{
    ModulePath, Version,
    h1::{H1, Lines},
};

pub use select::{Kind, Omitted, Selection, SourceFile, select};

/// Bounds of a module zip. The defaults are the client's own (protocol.md section 6), and two of memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The archive, in bytes.
    pub max_zip_bytes: u64,
    /// The sum of all files, in bytes.
    pub max_uncompressed_bytes: u64,
    /// The root `go.mod`, in bytes.
    pub max_go_mod_bytes: u64,
    /// The root `LICENSE`, in bytes.
    pub max_license_bytes: u64,
    /// Entries.
    pub max_entries: usize,
    /// The central directory, in bytes.
    pub max_directory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_zip_bytes: 500 << 20,
            max_uncompressed_bytes: 500 << 20,
            max_go_mod_bytes: 16 << 20,
            max_license_bytes: 16 << 20,
            max_entries: 1_000_000,
            max_directory_bytes: 128 << 20,
        }
    }
}

/// What the caller wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// That the content is whole, and its hash.
    Hash,
    /// That the content is whole.
    CrcOnly,
}

/// A zip that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZipReport {
    /// The hash, if it was wanted.
    pub h1: Option<H1>,
    /// The hash of the root `go.mod`, as that of a `.mod`; none if there is no such file.
    pub go_mod_h1: Option<H1>,
    /// How many entries.
    pub entries: usize,
    /// The sum of all files, in bytes.
    pub uncompressed_bytes: u64,
}

/// Why a zip is refused.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// Reading it failed.
    #[error("reading it: {0}")]
    Io(#[from] std::io::Error),
    /// No zip, or a damaged one.
    #[error("not a whole zip file: {0}")]
    Format(&'static str),
    /// Something is larger than it may be.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// An entry that no module has.
    #[error("entry {name:?}: {why}")]
    Entry {
        /// The entry's name, shortened.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Checks the zip of a module's version in `reader`, which holds `len` bytes.
pub fn check<R: Read + Seek>(
    reader: R,
    len: u64,
    path: &ModulePath,
    version: &Version,
    limits: &Limits,
    want: Want,
) -> Result<ZipReport, ZipError> {
    if len > limits.max_zip_bytes {
        return Err(ZipError::TooLarge("the zip"));
    }
    let mut window = inflate::Window::new(reader, len);
    let entries = directory::read(&mut window, limits)?;
    // Entries that share bytes would have a small file read over and over.
    let compressed = entries
        .iter()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.compressed));
    if compressed > len {
        return Err(ZipError::Format("its entries overlap"));
    }
    let prefix = format!("{path}@{version}/");
    let uncompressed_bytes = names::check(&entries, &prefix, limits)?;
    let mut lines = (want == Want::Hash).then(Lines::default);
    let mut content = inflate::Content::new();
    let mut go_mod_h1 = None;
    for entry in &entries {
        let go_mod = entry.name.strip_prefix(&prefix) == Some("go.mod");
        let sha256 = content.read(&mut window, entry, lines.is_some() || go_mod)?;
        if let (true, Some(sha256)) = (go_mod, sha256) {
            let mut alone = Lines::default();
            alone.push("go.mod", sha256);
            go_mod_h1 = alone.finish().ok();
        }
        if let (Some(lines), Some(sha256)) = (&mut lines, sha256) {
            lines.push(&entry.name, sha256);
        }
    }
    let h1 = lines
        .map(Lines::finish)
        .transpose()
        .map_err(|_| ZipError::Format("a file name with a newline"))?;
    Ok(ZipReport {
        h1,
        go_mod_h1,
        entries: entries.len(),
        uncompressed_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn make(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            writer
                .start_file(
                    *name,
                    SimpleFileOptions::default().compression_method(method),
                )
                .unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn verdict(bytes: &[u8]) -> Result<ZipReport, ZipError> {
        let (path, version) = (
            ModulePath::parse("a.com/m").unwrap(),
            Version::parse("v1.0.0").unwrap(),
        );
        check(
            Cursor::new(bytes),
            bytes.len() as u64,
            &path,
            &version,
            &Limits::default(),
            Want::Hash,
        )
    }

    const P: &str = "a.com/m@v1.0.0/";

    #[test]
    fn good_and_bad_names() {
        let one = |name: &str| verdict(&make(&[(name, b"x")], CompressionMethod::Deflated));
        for good in [
            "go.mod",
            "a.go",
            "d/e/f.go",
            "LICENSE",
            "a b.txt",
            "\u{e9}t\u{e9}.go",
            "x/_go.mod",
            ".gitignore",
            "a~1.go",
        ] {
            one(&format!("{P}{good}")).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["a.com/m@v1.0.1/a.go", "a.go", "../a.go"] {
            assert!(one(bad).is_err(), "{bad}");
        }
        for bad in [
            "d/go.mod", "GO.MOD", "d/Go.Mod", "../x", "a//b", "./a", "a/../b", "con.go", "d/aux",
            "a.", "a?b", "a:b", "a\\b", "a\nb", "*", "...",
        ] {
            assert!(one(&format!("{P}{bad}")).is_err(), "{bad}");
        }
        for pair in [
            ["a.go", "A.go"],
            ["d", "d/a.go"],
            ["D/a.go", "d/b.go"],
            ["K.go", "\u{212a}.go"],
        ] {
            let names = pair.map(|name| format!("{P}{name}"));
            assert!(
                verdict(&make(
                    &[(&names[0], b""), (&names[1], b"")],
                    CompressionMethod::Stored
                ))
                .is_err(),
                "{pair:?}"
            );
        }
    }

    #[test]
    fn the_root_go_mod_has_its_own_hash() {
        let text = b"module a.com/m\n";
        let files: [(&str, &[u8]); 2] = [
            (&format!("{P}a.go"), b"package a\n"),
            (&format!("{P}go.mod"), text),
        ];
        let with = verdict(&make(&files, CompressionMethod::Deflated)).unwrap();
        assert_eq!(with.go_mod_h1, Some(crate::h1::hash_go_mod(text)));
        let without = verdict(&make(&files[..1], CompressionMethod::Deflated)).unwrap();
        assert_eq!(without.go_mod_h1, None);
    }

    #[test]
    fn content_must_be_true() {
        let name = format!("{P}a.go");
        let text = b"package a\n".repeat(1000);
        for method in [CompressionMethod::Deflated, CompressionMethod::Stored] {
            let good = make(&[(&name, &text)], method);
            let report = verdict(&good).unwrap();
            assert_eq!((report.entries, report.uncompressed_bytes), (1, 10_000));
            for cut in [0, 1, 21, good.len() / 2, good.len() - 1] {
                assert!(verdict(&good[..cut]).is_err(), "cut to {cut}");
            }
            let content_end = good.len() - 22 - 46 - name.len();
            for at in 30 + name.len()..content_end {
                let mut bad = good.clone();
                bad[at] ^= 0x55;
                // Some bytes of the directory carry nothing that matters; the content then is the same.
                if let Ok(same) = verdict(&bad) {
                    assert_eq!(same.h1, report.h1, "byte {at}");
                }
            }
            let mut prefixed = b"junk".to_vec();
            prefixed.extend_from_slice(&good);
            assert!(verdict(&prefixed).is_err());
        }
    }

    #[test]
    fn duplicates_are_seen() {
        // The writer refuses duplicates, so two names of one length are made equal afterwards.
        let (a, b) = (format!("{P}a.go"), format!("{P}b.go"));
        let mut bytes = make(&[(&a, b"1"), (&b, b"2")], CompressionMethod::Stored);
        while let Some(at) = bytes
            .windows(b.len())
            .position(|window| window == b.as_bytes())
        {
            bytes[at..at + a.len()].copy_from_slice(a.as_bytes());
        }
        assert!(verdict(&bytes).unwrap_err().to_string().contains("twice"));
    }

    /// A bomb: many entries that are all the same bytes of the file.
    #[test]
    fn entries_that_share_their_bytes_are_refused() {
        let name = |n: usize| format!("{P}{n:03}.go");
        let text: Vec<u8> = (0..20_000u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let names: Vec<String> = (0..9).map(name).collect();
        let mut files: Vec<(&str, &[u8])> = vec![(&names[0], &text)];
        files.extend(names[1..].iter().map(|name| (&**name, &b""[..])));
        let mut bytes = make(&files, CompressionMethod::Stored);
        assert!(verdict(&bytes).is_ok());
        // Each directory entry gets the CRC, the sizes and the place of the first.
        let entries: Vec<usize> = (0..bytes.len() - 4)
            .filter(|at| bytes[*at..].starts_with(b"PK\x01\x02"))
            .collect();
        assert_eq!(entries.len(), 9);
        let (first, others) = entries.split_first().unwrap();
        for at in others {
            bytes.copy_within(first + 16..first + 28, at + 16);
            bytes.copy_within(first + 42..first + 46, at + 42);
        }
        let error = verdict(&bytes).unwrap_err().to_string();
        assert!(error.contains("overlap"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), at in 0usize..200, value: u8) {
            let _ = verdict(&bytes);
            let mut near = make(&[("a.com/m@v1.0.0/a.go", b"package a\n")], CompressionMethod::Deflated);
            let at = at % near.len();
            near[at] = value;
            let _ = verdict(&near);
        }
    }
}
