//! Writing zip files, wrong ones too: every field can be set.

use std::io::Write;

use flate2::{Compression, write::DeflateEncoder};

/// The data descriptor behind an entry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptor {
    None,
    Signed,
    Unsigned,
    WrongCrc,
    /// Announced, but not there.
    Missing,
}

/// An entry; what is `None` is as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) descriptor: Descriptor,
    pub(crate) crc: Option<u32>,
    pub(crate) size: Option<u32>,
    pub(crate) compressed: Option<u32>,
    pub(crate) offset: Option<u32>,
    pub(crate) extra: Vec<u8>,
    pub(crate) comment: Vec<u8>,
    pub(crate) unix_mode: u32,
    /// Sizes and offset in a zip64 extra field.
    pub(crate) zip64: bool,
    /// Bytes after the deflate stream, counted as compressed.
    pub(crate) trailing: Vec<u8>,
}

impl Entry {
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            content: content.to_vec(),
            method: 8,
            flags: 0,
            descriptor: Descriptor::None,
            crc: None,
            size: None,
            compressed: None,
            offset: None,
            extra: Vec::new(),
            comment: Vec::new(),
            unix_mode: 0,
            zip64: false,
            trailing: Vec::new(),
        }
    }
}

/// What stands around the entries; what is `None` is as it should be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) before: Vec<u8>,
    pub(crate) between: Vec<u8>,
    pub(crate) comment: Vec<u8>,
    pub(crate) comment_len: Option<u16>,
    pub(crate) records: Option<u16>,
    pub(crate) directory_size: Option<u32>,
    pub(crate) directory_offset: Option<u32>,
    pub(crate) disk: u16,
    /// A zip64 end, with this number of disks.
    pub(crate) zip64: Option<u32>,
    pub(crate) records64: Option<u64>,
    pub(crate) after: Vec<u8>,
}

pub(crate) fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn write(entries: &[Entry], frame: &Frame) -> Vec<u8> {
    let mut file = frame.before.clone();
    let mut directory = Vec::new();
    for entry in entries {
        entry_into(&mut file, &mut directory, entry);
    }
    file.extend_from_slice(&frame.between);
    let offset = u32::try_from(file.len()).unwrap();
    let size = u32::try_from(directory.len()).unwrap();
    file.append(&mut directory);
    let mut records = u16::try_from(entries.len()).unwrap();
    let (mut end_size, mut end_offset) = (size, offset);
    if let Some(disks) = frame.zip64 {
        let at = file.len() as u64;
        let count = frame.records64.unwrap_or(entries.len() as u64);
        file.extend_from_slice(&0x0606_4b50u32.to_le_bytes());
        file.extend_from_slice(&44u64.to_le_bytes());
        file.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for value in [count, count, size.into(), offset.into()] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        file.extend_from_slice(&0x0706_4b50u32.to_le_bytes());
        file.extend_from_slice(&0u32.to_le_bytes());
        file.extend_from_slice(&at.to_le_bytes());
        file.extend_from_slice(&disks.to_le_bytes());
        (records, end_size, end_offset) = (0xffff, 0xffff_ffff, 0xffff_ffff);
    }
    let records = frame.records.unwrap_or(records);
    file.extend_from_slice(&0x0605_4b50u32.to_le_bytes());
    for value in [frame.disk, 0, records, records] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(&frame.directory_size.unwrap_or(end_size).to_le_bytes());
    file.extend_from_slice(&frame.directory_offset.unwrap_or(end_offset).to_le_bytes());
    let comment_len = u16::try_from(frame.comment.len()).unwrap();
    file.extend_from_slice(&frame.comment_len.unwrap_or(comment_len).to_le_bytes());
    file.extend_from_slice(&frame.comment);
    file.extend_from_slice(&frame.after);
    file
}

fn entry_into(file: &mut Vec<u8>, directory: &mut Vec<u8>, entry: &Entry) {
    let offset = u32::try_from(file.len()).unwrap();
    let mut body = match entry.method {
        8 => deflated(&entry.content),
        _ => entry.content.clone(),
    };
    body.extend_from_slice(&entry.trailing);
    let crc = entry.crc.unwrap_or_else(|| crc32fast::hash(&entry.content));
    let mut size = entry
        .size
        .unwrap_or(u32::try_from(entry.content.len()).unwrap());
    let mut compressed = entry
        .compressed
        .unwrap_or(u32::try_from(body.len()).unwrap());
    let mut place = entry.offset.unwrap_or(offset);
    let mut extra = entry.extra.clone();
    if entry.zip64 {
        extra.extend_from_slice(&[1, 0, 24, 0]);
        for value in [size, compressed, place] {
            extra.extend_from_slice(&u64::from(value).to_le_bytes());
        }
        (size, compressed, place) = (u32::MAX, u32::MAX, u32::MAX);
    }
    let announced = entry.descriptor != Descriptor::None;
    let flags = entry.flags | if announced { 8 } else { 0 };
    let len = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_le_bytes();

    file.extend_from_slice(&0x0403_4b50u32.to_le_bytes());
    for value in [20, flags, entry.method, 0, 0] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    for value in [crc, compressed, size] {
        let value = if announced { 0 } else { value };
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(&len(&entry.name));
    file.extend_from_slice(&[0, 0]);
    file.extend_from_slice(&entry.name);
    file.extend_from_slice(&body);
    let signature = 0x0807_4b50u32.to_le_bytes();
    let descriptor: &[&[u8]] = match entry.descriptor {
        Descriptor::None | Descriptor::Missing => &[],
        Descriptor::Signed => &[&signature, &crc.to_le_bytes(), &[0; 8]],
        Descriptor::Unsigned => &[&crc.to_le_bytes(), &[0; 8]],
        Descriptor::WrongCrc => &[&signature, &(crc ^ 1).to_le_bytes(), &[0; 8]],
    };
    file.extend_from_slice(&descriptor.concat());

    directory.extend_from_slice(&0x0201_4b50u32.to_le_bytes());
    for value in [0x0314, 20, flags, entry.method, 0, 0] {
        directory.extend_from_slice(&value.to_le_bytes());
    }
    for value in [crc, compressed, size] {
        directory.extend_from_slice(&value.to_le_bytes());
    }
    directory.extend_from_slice(&len(&entry.name));
    directory.extend_from_slice(&len(&extra));
    directory.extend_from_slice(&len(&entry.comment));
    directory.extend_from_slice(&[0; 4]);
    directory.extend_from_slice(&(entry.unix_mode << 16).to_le_bytes());
    directory.extend_from_slice(&place.to_le_bytes());
    directory.extend_from_slice(&entry.name);
    directory.extend_from_slice(&extra);
    directory.extend_from_slice(&entry.comment);
}
