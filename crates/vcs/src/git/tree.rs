//! The files of a commit.

use std::sync::Arc;

use gomod::zip::Kind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;

use super::archive::Archive;
use super::objects::{Objects, header};
use super::{GitRepository, command, names};
use crate::process::{Running, within};
use crate::repository::Trouble;
use crate::zip::{Content, Entry, Files};
use crate::{DirectError, ErrorKind};

/// Most files of a commit, and the bytes of their names: more than any zip may have.
const MAX_FILES: usize = 1_000_000;
const MAX_BYTES: usize = 128 << 20;
/// Longest line of a listing, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// Largest `.gitattributes` that is read, in bytes. git itself reads up to 100 MiB of it.
const MAX_ATTRIBUTES: u64 = 1 << 20;
/// The mode of links.
const LINK: &[u8] = b"120000";
/// Words of `.gitattributes` that may change what a file's content is when it leaves the repository.
const CONVERTING: [&[u8]; 4] = [b"eol", b"crlf", b"ident", b"encoding"];

/// The content of files as it is in the repository, by `cat-file`.
#[derive(Debug)]
pub(crate) struct Blobs {
    stdout: BufReader<ChildStdout>,
    /// Bytes that are left of the present file.
    left: u64,
    asking: JoinHandle<()>,
    running: Option<Running>,
}

impl GitRepository {
    /// All files in a folder of a commit that is there.
    pub(crate) async fn files(mut self, hash: &str, folder: &str) -> Result<Files, Trouble> {
        let tree = if folder.is_empty() {
            hash.to_owned()
        } else {
            format!("{hash}:{folder}")
        };
        if !folder.is_empty() {
            // The other names count too: git makes no archive of a part of such a commit.
            self.lines(&["-r"], hash, allowed).await?;
        }
        let (entries, hashes) = self.list(&tree, folder.is_empty()).await?;
        let converted = self.converts(hash, folder, &entries).await?;
        let content = if converted {
            // Only git itself knows all rules of attributes.
            let mut git = command::local(&self.mirror.folder);
            git.args(["archive", "--format=tar", hash]);
            if !folder.is_empty() {
                git.args(["--", folder]);
            }
            let archive = Archive::new(Running::start(git, "git archive")?, folder)?;
            Content::Archive(Box::new(archive))
        } else {
            Content::Objects {
                hashes,
                objects: Box::new(self.take_objects()?),
            }
        };
        Ok(Files {
            entries,
            content,
            mirror: Some((Arc::clone(&self.mirror), self.generation)),
        })
    }

    /// Names, kinds, sizes and hashes, in the order of the tree. What is no file and no link is left out: a submodule is
    /// an empty folder to an archive. Names are checked if the tree is the `whole` one.
    async fn list(&self, tree: &str, whole: bool) -> Result<(Vec<Entry>, Vec<String>), Trouble> {
        let (mut entries, mut hashes) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        let take = |line: &[u8]| {
            if whole {
                allowed(line)?;
            }
            if let Some((entry, hash)) = entry(line)? {
                bytes += entry.name.len() + hash.len();
                entries.push(entry);
                hashes.push(hash);
            }
            if entries.len() > MAX_FILES || bytes > MAX_BYTES {
                let text =
                    format!("more than {MAX_FILES} files, or names of more than {MAX_BYTES} bytes");
                return Err(DirectError::too_large(text).into());
            }
            Ok(())
        };
        self.lines(&["-r", "-l"], tree, take).await?;
        Ok((entries, hashes))
    }

    /// Hands over the lines of a listing of a tree, without their ends.
    async fn lines(
        &self,
        args: &[&str],
        tree: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let what = "git ls-tree";
        let mut git = command::local(&self.mirror.folder);
        git.args(["ls-tree", "-z", "--full-tree"]);
        git.args(args).arg(tree);
        within(self.bounds.time, what, async {
            let mut running = Running::start(git, what)?;
            drop(running.take_stdin());
            let mut stdout = running.take_stdout()?;
            let mut line = Vec::new();
            while let Ok(1..) = (&mut stdout).take(MAX_LINE).read_until(0, &mut line).await {
                if let Err(trouble) = take(line.strip_suffix(b"\0").unwrap_or(&line)) {
                    return Ok(Err(trouble));
                }
                line.clear();
            }
            let exit = running.finish().await?;
            Ok(if exit.success() {
                Ok(())
            } else {
                Err(Trouble::of_reader(what, &exit))
            })
        })
        .await?
    }

    /// Whether attributes may change the content of a file. They stand in the folder, in those below, and in those above.
    async fn converts(
        &mut self,
        hash: &str,
        folder: &str,
        entries: &[Entry],
    ) -> Result<bool, Trouble> {
        const NAME: &str = ".gitattributes";
        let below = entries.iter().filter_map(|entry| {
            let name = std::str::from_utf8(&entry.name).ok()?;
            let own = name.rsplit('/').next() == Some(NAME) && !name.contains('\n');
            own.then(|| {
                if folder.is_empty() {
                    name.to_owned()
                } else {
                    format!("{folder}/{name}")
                }
            })
        });
        let mut files: Vec<String> = below.collect();
        let elements: Vec<&str> = folder
            .split('/')
            .filter(|element| !element.is_empty())
            .collect();
        for depth in 0..elements.len() {
            let above = &elements[..depth];
            files.push([above, &[NAME]].concat().join("/"));
        }
        for file in files {
            match self.read(hash, &file, MAX_ATTRIBUTES).await {
                Ok(Some(text)) => {
                    let has = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
                    if CONVERTING.iter().any(|word| has(word)) {
                        return Ok(true);
                    }
                }
                Ok(None) => {}
                // Too large to look at: it may well say so.
                Err(Trouble::Other(error)) if error.kind == ErrorKind::Invalid => return Ok(true),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(false)
    }
}

/// Refuses names that git makes no archive of.
fn allowed(line: &[u8]) -> Result<(), Trouble> {
    let name = line.splitn(2, |byte| *byte == b'\t').nth(1).unwrap_or(b"");
    if names::is_allowed(name, line.starts_with(LINK)) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let text = format!("{name:?} in the repository is a name that git does not take");
    Err(DirectError::invalid(text)
        .hint("the go command makes no zip of it either")
        .into())
}

/// Reads `MODE KIND HASH SIZE\tNAME`; nothing, if it is no file. Of one that is lost, git says no size.
fn entry(line: &[u8]) -> Result<Option<(Entry, String)>, Trouble> {
    let unreadable = || {
        let line = String::from_utf8_lossy(line);
        Trouble::Mirror(format!("git lists {line:?}: the file is missing"))
    };
    let tab = line.iter().position(|byte| *byte == b'\t');
    let (head, name) = line.split_at(tab.ok_or_else(unreadable)?);
    let head = std::str::from_utf8(head).map_err(|_| unreadable())?;
    let fields: Vec<&str> = head.split_ascii_whitespace().collect();
    let [mode, kind, hash, size] = fields[..] else {
        return Err(unreadable());
    };
    // A submodule.
    if kind == "commit" {
        return Ok(None);
    }
    let (Ok(size), "blob") = (size.parse(), kind) else {
        return Err(unreadable());
    };
    let entry = Entry {
        name: name[1..].to_owned(),
        kind: if mode.as_bytes() == LINK {
            Kind::Symlink
        } else {
            Kind::Regular
        },
        size,
    };
    Ok(Some((entry, hash.to_owned())))
}

impl Blobs {
    /// Asks for all of these at once, and reads them in this order.
    pub(crate) fn new(objects: Objects, wanted: Vec<String>) -> Self {
        let (mut stdin, stdout, running) = objects.split();
        let asking = tokio::spawn(async move {
            let mut lines = String::new();
            for hash in wanted {
                lines.push_str("contents ");
                lines.push_str(&hash);
                lines.push('\n');
                if lines.len() > 32 << 10 {
                    if stdin.write_all(lines.as_bytes()).await.is_err() {
                        return;
                    }
                    lines.clear();
                }
            }
            // An error here is seen where the answers are read.
            let _ = stdin.write_all(lines.as_bytes()).await;
        });
        Self {
            stdout,
            left: 0,
            asking,
            running: Some(running),
        }
    }

    /// Goes to the next file; its size.
    pub(crate) async fn next(&mut self) -> Result<u64, Trouble> {
        let Ok(info) = header(&mut self.stdout).await else {
            return Err(self.cut().await);
        };
        let info = info.ok_or_else(|| Trouble::Mirror("a file is missing".to_owned()))?;
        self.left = info.size;
        if self.left == 0 {
            self.end().await?;
        }
        Ok(info.size)
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
        if read == 0 {
            return Err(self.cut().await);
        }
        self.left -= read as u64;
        if self.left == 0 {
            self.end().await?;
        }
        Ok(read)
    }

    async fn end(&mut self) -> Result<(), Trouble> {
        match self.stdout.read_u8().await {
            Ok(b'\n') => Ok(()),
            _ => Err(self.cut().await),
        }
    }

    /// What it means that it ended within a file: it reads nothing but the mirror.
    async fn cut(&mut self) -> Trouble {
        let Some(running) = self.running.take() else {
            return Trouble::Mirror("git cat-file ended within a file".to_owned());
        };
        match running.finish().await {
            Ok(exit) => Trouble::of_reader("git cat-file", &exit),
            Err(error) => error.into(),
        }
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        self.asking.abort();
    }
}
