//! Notes: Go's published example, then everything that must not pass.

use super::*;
use proptest::prelude::*;

/// The example in the documentation of golang.org/x/mod/sumdb/note, signed by two.
const EXAMPLE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n\
    \u{2014} EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";

fn key(text: &str) -> VerifierKey {
    text.parse().unwrap()
}

fn signer() -> SignerKey {
    SignerKey::from_seed("db.example", [3; 32]).unwrap()
}

#[test]
fn gos_example_verifies_with_either_key() {
    for name in [PETER, ENOCH] {
        let note = verify(EXAMPLE.as_bytes(), &key(name)).unwrap();
        assert!(note.text().ends_with("your problem is.\n"));
        assert_eq!(note.signatures().len(), 2);
        assert_eq!(note.verified_by(), &key(name));
    }
}

#[test]
fn signing_gives_gos_example() {
    let text = EXAMPLE.split_inclusive('\n').take(2).collect::<String>();
    let peter: SignerKey =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
            .parse()
            .unwrap();
    let expected: String = EXAMPLE.split_inclusive('\n').take(4).collect();
    assert_eq!(
        String::from_utf8(sign(&text, &peter).unwrap()).unwrap(),
        expected
    );
}

#[test]
fn a_note_by_others_only_is_not_signed() {
    let error = verify(EXAMPLE.as_bytes(), &key(SUM_GOLANG_ORG)).unwrap_err();
    assert_eq!(
        error,
        NoteError::NotSigned {
            name: "sum.golang.org".to_owned(),
            hash: 0x033d_e0ae
        }
    );
}

#[test]
fn an_impostor_with_the_same_name_is_a_stranger() {
    let impostor = SignerKey::from_seed("db.example", [4; 32]).unwrap();
    let note = sign("text\n", &impostor).unwrap();
    assert!(matches!(
        verify(&note, &signer().verifier_key()),
        Err(NoteError::NotSigned { .. })
    ));
}

#[test]
fn altered_texts_and_signatures_are_refused() {
    let invalid = NoteError::InvalidSignature {
        name: "PeterNeumann".to_owned(),
        hash: 0xc74f_20a3,
    };
    for (from, to) in [
        ("don't", "do"),
        // One more or less newline belongs to the text, too.
        ("is.\n\n", "is.\n\n\n"),
        // The signature with one bit changed, and cut short.
        ("x08go/ZJkuBS9UG", "x08go/ZJkuBS9UH"),
        (
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
            "x08goyBwJnAM",
        ),
    ] {
        let note = EXAMPLE.replacen(from, to, 1);
        assert_ne!(note, EXAMPLE);
        assert_eq!(
            verify(note.as_bytes(), &key(PETER)),
            Err(invalid.clone()),
            "{from:?} -> {to:?}"
        );
    }
}

#[test]
fn malformed_notes_are_refused() {
    let good = String::from_utf8(sign("text\n", &signer()).unwrap()).unwrap();
    let line = good.lines().last().unwrap().to_owned();
    let public = signer().verifier_key();
    for bad in [
        String::new(),
        "\n".to_owned(),
        "\n\n".to_owned(),
        "text\n\n".to_owned(),
        "text\n".to_owned() + &line + "\n",
        good.trim_end().to_owned(),
        good.clone() + "\n",
        good.clone() + "more text\n",
        good.replace("text", "te\txt"),
        good.replace('\n', "\r\n"),
        good.replace("text", "te\0xt"),
        good.replace('\u{2014}', "-"),
        good.replace("\u{2014} db.example", "\u{2014}  db.example"),
        good.replace("db.example ", "db+example "),
        good.clone() + "\u{2014} other AAAA\n",
        good.clone() + "\u{2014} other AAAAA\n",
        good.clone() + "\u{2014} other\n",
        good.clone() + "\u{2014} other \n",
        format!(
            "text\n\n{}",
            "\u{2014} other AAAAAAA=\n".repeat(MAX_SIGNATURES + 1)
        ),
    ] {
        assert!(
            matches!(
                verify(bad.as_bytes(), &public),
                Err(NoteError::Malformed(_))
            ),
            "{bad:?}"
        );
    }
    let invalid_utf8 = [&b"te\xffxt\n\n"[..], line.as_bytes(), b"\n"].concat();
    assert!(matches!(
        verify(&invalid_utf8, &public),
        Err(NoteError::Malformed(_))
    ));
    assert!(matches!(
        verify(&vec![b'a'; MAX_NOTE_BYTES + 1], &public),
        Err(NoteError::TooLong { .. })
    ));
}

#[test]
fn strangers_signatures_are_ignored_up_to_the_limit() {
    let note = String::from_utf8(sign("text\n", &signer()).unwrap()).unwrap();
    let strangers = "\u{2014} other AAAAAAA=\n".repeat(MAX_SIGNATURES - 1);
    let many = note.replace("\n\n", &format!("\n\n{strangers}"));
    assert_eq!(
        verify(many.as_bytes(), &signer().verifier_key())
            .unwrap()
            .signatures()
            .len(),
        MAX_SIGNATURES
    );
}

#[test]
fn only_texts_that_verify_can_be_signed() {
    for bad in ["", "no end", "tab\t\n", "bell\u{7}\n"] {
        assert!(sign(bad, &signer()).is_err(), "{bad:?}");
    }
    assert!(matches!(
        sign(&"long\n".repeat(MAX_NOTE_BYTES / 5), &signer()),
        Err(NoteError::TooLong { .. })
    ));
}

proptest! {
    #[test]
    fn what_is_signed_verifies(text in "([^\\x00-\\x1f]*\n){1,5}") {
        let note = sign(&text, &signer()).unwrap();
        let verified = verify(&note, &signer().verifier_key()).unwrap();
        prop_assert_eq!(verified.text(), &text);
    }

    #[test]
    fn one_changed_byte_never_verifies(position in 0..200_usize, byte: u8) {
        let mut note = sign("go.sum database tree\n1\nroot\n", &signer()).unwrap();
        let position = position % note.len();
        prop_assume!(note[position] != byte);
        note[position] = byte;
        prop_assert!(verify(&note, &signer().verifier_key()).is_err());
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        prop_assert!(verify(&bytes, &signer().verifier_key()).is_err());
    }
}
