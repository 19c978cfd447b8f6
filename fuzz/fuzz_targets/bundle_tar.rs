//! The archive of a bundle: every file lies within it, and an archive of the same files reads back the same.
#![no_main]
use std::io::{Cursor, Write as _};

use libfuzzer_sys::fuzz_target;

// The one file, so that all that cares for storage need not be instrumented.
#[path = "../../crates/care/src/bundle/tar.rs"]
mod tar;

const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Ok(entries) = tar::entries(&mut Cursor::new(data), MOST) else {
        return;
    };
    assert!(entries.len() <= MOST);
    let mut again = Vec::new();
    for entry in &entries {
        let end = entry.at + entry.size;
        assert!(entry.at % tar::BLOCK == 0 && end <= data.len() as u64);
        if tar::head(&mut again, &entry.name, entry.size).is_err() {
            return;
        }
        again
            .write_all(&data[entry.at as usize..end as usize])
            .unwrap();
        tar::pad(&mut again, entry.size).unwrap();
    }
    tar::end(&mut again).unwrap();
    let read = tar::entries(&mut Cursor::new(&again), MOST).unwrap();
    let known = |entries: &[tar::Entry]| -> Vec<(String, u64)> {
        entries
            .iter()
            .map(|entry| (entry.name.clone(), entry.size))
            .collect()
    };
    assert_eq!(known(&entries), known(&read));
});
