//! The central directory of a zip file (APPNOTE 4.3), with zip64.

use std::io::{Read, Seek};

use super::{Limits, ZipError, inflate::Window};

const END: u32 = 0x0605_4b50;
const END_BYTES: usize = 22;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const ENTRY: u32 = 0x0201_4b50;
const ENTRY_BYTES: usize = 46;
const MAX_COMMENT_BYTES: u64 = 65535;

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Box<str>,
    pub(super) deflated: bool,
    /// Whether a data descriptor with the CRC follows the content.
    pub(super) descriptor: bool,
    pub(super) crc32: u32,
    pub(super) compressed: u64,
    pub(super) uncompressed: u64,
    pub(super) header_offset: u64,
}

/// Reads all entries, in the directory's order.
pub(super) fn read<R: Read + Seek>(
    window: &mut Window<R>,
    limits: &Limits,
) -> Result<Vec<Entry>, ZipError> {
    let end = find_end(window)?;
    if end.size > limits.max_directory_bytes || end.records > limits.max_entries as u64 {
        return Err(ZipError::TooLarge("the zip's directory"));
    }
    if end.offset.checked_add(end.size) != Some(end.at) {
        return Err(ZipError::Format("the directory is not where its end says"));
    }
    let bytes = window.copy(
        end.offset,
        usize::try_from(end.size).map_err(|_| ZipError::TooLarge("the zip's directory"))?,
    )?;
    let mut rest = &bytes[..];
    let mut entries = Vec::with_capacity(
        usize::try_from(end.records)
            .unwrap_or(0)
            .min(bytes.len() / ENTRY_BYTES),
    );
    while !rest.is_empty() {
        let (entry, after) = entry(rest)?;
        entries.push(entry);
        rest = after;
    }
    if entries.len() as u64 != end.records {
        return Err(ZipError::Format(
            "the directory has another number of entries than it says",
        ));
    }
    Ok(entries)
}

struct End {
    records: u64,
    size: u64,
    offset: u64,
    /// Where the directory must end.
    at: u64,
}

fn find_end<R: Read + Seek>(window: &mut Window<R>) -> Result<End, ZipError> {
    let len = window.len();
    let tail = len.min(MAX_COMMENT_BYTES + END_BYTES as u64);
    let start = len - tail;
    let bytes = window.copy(
        start,
        usize::try_from(tail).map_err(|_| ZipError::Format("too long"))?,
    )?;
    // The last signature counts, as it does for Go: another parser must not see another archive.
    let at = (0..bytes.len().saturating_sub(END_BYTES - 1))
        .rev()
        .find(|&at| u32_at(&bytes, at) == END)
        .ok_or(ZipError::Format("its end is missing"))?;
    if at + END_BYTES + usize::from(u16_at(&bytes, at + 20)) > bytes.len() {
        return Err(ZipError::Format("its comment is cut short"));
    }
    let end = &bytes[at..];
    let mut found = End {
        records: u64::from(u16_at(end, 10)),
        size: u64::from(u32_at(end, 12)),
        offset: u64::from(u32_at(end, 16)),
        at: start + at as u64,
    };
    if u16_at(end, 4) != 0 || u16_at(end, 6) != 0 {
        return Err(ZipError::Format("it is in several parts"));
    }
    // A size of 0xffff is no sign of zip64 in the specification, but it is one for Go.
    if (found.records == 0xffff
        || matches!(found.size, 0xffff | 0xffff_ffff)
        || found.offset == 0xffff_ffff)
        && let Some(locator) = found.at.checked_sub(20)
    {
        let bytes = window.copy(locator, 20)?;
        if u32_at(&bytes, 0) == LOCATOR64 {
            if u32_at(&bytes, 4) != 0 || u32_at(&bytes, 16) != 1 {
                return Err(ZipError::Format("it is in several parts"));
            }
            let at = u64_at(&bytes, 8);
            if at.checked_add(56).is_none_or(|end| end > locator) {
                return Err(ZipError::Format("its zip64 end is misplaced"));
            }
            let end = window.copy(at, 56)?;
            if u32_at(&end, 0) != END64 {
                return Err(ZipError::Format("its zip64 end is missing"));
            }
            found = End {
                records: u64_at(&end, 32),
                size: u64_at(&end, 40),
                offset: u64_at(&end, 48),
                at,
            };
        }
    }
    Ok(found)
}

fn entry(bytes: &[u8]) -> Result<(Entry, &[u8]), ZipError> {
    if bytes.len() < ENTRY_BYTES || u32_at(bytes, 0) != ENTRY {
        return Err(ZipError::Format("a damaged directory entry"));
    }
    let (name_len, extra_len, comment_len) = (
        usize::from(u16_at(bytes, 28)),
        usize::from(u16_at(bytes, 30)),
        usize::from(u16_at(bytes, 32)),
    );
    let after = ENTRY_BYTES + name_len + extra_len + comment_len;
    if bytes.len() < after {
        return Err(ZipError::Format("a directory entry that is cut short"));
    }
    let name = std::str::from_utf8(&bytes[ENTRY_BYTES..ENTRY_BYTES + name_len])
        .map_err(|_| ZipError::Format("a file name that is not UTF-8"))?;
    let fault = |why| ZipError::Entry {
        name: name.chars().take(100).collect(),
        why,
    };
    if u16_at(bytes, 8) & 1 != 0 {
        return Err(fault("encrypted"));
    }
    let deflated = match u16_at(bytes, 10) {
        0 => false,
        8 => true,
        _ => return Err(fault("compressed in a way that Go does not read")),
    };
    let mut entry = Entry {
        name: name.into(),
        deflated,
        descriptor: u16_at(bytes, 8) & 8 != 0,
        crc32: u32_at(bytes, 16),
        compressed: u64::from(u32_at(bytes, 20)),
        uncompressed: u64::from(u32_at(bytes, 24)),
        header_offset: u64::from(u32_at(bytes, 42)),
    };
    zip64(
        &mut entry,
        &bytes[ENTRY_BYTES + name_len..ENTRY_BYTES + name_len + extra_len],
    )
    .map_err(fault)?;
    Ok((entry, &bytes[after..]))
}

/// Takes the values that did not fit from the zip64 extra field, in their fixed order.
fn zip64(entry: &mut Entry, mut extra: &[u8]) -> Result<(), &'static str> {
    const MISSING: u64 = 0xffff_ffff;
    let Entry {
        uncompressed,
        compressed,
        header_offset,
        ..
    } = entry;
    let mut wanted = [uncompressed, compressed, header_offset]
        .into_iter()
        .filter(|value| **value == MISSING)
        .peekable();
    while extra.len() >= 4 && wanted.peek().is_some() {
        let (tag, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(mut field) = extra.get(4..4 + len) else {
            break;
        };
        extra = &extra[4 + len..];
        if tag != 1 {
            continue;
        }
        for value in wanted.by_ref() {
            if field.len() < 8 {
                return Err("a zip64 field that is cut short");
            }
            *value = u64_at(field, 0);
            field = &field[8..];
        }
    }
    if wanted.peek().is_some() {
        Err("a size that is missing")
    } else {
        Ok(())
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}
