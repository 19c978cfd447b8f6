//! Answers to lookups: any bytes are survived; what parses is the canonical form; hashes are whole lines of the record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tlog::lookup::Lookup;

fuzz_target!(|data: &[u8]| {
    let Ok(lookup) = Lookup::parse(data) else {
        return;
    };
    let body = format!("{}\n{}\n", lookup.id(), lookup.record().text()).into_bytes();
    assert_eq!(
        [&body, lookup.head_note()].concat(),
        data,
        "one spelling only"
    );

    let text = lookup.record().text();
    // Ask for what the first line is about, and for the module of the seeds.
    let mut words = text.split([' ', '\n']);
    let first = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    for (path, version) in [first, ("rsc.io/quote", "v1.5.2")] {
        if let Ok(hashes) = lookup.record().hashes(path, version) {
            for line in [
                format!("{path} {version} {}", hashes.zip),
                format!("{path} {version}/go.mod {}", hashes.go_mod),
            ] {
                assert_eq!(text.lines().filter(|&other| other == line).count(), 1);
            }
        }
    }
});
