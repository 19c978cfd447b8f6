//! Lookups and records: what parses, and which hashes come out of hostile records.

use super::*;
use crate::note::SignerKey;
use crate::{TreeHead, note};
use proptest::prelude::*;

const A: &str = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const B: &str = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn record(lines: &[&str]) -> Record {
    Record::new(lines.join("\n") + "\n").unwrap()
}

#[test]
fn the_three_parts() {
    let lookup =
        Lookup::parse(b"17\na v1.0.0 h1:x\na v1.0.0/go.mod h1:y\n\nnote\n\n\xe2\x80\x94 who sig\n")
            .unwrap();
    assert_eq!(lookup.id(), 17);
    assert_eq!(
        lookup.record().text(),
        "a v1.0.0 h1:x\na v1.0.0/go.mod h1:y\n"
    );
    assert_eq!(lookup.head_note(), b"note\n\n\xe2\x80\x94 who sig\n");
}

#[test]
fn malformed_lookups() {
    for bad in [
        &b""[..],
        b"1",
        b"1\n",
        b"1\nrecord\n",
        b"1\nrecord\n\n",
        b"1\n\nrecord\n\nnote\n",
        b"1\n\n\nnote\n",
        b"\nrecord\n\nnote\n",
        b"x\nrecord\n\nnote\n",
        b"01\nrecord\n\nnote\n",
        b"+1\nrecord\n\nnote\n",
        b"-1\nrecord\n\nnote\n",
        b" 1\nrecord\n\nnote\n",
        b"1\r\nrecord\n\nnote\n",
        b"9223372036854775808\nrecord\n\nnote\n",
        b"1\nrec\tord\n\nnote\n",
        b"1\nrec\0ord\n\nnote\n",
        b"1\nrecord\r\n\r\nnote\n",
        b"1\nrec\xfford\n\nnote\n",
    ] {
        assert!(
            matches!(Lookup::parse(bad), Err(LookupError::Malformed(_))),
            "{:?}",
            String::from_utf8_lossy(bad)
        );
    }
    let long = [&b"1\n"[..], &vec![b'a'; MAX_LOOKUP_BYTES], b"\n\nnote\n"].concat();
    assert!(Lookup::parse(&long).is_err());
}

#[test]
fn hashes_of_exactly_what_was_asked() {
    let asked = |lines: &[&str]| record(lines).hashes("a.example/m", "v1.0.0");
    let zip = &format!("a.example/m v1.0.0 {A}")[..];
    let go_mod = &format!("a.example/m v1.0.0/go.mod {B}")[..];
    let missing_zip = Err(RecordError::Missing {
        what: "a.example/m v1.0.0".to_owned(),
    });
    let missing_mod = Err(RecordError::Missing {
        what: "a.example/m v1.0.0/go.mod".to_owned(),
    });
    let good = Ok(Hashes {
        zip: A.to_owned(),
        go_mod: B.to_owned(),
    });

    assert_eq!(asked(&[zip, go_mod]), good);
    assert_eq!(asked(&[go_mod, zip]), good);
    assert_eq!(asked(&[zip]), missing_mod);
    assert_eq!(asked(&[go_mod]), missing_zip);
    // Another module's, another version's, another case's record.
    for other in [
        "b.example/m v1.0.0",
        "a.example/m v1.0.1",
        "a.example/M v1.0.0",
        "a.example/m/v2 v1.0.0",
    ] {
        let lines = [format!("{other} {A}"), format!("{other}/go.mod {B}")];
        assert_eq!(asked(&[&lines[0], &lines[1]]), missing_zip, "{other}");
        // Extra lines change nothing.
        assert_eq!(asked(&[&lines[0], zip, &lines[1], go_mod]), good, "{other}");
    }
    // Near misses of the prefix.
    for (line, problem) in [
        (format!(" a.example/m v1.0.0 {A}"), "leading space"),
        (format!("a.example/m  v1.0.0 {A}"), "two spaces"),
        (
            format!("a.example/m v1.0.0  {A}"),
            "two spaces before the hash",
        ),
        (format!("a.example/m v1.0.0{A}"), "no space"),
        (format!("x a.example/m v1.0.0 {A}"), "not at the start"),
        (
            "a.example/m v1.0.0 h2:abc".to_owned(),
            "another kind of hash",
        ),
    ] {
        assert_eq!(asked(&[&line, go_mod]), missing_zip, "{problem}");
    }
    // Twice is refused, the same and another; another kind of hash beside it is not twice.
    let repeated = Err(RecordError::Repeated {
        what: "a.example/m v1.0.0".to_owned(),
    });
    assert_eq!(asked(&[zip, zip, go_mod]), repeated);
    assert_eq!(
        asked(&[zip, go_mod, &format!("a.example/m v1.0.0 {B}")]),
        repeated
    );
    assert_eq!(asked(&[zip, go_mod, "a.example/m v1.0.0 h2:abc"]), good);
    // A hash that is none.
    let malformed = Err(RecordError::Malformed {
        what: "a.example/m v1.0.0".to_owned(),
    });
    for bad in [
        "h1:",
        "h1:abc",
        &format!("{A} more"),
        &format!("{A} "),
        &A[..A.len() - 1],
        &format!("{A}="),
    ] {
        assert_eq!(
            asked(&[&format!("a.example/m v1.0.0 {bad}"), go_mod]),
            malformed,
            "{bad}"
        );
    }
}

#[test]
fn serving_with_a_newer_head() {
    let key = SignerKey::from_seed("db.example", [1; 32]).unwrap();
    let signed = |size| {
        let note = note::sign(
            &TreeHead {
                size,
                ..TreeHead::empty()
            }
            .to_string(),
            &key,
        )
        .unwrap();
        SignedHead::verify(&note, &key.verifier_key()).unwrap()
    };
    let lookup = Lookup::parse(b"5\nrecord\n\nold note\n").unwrap();
    let body = lookup.with_head(&signed(6)).unwrap();
    let again = Lookup::parse(&body).unwrap();
    assert_eq!((again.id(), again.record()), (5, lookup.record()));
    assert_eq!(again.head_note(), signed(6).note());
    assert_eq!(
        lookup.with_head(&signed(5)),
        Err(LookupError::RecordOutsideTree { id: 5, size: 5 })
    );
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = Lookup::parse(&bytes);
    }

    #[test]
    fn bodies_round_trip(id in 0..=i64::MAX as u64, text in "([^\\x00-\\x1f]+\n){1,4}", note in "[a-z\n]{1,40}") {
        let record = Record::new(text).unwrap();
        let lookup = Lookup::parse(&format(id, &record, note.as_bytes())).unwrap();
        prop_assert_eq!(lookup, Lookup { id, record, head_note: note.into_bytes() });
    }
}
