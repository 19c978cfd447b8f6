//! Child processes: an own process group that is killed when nobody wants it any more, a time limit, bounded output,
//! an environment of little, and no terminal to ask at.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::Access;
use rustix::process::{Pid, Signal, kill_process_group};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{DirectError, ErrorKind, orphans};

/// How much of what a child complains is kept, in bytes.
const MAX_STDERR: usize = 16 << 10;
/// Block of the pipe from a child, in bytes.
const BLOCK: usize = 64 << 10;

/// A command with the environment that every child gets. `home` is a folder without configuration.
pub(crate) fn command(program: &str, home: &Path) -> Command {
    // Where programs are is the machine's matter, and the one thing that a child needs to know of it.
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    // A program that must be looked for is started by a copy of this whole process, which takes milliseconds.
    let mut command = match found(program, &path) {
        Some(file) => Command::new(file),
        None => Command::new(program),
    };
    command.env_clear();
    command.env("PATH", path);
    command
        .env("HOME", home)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        // By this an orphan is known after a crash.
        .env(orphans::MARK, orphans::run());
    command.current_dir(home);
    command
}

/// The file of a program in the folders of a PATH.
fn found(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        // Those named from the present folder mean another one for the child.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|file| rustix::fs::access(file, Access::EXEC_OK).is_ok() && file.is_file())
}

/// A child that runs; killed with its group when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    // Killed before the child is let go: until then its number is its own.
    group: Group,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
    /// What it is doing, for errors.
    what: String,
}

/// How a child ended.
#[derive(Debug, Default)]
pub(crate) struct Exit {
    /// The code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// What it complained, shortened.
    pub(crate) stderr: String,
}

impl Exit {
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Whether it ended by itself because something was wrong.
    pub(crate) fn is_complaint(&self) -> bool {
        self.code.is_some_and(|code| code != 0)
    }

    /// What it complained in one line, or else how it ended.
    pub(crate) fn said(&self) -> String {
        // ssh frames its warnings by lines of `@`, which leave no room for what they say.
        let lines = self.stderr.lines().map(|line| match line.trim() {
            framed if framed.starts_with('@') && framed.ends_with('@') => {
                framed.trim_matches('@').trim()
            }
            line => line,
        });
        let said: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        match (self.code, self.signal) {
            (_, Some(signal)) => format!("killed by signal {signal} {}", said.join("; ")),
            (Some(code), _) if said.is_empty() => format!("ended with {code}"),
            _ => said.join("; "),
        }
    }
}

#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// Starts a child with pipes.
    pub(crate) fn start(
        mut command: Command,
        what: impl Into<String>,
    ) -> Result<Self, DirectError> {
        let file = Path::new(command.as_std().get_program());
        let program = file.file_name().unwrap_or(file.as_os_str());
        let program = program.to_string_lossy().into_owned();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if command_exists(&command) => {
                DirectError::disk("the folder of mirrors", &error)
            }
            std::io::ErrorKind::NotFound => DirectError::new(
                ErrorKind::MissingProgram,
                format!("the program {program} is not installed"),
            )
            .hint(format!(
                "install {} where modgate runs, or see to it that {program} is in its PATH",
                package(&program)
            )),
            _ => DirectError::new(
                ErrorKind::Overloaded,
                format!("{program} cannot be started: {error}"),
            ),
        })?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let stdout = child
            .stdout
            .take()
            .map(|pipe| BufReader::with_capacity(BLOCK, pipe));
        let stderr = child.stderr.take();
        Ok(Self {
            group: Group(pid),
            stdin: child.stdin.take(),
            stdout,
            stderr: tokio::spawn(async move {
                match stderr {
                    Some(pipe) => complaint(pipe).await,
                    None => String::new(),
                }
            }),
            child,
            what: what.into(),
        })
    }

    /// The pipe to the child; once.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The pipe from the child; once.
    pub(crate) fn take_stdout(&mut self) -> Result<BufReader<ChildStdout>, DirectError> {
        self.stdout.take().ok_or_else(|| {
            DirectError::new(ErrorKind::Overloaded, format!("{}: no pipe", self.what))
        })
    }

    /// Waits for the end, with nothing more to say to the child.
    pub(crate) async fn finish(mut self) -> Result<Exit, DirectError> {
        drop(self.stdin.take());
        self.ended().await
    }

    /// Waits for the end of a child that nothing more is said to; once.
    pub(crate) async fn ended(&mut self) -> Result<Exit, DirectError> {
        if let Some(leader) = self.group.0
            && ended(leader).await
        {
            // It has ended by itself, and what it left behind has nothing more to do.
            self.group.kill();
        }
        let status = self.child.wait().await.map_err(|error| {
            DirectError::new(ErrorKind::Overloaded, format!("{}: {error}", self.what))
        })?;
        // It is reaped: its number may belong to somebody else from here on.
        self.group.0 = None;
        let stderr = (&mut self.stderr).await.unwrap_or_default();
        Ok(Exit {
            code: status.code(),
            signal: status.signal(),
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stderr.abort();
    }
}

/// Runs a child to its end and gives what it said, at most `max` bytes.
pub(crate) async fn output(
    command: Command,
    what: &str,
    max: usize,
    limit: Duration,
) -> Result<(Exit, Vec<u8>), DirectError> {
    talk(command, what, &[], max, limit).await
}

/// The same for a child that is told something first: little, since it is written before anything is read.
pub(crate) async fn talk(
    command: Command,
    what: &str,
    told: &[u8],
    max: usize,
    limit: Duration,
) -> Result<(Exit, Vec<u8>), DirectError> {
    within(limit, what, async {
        let mut running = Running::start(command, what)?;
        if let Some(mut stdin) = running.take_stdin() {
            // A child that ends early reads nothing; its exit says more.
            let _ = stdin.write_all(told).await;
        }
        let mut stdout = running.take_stdout()?;
        let mut said = Vec::new();
        let room = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        (&mut stdout)
            .take(room)
            .read_to_end(&mut said)
            .await
            .map_err(|error| {
                DirectError::new(ErrorKind::Unavailable, format!("{what}: {error}"))
            })?;
        if said.len() > max {
            return Err(DirectError::too_large(format!(
                "{what}: more than {max} bytes of output"
            )));
        }
        Ok((running.finish().await?, said))
    })
    .await
}

/// Bounds a piece of work that waits for children; they are killed when it takes longer.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, DirectError>>,
) -> Result<T, DirectError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let text = format!("{what}: not done within {} s", limit.as_secs());
        Err(DirectError::new(ErrorKind::Timeout, text))
    })
}

/// Waits for the end of a child without reaping it, so that its number stays its own. False if that cannot be seen here.
#[cfg(target_os = "linux")]
#[expect(
    deprecated,
    reason = "its successor is unsafe, for the sake of descriptors that others may close: this one is owned"
)]
async fn ended(child: Pid) -> bool {
    let Ok(child) = pidfd_open(child, PidfdFlags::NONBLOCK) else {
        return false;
    };
    match AsyncFd::with_interest(child, Interest::READABLE) {
        Ok(child) => child.readable().await.is_ok(),
        Err(_) => false,
    }
}

#[cfg(not(target_os = "linux"))]
async fn ended(_: Pid) -> bool {
    false
}

/// What a program is called where it is installed from.
pub(crate) fn package(program: &str) -> &str {
    match program {
        "hg" => "Mercurial (package mercurial)",
        "svn" => "Subversion (package subversion)",
        "bzr" | "brz" => "Breezy (package brz)",
        "fossil" => "Fossil (package fossil)",
        other => other,
    }
}

/// Whether not the program is missing, but the folder it should run in.
fn command_exists(command: &Command) -> bool {
    command
        .as_std()
        .get_current_dir()
        .is_some_and(|folder| !folder.is_dir())
}

/// Reads all, keeps the beginning.
async fn complaint(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut block = vec![0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut block).await {
        let room = MAX_STDERR.saturating_sub(kept.len());
        kept.extend_from_slice(&block[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = command("sh", Path::new("/"));
        shell.args(["-c", script]);
        shell
    }

    #[tokio::test]
    async fn output_and_limits() {
        let second = Duration::from_secs(20);
        let (exit, said) = output(shell("echo a; echo b >&2; exit 3"), "x", 10, second)
            .await
            .unwrap();
        assert_eq!(
            (exit.code, said.as_slice(), exit.stderr.as_str()),
            (Some(3), &b"a\n"[..], "b\n")
        );
        let error = output(shell("yes"), "x", 1000, second).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        let error = output(shell("sleep 100"), "x", 10, Duration::from_millis(50))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        let missing = command("no-such-program", Path::new("/"));
        assert_eq!(
            output(missing, "x", 1, second).await.unwrap_err().kind,
            ErrorKind::MissingProgram
        );
        // Whatever a child complains, it is read and only partly kept.
        let (exit, _) = output(shell("yes | head -c 1000000 >&2"), "x", 10, second)
            .await
            .unwrap();
        assert_eq!(exit.stderr.len(), MAX_STDERR);
    }

    #[tokio::test]
    async fn the_group_dies_with_it() {
        use tokio::io::AsyncBufReadExt;
        // The grandchild holds the other end of the pipe for as long as it lives.
        let mut running = Running::start(shell("sleep 1000 & echo $!; wait"), "x").unwrap();
        let mut stdout = running.take_stdout().unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).await.unwrap();
        drop(running);
        let mut rest = Vec::new();
        timeout(Duration::from_secs(20), stdout.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_left_behind_by_one_that_ended_well() {
        let script = "sleep 1000 2>&1 & echo started";
        let mut running = Running::start(shell(script), "x").unwrap();
        let mut stdout = running.take_stdout().unwrap();
        let exit = timeout(Duration::from_secs(20), running.finish()).await;
        assert!(exit.unwrap().unwrap().success());
        // The grandchild holds the other end of the pipe for as long as it lives.
        let mut said = Vec::new();
        timeout(Duration::from_secs(20), stdout.read_to_end(&mut said))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(said, b"started\n");
    }
}
