//! Commands that know secrets.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Longest run. Whoever asks for a page with it waits a little longer, and is told whose fault it is.
const TIME: Duration = Duration::from_secs(15);
/// Most output in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;
/// How long the output may stay open after the command's end, by children it left behind.
const LINGER: Duration = Duration::from_secs(1);

/// Runs a command with `input` and gives what it prints. Its errors are not shown, for they may hold secrets.
///
/// The command is the administrator's own, so it gets the environment, but for our settings and for the variables
/// that hold other secrets (`hide`). It cannot ask at a terminal.
pub(crate) async fn text(argv: &[String], input: &[u8], hide: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err("no command is given".to_owned());
    };
    let environment = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        !name.starts_with("MODGATE_") && !hide.iter().any(|hidden| *hidden == name)
    });
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .envs([
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GCM_INTERACTIVE", "never"),
            ("SSH_ASKPASS_REQUIRE", "never"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    let mut group = Group::new(child);
    match tokio::time::timeout(TIME, group.talk(input)).await {
        Ok(result) => result.map_err(|text| format!("`{program}` {text}")),
        Err(_) => Err(format!(
            "`{program}` did not end within {} s",
            TIME.as_secs()
        )),
    }
}

/// A child and its descendants, killed together if it has not ended by itself.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Self { child, id }
    }

    async fn talk(&mut self, input: &[u8]) -> Result<String, String> {
        let broken = |error: std::io::Error| format!("cannot be read: {error}");
        let mut stdin = self.child.stdin.take();
        let write = async {
            if let Some(stdin) = &mut stdin {
                // A command that needs no input may close it.
                let _ = stdin.write_all(input).await;
            }
            drop(stdin);
        };
        let mut output = Vec::new();
        let mut stdout = self.child.stdout.take().map(|out| out.take(MAX_OUTPUT + 1));
        let read = async {
            match &mut stdout {
                Some(stdout) => stdout.read_to_end(&mut output).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let wait = self.child.wait();
        tokio::pin!(read, wait);
        // What it leaves behind (a cache daemon) may hold the output open: its own end counts.
        let end = tokio::select! {
            read = async { write.await; read.as_mut().await } => {
                read.map_err(broken)?;
                None
            }
            status = &mut wait => Some(status),
        };
        let status = match end {
            Some(status) => {
                let _ = tokio::time::timeout(LINGER, read).await;
                status
            }
            None if output.len() as u64 > MAX_OUTPUT => return Err(too_long()),
            None => wait.await,
        };
        // It has ended and its number is free for others: no longer to be killed.
        self.id = None;
        let status = status.map_err(broken)?;
        if !status.success() {
            return Err(format!("failed: {status}"));
        }
        if output.len() as u64 > MAX_OUTPUT {
            return Err(too_long());
        }
        String::from_utf8(output).map_err(|_| "printed something that is not text".to_owned())
    }
}

fn too_long() -> String {
    format!("printed more than {MAX_OUTPUT} bytes")
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // It may have ended on its own.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn commands() {
        for (script, want) in [
            ("cat", Ok("in")),
            ("echo out", Ok("out\n")),
            ("exit 3", Err("failed: exit status: 3")),
            ("echo secret >&2; exit 1", Err("failed: exit status: 1")),
            (
                "head -c 70000 /dev/zero",
                Err("printed more than 65536 bytes"),
            ),
            // Left behind, with the output in its hands.
            ("echo out; sleep 60 &", Ok("out\n")),
        ] {
            let got = text(&sh(script), b"in", &[]).await;
            match (&got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{script}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{script}: {got}"),
                _ => panic!("{script}: {got:?}"),
            }
        }
        let missing = text(&["/nowhere/to/be/found".to_owned()], b"", &[]).await;
        assert!(missing.unwrap_err().contains("cannot be run"));
    }

    #[tokio::test]
    async fn a_dropped_command_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, ready) = (dir.path().join("alive"), dir.path().join("ready"));
        let script = format!(
            "mkfifo {0}; exec 3> {0}; touch {1}; sleep 600 & wait",
            fifo.display(),
            ready.display()
        );
        let argv = sh(&script);
        let run = tokio::spawn(async move { text(&argv, b"", &[]).await });
        let there = async |path: &std::path::Path| {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        there(&fifo).await;
        // Opening it lets the shell go on.
        let reader = tokio::task::spawn_blocking(move || std::fs::read(fifo));
        there(&ready).await;
        run.abort();
        // Ends when the grandchild, which holds the other end, is gone.
        let end = tokio::time::timeout(Duration::from_secs(20), reader).await;
        assert!(end.unwrap().unwrap().unwrap().is_empty());
    }
}
