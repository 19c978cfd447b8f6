//! Versions: the order is total and agrees with equality.
#![no_main]
use gomod::Version;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut versions: Vec<Version> = text.split_whitespace().filter_map(|word| Version::parse(word).ok()).collect();
    versions.sort();
    for pair in versions.windows(2) {
        assert!(pair[0] <= pair[1]);
        assert_eq!(pair[0] == pair[1], pair[0].cmp(&pair[1]).is_eq());
    }
    for version in &versions {
        let _ = version.pseudo();
    }
});
