//! Source trees, a name a line: choosing never panics, judges every file, and keeps what it kept.
#![no_main]
use gomod::zip::{Kind, Limits, SourceFile, select};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let files: Vec<SourceFile<'_>> = data
        .split(|byte| *byte == b'\n')
        .map(|line| {
            let (name, kind) = match line.split_last() {
                Some((b'@', name)) => (name, Kind::Symlink),
                Some((b'%', name)) => (name, Kind::Other),
                _ => (line, Kind::Regular),
            };
            SourceFile {
                name,
                kind,
                size: 1,
            }
        })
        .collect();
    for go_mod in [&b"module m\ngo 1.23\n"[..], b"module m\ngo 1.24\n"] {
        let Ok(selection) = select(&files, Some(go_mod), &Limits::default()) else {
            continue;
        };
        let kept: Vec<SourceFile<'_>> = selection.included.iter().map(|i| files[*i]).collect();
        assert!(kept.len() + selection.omitted.len() <= files.len());
        let again = select(&kept, Some(go_mod), &Limits::default()).unwrap();
        // Without the file go.mod, the old rule for vendor may come back; all else stays.
        if kept.iter().any(|file| file.name == b"go.mod") {
            assert_eq!(again.included.len(), kept.len());
        }
    }
});
