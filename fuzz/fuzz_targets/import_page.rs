//! Pages with `go-import` tags: anything may be in them; what comes out has its four fields, without white space.
#![no_main]
use libfuzzer_sys::fuzz_target;

// The one file, so that the whole of direct fetch need not be instrumented.
#[path = "../../crates/vcs/src/discover/html.rs"]
mod html;

fuzz_target!(|data: &[u8]| {
    let Ok(imports) = html::imports(data) else {
        return;
    };
    for (at, import) in imports.iter().enumerate() {
        for field in [&import.prefix, &import.vcs, &import.url] {
            assert!(!field.is_empty() && !field.contains(char::is_whitespace));
        }
        // `mod` entries come first, and nothing else of the same prefix after them.
        let others = imports[at..].iter().filter(|other| other.vcs != "mod");
        if import.vcs == "mod" {
            assert!(others.clone().all(|other| other.prefix != import.prefix));
        } else {
            assert_eq!(others.count(), imports.len() - at);
        }
    }
});
