//! The files of a commit.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;

use super::archive::Archive;
use super::objects::{Objects, ask_all, header};
use super::trees::Trees;
use super::{GitRepository, command};
use crate::process::Running;
use crate::repository::Trouble;
use crate::zip::{Content, Entry, Files};
use crate::{DirectError, ErrorKind};

/// Largest `.gitattributes` that is read, in bytes. git itself reads up to 100 MiB of it.
const MAX_ATTRIBUTES: u64 = 1 << 20;
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
        let (entries, hashes) = self.list(hash, folder).await?;
        let converted = self.converts(hash, folder, &entries).await?;
        let content = if converted {
            if !self.mirror.archives_unchanged().await {
                return Err(Trouble::Mirror("its own attributes are lost".to_owned()));
            }
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

    /// Names, kinds, sizes and hashes of the files in a folder, in the order of the tree. What is no file and no link is left
    /// out: a submodule is an empty folder to an archive. The names outside of the folder count too: git makes no archive of
    /// a part of a commit where it does not take one of them.
    async fn list(
        &mut self,
        hash: &str,
        folder: &str,
    ) -> Result<(Vec<Entry>, Vec<String>), Trouble> {
        let objects = self.objects()?;
        let commit = objects.info(&format!("{hash}^{{tree}}")).await?;
        let root =
            commit.ok_or_else(|| Trouble::Mirror(format!("the tree of {hash} is missing")))?;
        let digits = root.hash.len();
        let mut trees = Trees::default();
        let mut level = vec![root.hash.clone()];
        while !level.is_empty() {
            let asked: Vec<&str> = level.iter().map(String::as_str).collect();
            let read = objects.trees(&asked, trees.room()).await?;
            level = trees.add(level.into_iter().zip(read).collect(), digits)?;
        }
        let leaves = trees.leaves(&root.hash, digits, folder)?;
        let asked: Vec<&str> = leaves.iter().map(|leaf| &*leaf.hash).collect();
        let infos = objects.infos(&asked).await?;
        let mut entries = Vec::with_capacity(leaves.len());
        let mut hashes = Vec::with_capacity(leaves.len());
        for (leaf, info) in leaves.into_iter().zip(infos) {
            if info.kind != "blob" {
                let name = String::from_utf8_lossy(&leaf.name);
                let text = format!("{name:?} in the repository is a {}, not a file", info.kind);
                return Err(DirectError::invalid(text).into());
            }
            entries.push(Entry {
                name: leaf.name,
                kind: leaf.kind,
                size: info.size,
            });
            hashes.push(leaf.hash);
        }
        Ok((entries, hashes))
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

impl Blobs {
    /// Asks for all of these at once, and reads them in this order.
    pub(crate) fn new(objects: Objects, wanted: Vec<String>) -> Self {
        let (mut stdin, stdout, running) = objects.split();
        let asking = tokio::spawn(async move {
            // An error here is seen where the answers are read.
            let _ = ask_all(&mut stdin, "contents", &wanted).await;
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
