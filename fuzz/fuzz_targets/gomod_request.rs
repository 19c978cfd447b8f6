//! Request paths: parsing never panics, and what parses has an escaped form that parses to the same.
#![no_main]
use gomod::{ModulePath, Request, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(Request::Info(module, version)) = Request::parse(text) {
        assert_eq!(
            ModulePath::from_escaped(&module.escaped()).as_ref(),
            Ok(&module)
        );
        assert_eq!(
            Version::from_escaped(&version.escaped()).as_ref(),
            Ok(&version)
        );
        assert!(version.check_major(&module).is_ok());
    }
});
