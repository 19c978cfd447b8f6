//! Notes, tree heads and keys: any bytes are survived, and nothing verifies that was not signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tlog::head::{SignedHead, TreeHead};
use tlog::note::{self, SUM_GOLANG_ORG, SignerKey, VerifierKey};

fuzz_target!(|data: &[u8]| {
    let public: VerifierKey = SUM_GOLANG_ORG.parse().expect("the built-in key");
    if let Ok(signed) = note::verify(data, &public) {
        // The fuzzer has no private key: only a recorded note with strangers' signatures around it gets here.
        assert!(signed.text().ends_with('\n'));
        assert!(data.starts_with(signed.text().as_bytes()));
    }
    let _ = SignedHead::verify(data, &public);

    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let _ = text.parse::<SignerKey>();
    if let Ok(head) = text.parse::<TreeHead>() {
        assert!(text.starts_with(&head.to_string()), "one spelling only");
    }
    let own = SignerKey::from_seed("fuzz.example", [1; 32]).expect("a valid name");
    if let Ok(signed) = note::sign(text, &own) {
        assert_eq!(
            note::verify(&signed, &own.verifier_key())
                .expect("what was signed verifies")
                .text(),
            text
        );
    }
});
