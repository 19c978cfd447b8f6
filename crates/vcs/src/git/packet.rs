//! The lines in which git's protocol comes ("pkt-line", gitprotocol-common): a length in front, a few lengths as marks.

use bytes::{Buf, BytesMut};

/// Digits of a length; it counts them too.
pub(super) const LENGTH: usize = 4;

/// A line, or a mark between lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// A line as it is, its end included if it has one. Never empty.
    Line(BytesMut),
    /// The mark behind a part.
    Delimiter,
    /// The mark behind all.
    Flush,
    /// Nothing of the kind. Nothing comes after it.
    Junk,
}

/// Takes lines from what has come.
#[derive(Debug, Default)]
pub(super) struct Packets(BytesMut);

impl Packets {
    /// More has come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next one that is whole.
    pub(super) fn next(&mut self) -> Option<Packet> {
        let digits = self.0.get(..LENGTH)?;
        let number = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let length = match number {
            Some(0) => {
                self.0.advance(LENGTH);
                return Some(Packet::Flush);
            }
            Some(1) => {
                self.0.advance(LENGTH);
                return Some(Packet::Delimiter);
            }
            Some(length) if length > LENGTH => length,
            _ => return Some(Packet::Junk),
        };
        if self.0.len() < length {
            return None;
        }
        let mut line = self.0.split_to(length);
        line.advance(LENGTH);
        Some(Packet::Line(line))
    }
}

/// A line without its end.
pub(super) fn text(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Writes a line.
pub(super) fn put(into: &mut Vec<u8>, line: &str) {
    into.extend_from_slice(format!("{:04x}{line}", line.len() + LENGTH).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a text that is cut as badly as can be, up to the first mark of the end or junk.
    fn packets(text: &[u8]) -> Vec<Packet> {
        let mut packets = Packets::default();
        let mut all = Vec::new();
        for byte in text {
            packets.push(&[*byte]);
            while let Some(packet) = packets.next() {
                let junk = packet == Packet::Junk;
                all.push(packet);
                if junk {
                    return all;
                }
            }
        }
        all
    }

    #[test]
    fn lines_and_marks() {
        let line = |text: &[u8]| Packet::Line(BytesMut::from(text));
        let mut written = Vec::new();
        put(&mut written, "ab\n");
        written.extend_from_slice(b"00010005c0000");
        let want = [line(b"ab\n"), Packet::Delimiter, line(b"c"), Packet::Flush];
        assert_eq!(packets(&written), want);
        assert_eq!(packets(b"000aab"), [], "it is not whole");
        for junk in [
            &b"<!doctype html>"[..],
            b"0002",
            b"0003",
            b"0004",
            b"zzzz",
            b"-001",
            b"+001",
            b"\xff\xff\xff\xff",
        ] {
            assert_eq!(packets(junk), [Packet::Junk], "{junk:?}");
        }
        assert_eq!(text(b"a\n"), b"a");
        assert_eq!(text(b"a"), b"a");
    }

    proptest::proptest! {
        /// Whatever a server sends and however it is cut: no panic, no line longer than the protocol's, and the same lines as
        /// when it comes at once.
        #[test]
        fn hostile_servers(pieces: Vec<Vec<u8>>, lengths: Vec<u16>) {
            let mut all = Vec::new();
            for length in lengths {
                all.extend_from_slice(format!("{length:04x}").as_bytes());
            }
            all.extend(pieces.iter().flatten());
            let mut packets = Packets::default();
            packets.push(&all);
            let mut whole = Vec::new();
            while let Some(packet) = packets.next() {
                if let Packet::Line(line) = &packet {
                    proptest::prop_assert!(!line.is_empty() && line.len() < 1 << 16);
                }
                let junk = packet == Packet::Junk;
                whole.push(packet);
                if junk {
                    break;
                }
            }
            proptest::prop_assert_eq!(self::packets(&all), whole);
        }
    }
}
