//! pkt-lines: what comes does not depend on how it was cut, and a line that was written reads back.
#![no_main]
use libfuzzer_sys::fuzz_target;

// The one file, so that the whole of direct fetch need not be instrumented.
#[path = "../../crates/vcs/src/git/packet.rs"]
mod packet;

use packet::{Packet, Packets};

/// All that comes, up to the first junk; `cut` is how many bytes come at a time.
fn read(data: &[u8], cut: usize) -> Vec<Packet> {
    let mut packets = Packets::default();
    let mut all = Vec::new();
    for part in data.chunks(cut) {
        packets.push(part);
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

fuzz_target!(|data: &[u8]| {
    let whole = read(data, usize::MAX);
    assert_eq!(whole, read(data, 1));
    for packet in &whole {
        let Packet::Line(line) = packet else { continue };
        assert!(!line.is_empty() && packet::text(line).len() <= line.len());
        if let Ok(line) = std::str::from_utf8(line) {
            let mut written = Vec::new();
            packet::put(&mut written, line);
            assert_eq!(read(&written, 3), [Packet::Line(line.as_bytes().into())]);
        }
    }
});
