//! Objects of a mirror, read through one `git cat-file` for as long as it is needed.

use std::collections::HashSet;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use crate::process::Running;
use crate::repository::Trouble;
use crate::{DirectError, ErrorKind};

/// Longest line that describes an object, in bytes.
const MAX_LINE: u64 = 16 << 10;

/// A `git cat-file --batch-command`.
#[derive(Debug)]
pub(crate) struct Objects {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    running: Running,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) hash: String,
    /// `commit`, `tree`, `blob` or `tag`.
    pub(crate) kind: String,
    /// In bytes.
    pub(crate) size: u64,
}

impl Objects {
    pub(crate) fn new(mut running: Running) -> Result<Self, DirectError> {
        let stdin = running.take_stdin();
        let stdout = running.take_stdout()?;
        let stdin =
            stdin.ok_or_else(|| DirectError::new(ErrorKind::Overloaded, "cat-file: no pipe"))?;
        Ok(Self {
            stdin,
            stdout,
            running,
        })
    }

    /// What the object of this name is; `None` if there is none, or more than one.
    pub(crate) async fn info(&mut self, name: &str) -> Result<Option<Info>, Trouble> {
        self.ask("info", name).await?;
        self.header().await
    }

    /// The content of a blob or commit up to `max` bytes; `None` if there is none of that kind.
    pub(crate) async fn contents(
        &mut self,
        name: &str,
        kind: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        let Some(info) = self.info(name).await?.filter(|info| info.kind == kind) else {
            return Ok(None);
        };
        if info.size > max {
            let text = format!("{name}: larger than {max} bytes");
            return Err(DirectError::invalid(text).into());
        }
        self.ask("contents", &info.hash).await?;
        let size = self.header().await?.map(|info| info.size);
        if size != Some(info.size) {
            return Err(Trouble::Mirror(format!("{} comes and goes", info.hash)));
        }
        let length = usize::try_from(info.size).unwrap_or(usize::MAX);
        let mut content = vec![0; length + 1];
        match self.stdout.read_exact(&mut content).await {
            Ok(_) if content.pop() == Some(b'\n') => Ok(Some(content.into())),
            _ => Err(Trouble::Mirror(format!("{} cannot be read", info.hash))),
        }
    }

    /// Those of these objects that are commits. All are asked for at once: a round of its own for each takes a hundred
    /// times as long.
    pub(crate) async fn commits<'a>(
        &mut self,
        hashes: &HashSet<&'a str>,
    ) -> Result<HashSet<&'a str>, Trouble> {
        let (stdin, stdout) = (&mut self.stdin, &mut self.stdout);
        let ask = async {
            for hash in hashes {
                let line = format!("info {hash}\n");
                stdin
                    .write_all(line.as_bytes())
                    .await
                    .map_err(|_| ended())?;
            }
            Ok(())
        };
        let read = async {
            let mut commits = HashSet::new();
            for hash in hashes {
                let info = header(stdout).await?;
                if info.is_some_and(|info| info.kind == "commit") {
                    commits.insert(*hash);
                }
            }
            Ok::<_, Trouble>(commits)
        };
        let ((), commits) = tokio::try_join!(ask, read)?;
        Ok(commits)
    }

    async fn ask(&mut self, command: &str, name: &str) -> Result<(), Trouble> {
        if name.contains('\n') {
            return Err(DirectError::not_found("a name with a newline").into());
        }
        let line = format!("{command} {name}\n");
        self.stdin
            .write_all(line.as_bytes())
            .await
            .map_err(|_| ended())
    }

    async fn header(&mut self) -> Result<Option<Info>, Trouble> {
        header(&mut self.stdout).await
    }

    /// Splits it for a task that asks and one that reads.
    pub(crate) fn split(self) -> (ChildStdin, BufReader<ChildStdout>, Running) {
        (self.stdin, self.stdout, self.running)
    }
}

/// Reads `HASH KIND SIZE`; anything else means that there is no such object.
pub(crate) async fn header(stdout: &mut BufReader<ChildStdout>) -> Result<Option<Info>, Trouble> {
    let mut line = Vec::new();
    let mut limited = stdout.take(MAX_LINE);
    limited
        .read_until(b'\n', &mut line)
        .await
        .map_err(|_| ended())?;
    if line.pop() != Some(b'\n') {
        return Err(ended());
    }
    let line = String::from_utf8_lossy(&line);
    let mut fields = line.rsplitn(3, ' ');
    let (size, kind, hash) = (fields.next(), fields.next(), fields.next());
    let (Some(Ok(size)), Some(kind), Some(hash)) = (size.map(str::parse), kind, hash) else {
        return Ok(None);
    };
    Ok(super::refs::is_full_hash(hash).then(|| Info {
        hash: hash.to_owned(),
        kind: kind.to_owned(),
        size,
    }))
}

fn ended() -> Trouble {
    Trouble::Mirror("git cat-file ended early".to_owned())
}
