//! Just as much of tar (POSIX.1-2001, "ustar" and "pax") as a bundle needs, so that any tar can unpack one: plain files,
//! and a pax header where a name is too long. Whatever else there may be in an archive is refused.

use std::io::{self, Read, Seek, SeekFrom, Write};

pub(super) const BLOCK: u64 = 512;
const BLOCK_BYTES: usize = 512;
/// Longest pax header that is read, in bytes: a name of a key's length and its frame.
const MAX_PAX: u64 = 8 << 10;
/// Largest file: what eleven octal digits can say.
const MAX_SIZE: u64 = (1 << 33) - 1;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, as it stands there: nothing is believed of it.
    pub(super) name: String,
    /// Where its content begins.
    pub(super) at: u64,
    /// Its length.
    pub(super) size: u64,
}

/// Writes the head of a file of `size` bytes; its content and [`pad`] have to follow.
pub(super) fn head(out: &mut impl Write, name: &str, size: u64) -> io::Result<()> {
    if size > MAX_SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    if let Some((prefix, short)) = split(name) {
        return out.write_all(&header(short, prefix, size, b'0'));
    }
    let record = pax_record("path", name);
    let len = record.len() as u64;
    out.write_all(&header("pax", "", len, b'x'))?;
    out.write_all(record.as_bytes())?;
    pad(out, len)?;
    // Readers take the name from before.
    out.write_all(&header("long-name", "", size, b'0'))
}

/// Fills the last block of a content of `size` bytes.
pub(super) fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = usize::try_from(size % BLOCK).unwrap_or_default();
    if rest > 0 {
        out.write_all(&[0; BLOCK_BYTES][rest..])?;
    }
    Ok(())
}

/// Ends an archive.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK_BYTES])
}

/// A name in two parts as the header has them; `None` if it does not fit.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME {
        return Some(("", name));
    }
    let splits = name.char_indices().filter(|(_, c)| *c == '/');
    splits
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, rest)| prefix.len() <= PREFIX && rest.len() <= NAME)
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let bare = key.len() + value.len() + 3;
    let mut len = bare + 1;
    while bare + len.to_string().len() != len {
        len += 1;
    }
    format!("{len} {key}={value}\n")
}

/// The same for every file of one name and size: no time, no owner.
fn header(name: &str, prefix: &str, size: u64, kind: u8) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The sum of a header's bytes, with spaces in the place of the sum.
fn checksum(block: &[u8; BLOCK_BYTES]) -> u64 {
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let field: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
    sum - field + 8 * u64::from(b' ')
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The files in an archive, in order; their contents are passed over. At most `most` of them.
pub(super) fn entries(archive: &mut (impl Read + Seek), most: usize) -> io::Result<Vec<Entry>> {
    let len = archive.seek(SeekFrom::End(0))?;
    let mut at = archive.seek(SeekFrom::Start(0))?;
    let (mut entries, mut long) = (Vec::new(), None);
    loop {
        let mut block = [0; BLOCK_BYTES];
        archive
            .read_exact(&mut block)
            .map_err(|_| bad("not a whole tar archive: it has no end"))?;
        at += BLOCK;
        if block == [0; BLOCK_BYTES] {
            return Ok(entries);
        }
        let (kind, size) = (block[156], size_of(&block)?);
        let next = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|padded| at.checked_add(padded))
            .filter(|next| *next <= len)
            .ok_or_else(|| bad("not a whole tar archive: a file is cut off"))?;
        match kind {
            b'x' if long.is_none() && size <= MAX_PAX => {
                let mut record = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                archive.read_exact(&mut record)?;
                long = Some(pax_path(&record)?);
            }
            b'0' | 0 => {
                let name = match long.take() {
                    Some(long) => long,
                    None => name_of(&block)?,
                };
                if entries.len() == most {
                    return Err(bad("too many files"));
                }
                entries.push(Entry { name, at, size });
            }
            _ => {
                return Err(bad(
                    "something else than plain files: a link, a folder or worse",
                ));
            }
        }
        at = archive.seek(SeekFrom::Start(next))?;
    }
}

fn size_of(block: &[u8; BLOCK_BYTES]) -> io::Result<u64> {
    if &block[257..262] != b"ustar" {
        return Err(bad("not a tar archive of the form that a bundle has"));
    }
    if octal(&block[148..156])? != checksum(block) {
        return Err(bad("a head in the archive was altered"));
    }
    octal(&block[124..136])
}

fn octal(field: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(field).unwrap_or_default();
    let text = text.trim_matches(['\0', ' ']);
    let digits = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let number = digits.then(|| u64::from_str_radix(text, 8).ok()).flatten();
    number.ok_or_else(|| bad("a number in the archive cannot be read"))
}

fn name_of(block: &[u8; BLOCK_BYTES]) -> io::Result<String> {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0);
        let text = std::str::from_utf8(&field[..end.unwrap_or(field.len())]);
        text.map(str::to_owned)
            .map_err(|_| bad("a name in the archive is not text"))
    };
    let (name, prefix) = (text(&block[..NAME])?, text(&block[345..345 + PREFIX])?);
    Ok(if prefix.is_empty() {
        name
    } else {
        format!("{prefix}/{name}")
    })
}

/// The one thing that a pax header may say here.
fn pax_path(record: &[u8]) -> io::Result<String> {
    let text = std::str::from_utf8(record).map_err(|_| bad("a pax header is not text"))?;
    let path = text
        .split_once(' ')
        .filter(|(len, _)| len.parse() == Ok(record.len()))
        .and_then(|(_, rest)| rest.strip_prefix("path=")?.strip_suffix('\n'))
        // Other readers would end the name there.
        .filter(|path| !path.contains('\0'));
    path.map(str::to_owned)
        .ok_or_else(|| bad("a pax header says something else than a name"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files {
            head(&mut out, name, content.len() as u64).unwrap();
            out.extend_from_slice(content);
            pad(&mut out, content.len() as u64).unwrap();
        }
        end(&mut out).unwrap();
        out
    }

    fn read(archive: &[u8]) -> io::Result<Vec<Entry>> {
        entries(&mut Cursor::new(archive), 100)
    }

    #[test]
    fn what_is_written_is_read_here_and_by_tar() {
        let deep = format!(
            "go/{}/@v/v1.0.0.mod",
            "long-folder/".repeat(12).trim_end_matches('/')
        );
        let deeper = format!("go/{}/@v/v1.0.0.mod", "x".repeat(300));
        let files: Vec<(&str, &[u8])> = vec![
            ("a", b"hello"),
            (&deep, b"module deep\n"),
            (&deeper, &[7; 512]),
            ("empty", b""),
        ];
        let archive = archive(&files);
        for (entry, (name, content)) in read(&archive).unwrap().iter().zip(&files) {
            assert_eq!(entry.name, *name);
            let at = usize::try_from(entry.at).unwrap();
            assert_eq!(&archive[at..at + content.len()], *content);
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tar");
        std::fs::write(&file, &archive).unwrap();
        let listed = std::process::Command::new("tar")
            .arg("tf")
            .arg(&file)
            .output()
            .unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(listed.lines().collect::<Vec<_>>(), names);
    }

    #[test]
    fn what_else_an_archive_may_have_is_refused() {
        let good = archive(&[("a", b"hello"), ("b", b"x")]);
        assert_eq!(read(&good).unwrap().len(), 2);
        assert!(entries(&mut Cursor::new(&good), 1).is_err(), "too many");
        let with = |kind: u8| {
            let mut bad = good.clone();
            bad[156] = kind;
            let mut block: [u8; BLOCK_BYTES] = bad[..BLOCK_BYTES].try_into().unwrap();
            let sum = checksum(&block);
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bad[..BLOCK_BYTES].copy_from_slice(&block);
            bad
        };
        assert_eq!(read(&with(0)).unwrap().len(), 2);
        for kind in b"12345679xgLK" {
            assert!(read(&with(*kind)).is_err(), "{}", char::from(*kind));
        }
        for cut in [0, 1, 511, 512, 600, 1024, 1500, 2048] {
            assert!(read(&good[..cut]).is_err(), "{cut}");
        }
        let mut altered = good.clone();
        altered[0] = b'z';
        assert!(read(&altered).is_err(), "a head with another name");
        assert!(read(&[b'x'; 4096]).is_err(), "no archive at all");
        let cut_name = format!("go/{}\0{}", "x".repeat(100), "y".repeat(100));
        assert!(
            read(&archive(&[(&cut_name, b"x")])).is_err(),
            "found by fuzzing"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_at_all_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..2048)) {
            let _ = read(&bytes);
        }
    }
}
