//! The transparency log behind a Go checksum database, pure: notes, tiles, proofs
