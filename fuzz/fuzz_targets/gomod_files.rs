//! go.mod, lists, infos and patterns from hostile upstreams and configurations.
#![no_main]
use gomod::{ModulePath, Version, gomod_file::GoMod, info, list, pattern::Patterns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let module: ModulePath = "example.com/m".parse().unwrap();
    let version: Version = "v1.2.3".parse().unwrap();
    let lax = GoMod::parse_lax(data);
    if let Ok(mut strict) = GoMod::parse(data) {
        // What is right in a main module is so in a dependency, where less of it counts.
        strict.toolchain = None;
        strict.replace.clear();
        strict.exclude.clear();
        assert_eq!(lax, Ok(strict));
    }
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
