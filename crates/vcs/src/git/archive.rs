//! The files of `git archive`, whose tar is read as it comes.

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::ChildStdout;

use crate::DirectError;
use crate::process::{Exit, Running};
use crate::repository::Trouble;
use crate::words::bare;

/// Size of a tar's blocks, in bytes.
const BLOCK: u64 = 512;
/// Longest extended header, in bytes: it has a name of a file.
const MAX_EXTENDED: u64 = 1 << 20;

/// A tar that is read.
#[derive(Debug)]
pub(crate) struct Archive {
    stdout: BufReader<ChildStdout>,
    /// What stands before the names of files.
    prefix: Vec<u8>,
    /// Bytes that are left of the present file, and of the padding behind it.
    left: u64,
    padding: u64,
    running: Option<Running>,
}

/// A header that says something of a file.
struct Header {
    name: Vec<u8>,
    size: u64,
    kind: u8,
}

impl Archive {
    /// Reads what `running` says, which is about the files of a folder.
    pub(crate) fn new(mut running: Running, folder: &str) -> Result<Self, DirectError> {
        drop(running.take_stdin());
        Ok(Self {
            stdout: running.take_stdout()?,
            prefix: if folder.is_empty() {
                Vec::new()
            } else {
                format!("{folder}/").into_bytes()
            },
            left: 0,
            padding: 0,
            running: Some(running),
        })
    }

    /// Goes to the regular file of this name, which comes later; its size.
    pub(crate) async fn next(&mut self, name: &[u8]) -> Result<u64, Trouble> {
        let mut long_name = None;
        loop {
            self.skip(self.left + self.padding).await?;
            (self.left, self.padding) = (0, 0);
            let header = self.header().await?;
            if header.kind == b'x' {
                if header.size > MAX_EXTENDED {
                    return Err(DirectError::invalid("a file's name of more than 1 MiB").into());
                }
                let mut records = vec![0; usize::try_from(header.size).unwrap_or(0)];
                if self.stdout.read_exact(&mut records).await.is_err() {
                    return Err(self.cut().await);
                }
                self.skip(padding(header.size)).await?;
                long_name = path_of(&records);
                continue;
            }
            self.left = header.size;
            self.padding = padding(header.size);
            let full = long_name.take().unwrap_or(header.name);
            let regular = matches!(header.kind, b'0' | 0);
            if regular && full.strip_prefix(&*self.prefix) == Some(name) {
                return Ok(self.left);
            }
        }
    }

    /// More of its content; nothing at the end.
    pub(crate) async fn block(&mut self, block: &mut [u8]) -> Result<usize, Trouble> {
        let want = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(block.len());
        if want == 0 {
            return Ok(0);
        }
        let read = self.stdout.read(&mut block[..want]).await.unwrap_or(0);
        self.left -= read as u64;
        if read == 0 {
            Err(self.cut().await)
        } else {
            Ok(read)
        }
    }

    async fn skip(&mut self, bytes: u64) -> Result<(), Trouble> {
        let mut rest = (&mut self.stdout).take(bytes);
        match tokio::io::copy_buf(&mut rest, &mut tokio::io::sink()).await {
            Ok(skipped) if skipped == bytes => Ok(()),
            _ => Err(self.cut().await),
        }
    }

    /// What it means that the program ended too early. Files that it cannot write as attributes demand are the
    /// repository's matter; only what it says of damage is the mirror's.
    async fn cut(&mut self) -> Trouble {
        let Some(running) = self.running.take() else {
            return Trouble::Mirror("the archive ended before all files came".to_owned());
        };
        match running.finish().await {
            Ok(exit) => judged(&exit),
            Err(error) => error.into(),
        }
    }

    async fn header(&mut self) -> Result<Header, Trouble> {
        let mut block = [0; 512];
        if self.stdout.read_exact(&mut block).await.is_err() {
            return Err(self.cut().await);
        }
        let text = |from: usize, length: usize| {
            let field = &block[from..from + length];
            field.split(|byte| *byte == 0).next().unwrap_or_default()
        };
        let size = std::str::from_utf8(text(124, 12)).ok();
        let size = size.and_then(|digits| u64::from_str_radix(digits.trim(), 8).ok());
        let (prefix, base) = (text(345, 155), text(0, 100));
        let mut name = prefix.to_vec();
        if !prefix.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(base);
        if name.is_empty() {
            // The end, before what was looked for.
            return Err(self.cut().await);
        }
        Ok(Header {
            name,
            size: size.ok_or_else(|| Trouble::Mirror("the archive is no tar".to_owned()))?,
            kind: block[156],
        })
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// The path in an extended header: records `LENGTH KEY=VALUE\n`.
fn path_of(mut records: &[u8]) -> Option<Vec<u8>> {
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(path) = record.strip_prefix(b"path=") {
            return Some(path.to_owned());
        }
        records = &records[length..];
    }
    None
}

/// What `git archive` and `hg archive` say when what they read is damaged, in lower case.
const DAMAGE: [&str; 20] = [
    "corrupt",
    "cannot read object",
    "error: cannot read",
    "cannot stream blob",
    "could not read",
    "unable to read",
    "unable to find",
    "bad object",
    "bad tree object",
    "not a tree object",
    "not a valid object name",
    "inflate",
    "pack has bad object",
    "not a git repository",
    "integrity check failed",
    "no match found",
    "unexpected line in",
    "unterminated line in",
    "couldn't read",
    "bad shallow line",
];

/// What it means how the program ended.
fn judged(exit: &Exit) -> Trouble {
    let said = bare(&exit.stderr);
    let damaged = |line: &String| DAMAGE.iter().any(|words| line.contains(words));
    match exit.code {
        _ if exit.signal.is_some() => Trouble::of_reader("making the archive", exit),
        _ if said.iter().any(damaged) => Trouble::Mirror(exit.stderr.clone()),
        Some(0) => DirectError::invalid("the archive has not all files of the commit").into(),
        _ => DirectError::invalid(format!("no archive can be made: {}", exit.stderr))
            .hint("the go command makes no zip of it either; a new version is needed")
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn only_damage_is_damage() {
        let end = |code, stderr: &str| {
            judged(&Exit {
                code,
                stderr: stderr.to_owned(),
                ..Exit::default()
            })
        };
        for damage in [
            "error: inflate: data stream error (incorrect header check)",
            "fatal: loose object 12 (stored in /x/12) is corrupt",
            "fatal: not a valid object name: 12",
            "fatal: unterminated line in /x/packed-refs: ab",
            "fatal: bad shallow line: ab",
        ] {
            assert!(
                matches!(end(Some(128), damage), Trouble::Mirror(_)),
                "{damage}"
            );
        }
        let kind = |trouble| match trouble {
            Trouble::Other(error) => error.kind,
            other => panic!("{other:?}"),
        };
        let theirs = "fatal: true/false are no valid working-tree-encodings";
        assert_eq!(kind(end(Some(128), theirs)), ErrorKind::Invalid);
        let named = "fatal: 'corrupt' cannot be encoded";
        assert_eq!(kind(end(Some(128), named)), ErrorKind::Invalid);
        let killed = Exit {
            signal: Some(9),
            stderr: "fatal: loose object 12 is corrupt".to_owned(),
            ..Exit::default()
        };
        assert!(matches!(judged(&killed), Trouble::Killed(_)));
    }

    #[test]
    fn extended_headers() {
        assert_eq!(path_of(b"12 path=a/b\n"), Some(b"a/b".to_vec()));
        assert_eq!(path_of(b"9 size=1\n12 path=a/b\n"), Some(b"a/b".to_vec()));
        for bad in [&b"x"[..], b"99 path=a\n", b"0 ", b"3 \n", b"9 size=1\n"] {
            assert_eq!(path_of(bad), None);
        }
        assert_eq!((padding(0), padding(1), padding(512)), (0, 511, 0));
    }
}
