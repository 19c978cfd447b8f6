//! go.mod, lists, infos and patterns from hostile upstreams and configurations.
#![no_main]
use gomod::{ModulePath, Version, gomod_file, info, list, pattern::Patterns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let module: ModulePath = "example.com/m".parse().unwrap();
    let version: Version = "v1.2.3".parse().unwrap();
    let _ = gomod_file::retractions(data);
    let parsed = list::parse(data, &module);
    let again = list::parse(&list::format(&parsed.versions), &module);
    assert_eq!(parsed.versions, again.versions);
    let _ = info::keepable(data, &module, &version);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(patterns) = Patterns::parse(text)
    {
        let _ = patterns.matches(&module);
    }
});
