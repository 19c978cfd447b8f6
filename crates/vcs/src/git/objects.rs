//! Objects of a mirror, read through one `git cat-file` for as long as it is needed.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::process::Running;
use crate::repository::Trouble;
use crate::{DirectError, ErrorKind};

/// Longest line that describes an object, in bytes.
const MAX_LINE: u64 = 16 << 10;

/// How much is asked in one piece, in bytes: git remembers it until it answers.
const PIECE: usize = 32 << 10;

/// Longest wait for an answer.
const WITHIN: Duration = Duration::from_mins(2);

/// It ended before its answer did.
#[derive(Debug)]
pub(crate) struct Cut;

/// A `git cat-file --batch-command --buffer`.
#[derive(Debug)]
pub(crate) struct Objects {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    running: Running,
    /// Longest wait for an answer.
    limit: Duration,
    /// An answer was asked for and not read whole: nothing can be asked any more.
    owes: bool,
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
    pub(crate) fn new(mut running: Running, limit: Duration) -> Result<Self, DirectError> {
        let stdin = running.take_stdin();
        let stdout = running.take_stdout()?;
        let stdin =
            stdin.ok_or_else(|| DirectError::new(ErrorKind::Overloaded, "cat-file: no pipe"))?;
        Ok(Self {
            stdin,
            stdout,
            running,
            limit: limit.min(WITHIN),
            owes: false,
        })
    }

    /// Whether something was asked that nobody waited for.
    pub(crate) fn owes(&self) -> bool {
        self.owes
    }

    /// What the object of this name is; `None` if there is none, or more than one.
    pub(crate) async fn info(&mut self, name: &str) -> Result<Option<Info>, Trouble> {
        let limit = self.limit;
        bounded(limit, async {
            self.ask("info", name).await?;
            let info = self.header().await?;
            self.owes = false;
            Ok(info)
        })
        .await
    }

    /// The commit that an annotated tag is about, or that is of this hash itself; `None` if there is none.
    pub(crate) async fn commit_of(&mut self, hash: &str) -> Result<Option<String>, Trouble> {
        let info = self.info(&format!("{hash}^{{commit}}")).await?;
        Ok(info.map(|info| info.hash))
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
        let limit = self.limit;
        bounded(limit, self.whole(&info)).await.map(Some)
    }

    async fn whole(&mut self, info: &Info) -> Result<Bytes, Trouble> {
        self.ask("contents", &info.hash).await?;
        let size = self.header().await?.map(|info| info.size);
        if size != Some(info.size) {
            return Err(Trouble::Mirror(format!("{} comes and goes", info.hash)));
        }
        let length = usize::try_from(info.size).unwrap_or(usize::MAX);
        let mut content = vec![0; length + 1];
        match self.stdout.read_exact(&mut content).await {
            Ok(_) if content.pop() == Some(b'\n') => {
                self.owes = false;
                Ok(content.into())
            }
            Ok(_) => Err(Trouble::Mirror(format!("{} cannot be read", info.hash))),
            Err(_) => Err(ended(&mut self.running).await),
        }
    }

    /// Those of these objects that are commits.
    pub(crate) async fn commits<'a>(
        &mut self,
        hashes: &HashSet<&'a str>,
    ) -> Result<HashSet<&'a str>, Trouble> {
        let mut commits = HashSet::new();
        let names: Vec<&str> = hashes.iter().copied().collect();
        let take = |hash, info: Option<Info>, _| {
            if info.is_some_and(|info| info.kind == "commit") {
                commits.insert(hash);
            }
            Ok(())
        };
        self.each("info", &names, 0, take).await?;
        Ok(commits)
    }

    /// What these objects are, in their order; an error if one is missing.
    pub(crate) async fn infos(&mut self, hashes: &[&str]) -> Result<Vec<Info>, Trouble> {
        let mut infos = Vec::with_capacity(hashes.len());
        let take = |hash: &str, info: Option<Info>, _| {
            infos.push(info.ok_or_else(|| missing(hash))?);
            Ok(())
        };
        self.each("info", hashes, 0, take).await?;
        Ok(infos)
    }

    /// The contents of these trees in their order, at most `max` bytes; an error if one is missing.
    pub(crate) async fn trees(
        &mut self,
        hashes: &[&str],
        max: usize,
    ) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut trees = Vec::with_capacity(hashes.len());
        let take = |hash: &str, info: Option<Info>, content| {
            let info = info.ok_or_else(|| missing(hash))?;
            if info.kind != "tree" {
                let text = format!("{hash} in the repository is a {}, not a tree", info.kind);
                return Err(DirectError::invalid(text).into());
            }
            trees.push(content);
            Ok(())
        };
        self.each("contents", hashes, max, take).await?;
        Ok(trees)
    }

    /// Asks the same of all these objects at once, and takes answer by answer, with contents of at most `max` bytes in all: a
    /// round of its own for each takes a hundred times as long.
    async fn each<'a>(
        &mut self,
        command: &str,
        names: &[&'a str],
        max: usize,
        mut take: impl FnMut(&'a str, Option<Info>, Vec<u8>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.owes = true;
        let (stdin, stdout, running) = (&mut self.stdin, &mut self.stdout, &mut self.running);
        let ask = async {
            let asked = ask_all(stdin, command, names).await;
            asked.map_err(|Cut| None)
        };
        let read = async {
            let mut room = max;
            for name in names {
                let info = header(stdout).await.map_err(|Cut| None)?;
                let mut content = Vec::new();
                if let ("contents", Some(info)) = (command, &info) {
                    let size = usize::try_from(info.size).unwrap_or(usize::MAX);
                    room = room.checked_sub(size).ok_or_else(|| {
                        let text = format!("the folders of a commit are larger than {max} bytes");
                        Some(DirectError::too_large(text).into())
                    })?;
                    content.resize(size + 1, 0);
                    let whole = stdout.read_exact(&mut content).await;
                    whole.map_err(|_| None)?;
                    content.pop();
                }
                take(name, info, content).map_err(Some)?;
            }
            Ok(())
        };
        bounded(self.limit, async {
            match tokio::try_join!(ask, read) {
                Ok(_) => Ok(()),
                Err(Some(trouble)) => Err(trouble),
                // It ended before its answers did.
                Err(None) => Err(ended(running).await),
            }
        })
        .await?;
        self.owes = false;
        Ok(())
    }

    async fn ask(&mut self, command: &str, name: &str) -> Result<(), Trouble> {
        if name.contains('\n') {
            return Err(DirectError::not_found("a name with a newline").into());
        }
        self.owes = true;
        match ask_all(&mut self.stdin, command, &[name]).await {
            Ok(()) => Ok(()),
            Err(Cut) => Err(ended(&mut self.running).await),
        }
    }

    async fn header(&mut self) -> Result<Option<Info>, Trouble> {
        match header(&mut self.stdout).await {
            Ok(info) => Ok(info),
            Err(Cut) => Err(ended(&mut self.running).await),
        }
    }

    /// Splits it for a task that asks and one that reads.
    pub(crate) fn split(self) -> (ChildStdin, BufReader<ChildStdout>, Running) {
        (self.stdin, self.stdout, self.running)
    }
}

/// Asks the same of all these objects. What is said in one piece is answered in one, not by three writes for each.
pub(crate) async fn ask_all(
    stdin: &mut ChildStdin,
    command: &str,
    names: &[impl AsRef<str>],
) -> Result<(), Cut> {
    let mut lines = String::new();
    for (at, name) in names.iter().enumerate() {
        lines.extend([command, " ", name.as_ref(), "\n"]);
        if lines.len() > PIECE || at + 1 == names.len() {
            lines.push_str("flush\n");
            stdin.write_all(lines.as_bytes()).await.map_err(|_| Cut)?;
            lines.clear();
        }
    }
    Ok(())
}

fn missing(hash: &str) -> Trouble {
    Trouble::Mirror(format!("the object {hash} is missing"))
}

/// Reads `HASH KIND SIZE`; anything else means that there is no such object.
pub(crate) async fn header(stdout: &mut BufReader<ChildStdout>) -> Result<Option<Info>, Cut> {
    let mut line = Vec::new();
    let mut limited = stdout.take(MAX_LINE);
    limited
        .read_until(b'\n', &mut line)
        .await
        .map_err(|_| Cut)?;
    if line.pop() != Some(b'\n') {
        return Err(Cut);
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

/// Bounds the wait for an answer: it is on our disk, but a disk may hang, and objects be made to take for ever.
async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let text = format!("git cat-file: no answer within {} s", limit.as_secs());
        Err(DirectError::new(ErrorKind::Timeout, text).into())
    })
}

/// What it means that it ended early.
async fn ended(running: &mut Running) -> Trouble {
    match running.ended().await {
        Ok(exit) => Trouble::of_reader("git cat-file", &exit),
        Err(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::command;

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
        // It reads what it is asked, and says nothing.
        let mut mute = command("sh", std::path::Path::new("/"));
        mute.args(["-c", "cat > /dev/null"]);
        let running = Running::start(mute, "x").unwrap();
        let mut objects = Objects::new(running, Duration::from_millis(50)).unwrap();
        let errors = [
            objects.info("HEAD").await.unwrap_err(),
            objects.contents("HEAD", "commit", 1).await.unwrap_err(),
            objects.commits(&HashSet::from(["HEAD"])).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(DirectError::from(error).kind, ErrorKind::Timeout);
        }
    }

    #[tokio::test]
    async fn a_death_is_no_damage() {
        let ended = async |script: &str| {
            let mut shell = command("sh", std::path::Path::new("/"));
            // What it is asked, and then its end.
            shell.args(["-c", &format!("read asked; {script}")]);
            let running = Running::start(shell, "x").unwrap();
            let mut objects = Objects::new(running, Duration::from_secs(20)).unwrap();
            objects.info("HEAD").await.unwrap_err()
        };
        let hash = "1".repeat(40);
        let within = format!("echo {hash} blob 9; read asked; echo {hash} blob 9; echo 123");
        for script in ["kill -9 $$", "echo -n 12; kill -9 $$"] {
            let trouble = ended(script).await;
            assert!(matches!(trouble, Trouble::Killed(_)), "{trouble:?}");
        }
        let mut shell = command("sh", std::path::Path::new("/"));
        shell.args(["-c", &format!("read asked; {within}; kill -9 $$")]);
        let running = Running::start(shell, "x").unwrap();
        let mut objects = Objects::new(running, Duration::from_secs(20)).unwrap();
        let trouble = objects.contents("HEAD", "blob", 9).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Killed(_)), "{trouble:?}");
        let trouble = ended("echo fatal: loose object 12 is corrupt >&2; exit 128").await;
        assert!(matches!(trouble, Trouble::Mirror(_)), "{trouble:?}");
        let trouble = ended("echo 'fatal: Out of memory, malloc failed' >&2; exit 128").await;
        let error = DirectError::from(trouble);
        assert_eq!(error.kind, ErrorKind::Overloaded, "{error:?}");
    }
}
