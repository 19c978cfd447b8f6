//! Range headers: a part is never empty and never beyond the end.
#![no_main]
use libfuzzer_sys::fuzz_target;

// The one file, so that the whole gateway need not be instrumented.
#[path = "../../crates/gateway/src/http/range.rs"]
mod range;

fuzz_target!(|data: &[u8]| {
    for len in [0, 1, 1000, u64::MAX] {
        if let range::Range::Part(from, to) = range::parse(data, len) {
            assert!(from < to && to <= len);
        }
    }
});
