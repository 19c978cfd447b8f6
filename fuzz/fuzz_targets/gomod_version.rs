//! Versions: the order is total and agrees with equality; a pseudo-version is made again of its parts.
#![no_main]
use gomod::Version;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut versions: Vec<Version> = text
        .split_whitespace()
        .filter_map(|word| Version::parse(word).ok())
        .collect();
    versions.sort();
    for pair in versions.windows(2) {
        assert!(pair[0] <= pair[1]);
        assert_eq!(pair[0] == pair[1], pair[0].cmp(&pair[1]).is_eq());
    }
    for version in &versions {
        let Some(pseudo) = version.pseudo() else {
            continue;
        };
        if let (Some(time), Ok(base)) = (pseudo.time(), version.pseudo_base()) {
            let major = format!("v{}", version.major());
            let older = base.as_ref().map(Version::as_str);
            let again = Version::pseudo_version(&major, older, time, pseudo.rev);
            assert_eq!(again.as_ref(), Ok(version));
        }
    }
});
