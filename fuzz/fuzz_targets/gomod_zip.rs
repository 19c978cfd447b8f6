//! Module zips: checking never panics, and never takes more than its bounds.
#![no_main]
use std::io::Cursor;

use gomod::zip::{Limits, Want, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (module, version) = ("a.com/m".parse().unwrap(), "v1.0.0".parse().unwrap());
    let _ = check(
        Cursor::new(data),
        data.len() as u64,
        &module,
        &version,
        &Limits::default(),
        Want::Hash,
    );
});
