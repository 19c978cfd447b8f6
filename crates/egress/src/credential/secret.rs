//! Where secrets come from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::run;

/// Most bytes in a file of secrets.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How long what a command said is believed.
pub(crate) const COMMAND_LIFE: Duration = Duration::from_mins(5);
/// Shortest time between two runs of a command whose secret is being refused.
pub(crate) const RERUN_AFTER: Duration = Duration::from_secs(10);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text: for requests only, never for logs, errors or command lines.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The configuration itself.
    Plain(Hidden),
    /// An environment variable, read by whoever configures: no child process of ours gets to see it.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: Hidden,
    },
    /// A file, without the white space around its text; read again when it changes.
    File(PathBuf),
    /// What a command prints, without the white space around it: asked for every 5 minutes, with 15 s to answer.
    Command(Vec<String>),
}

/// A file's text, kept until the file changes.
#[derive(Debug, Default)]
pub(crate) struct KeptFile {
    stamp: Option<(SystemTime, u64)>,
    text: Option<Hidden>,
}

impl KeptFile {
    /// The text of `path`, read again if the file has changed.
    pub(crate) async fn read(&mut self, path: &Path) -> Result<&Hidden, String> {
        let (owned, known) = (path.to_owned(), self.stamp.filter(|_| self.text.is_some()));
        let read = tokio::task::spawn_blocking(move || read_if_changed(&owned, known));
        match read.await {
            Ok(Ok(Some((stamp, text)))) => {
                self.stamp = stamp;
                Ok(self.text.insert(text))
            }
            Ok(Ok(None)) => self
                .text
                .as_ref()
                .ok_or_else(|| "it was not read".to_owned()),
            Ok(Err(error)) => Err(format!("{} cannot be read: {error}", path.display())),
            Err(_) => Err(format!("{} cannot be read", path.display())),
        }
    }
}

type Stamp = Option<(SystemTime, u64)>;

/// The file's text and stamp, unless the stamp is the one known.
fn read_if_changed(path: &Path, known: Stamp) -> Result<Option<(Stamp, Hidden)>, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    let stamp = meta.modified().ok().map(|time| (time, meta.len()));
    if stamp.is_some() && stamp == known {
        return Ok(None);
    }
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return Err(format!("it is no file of at most {MAX_FILE_BYTES} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    // A file changed within the clock's grain of being read could change again unseen: its stamp is not kept.
    let settled =
        stamp.filter(|(time, _)| time.elapsed().is_ok_and(|age| age > Duration::from_secs(1)));
    Ok(Some((settled, Hidden(text))))
}

/// What was read from a secret's source.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    file: KeptFile,
    said: Option<Said>,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    at: Instant,
    text: Hidden,
    refused: bool,
}

impl Kept {
    /// What was said is no longer believed. True if the command would be asked again now.
    pub(crate) fn refused(&mut self) -> bool {
        match &mut self.said {
            Some(said) => {
                said.refused = true;
                said.at.elapsed() >= RERUN_AFTER
            }
            None => false,
        }
    }
}

impl Secret {
    /// The secret, with what is kept of its source. `hide` are environment variables no child sees.
    pub(crate) async fn get(&self, kept: &Mutex<Kept>, hide: &[String]) -> Result<Hidden, String> {
        let text = match self {
            Self::Plain(text) | Self::Env { value: text, .. } => text.clone(),
            // Held while the file is read or the command runs: all who wait want the same.
            Self::File(path) => kept.lock().await.file.read(path).await?.clone(),
            Self::Command(argv) => {
                let mut kept = kept.lock().await;
                let life = |said: &Said| {
                    if said.refused {
                        RERUN_AFTER
                    } else {
                        COMMAND_LIFE
                    }
                };
                let fresh = kept
                    .said
                    .as_ref()
                    .filter(|said| said.at.elapsed() < life(said));
                if let Some(said) = fresh {
                    said.text.clone()
                } else {
                    let text = Hidden(run::text(argv, b"", hide).await?);
                    kept.said = Some(Said {
                        at: Instant::now(),
                        text: text.clone(),
                        refused: false,
                    });
                    text
                }
            }
        };
        match text.expose().trim() {
            "" => Err("it is empty".to_owned()),
            trimmed => Ok(Hidden(trimmed.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_command_said_ages_faster_once_refused() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let script = format!("echo >> {0}; wc -l < {0}", count.display());
        let secret = Secret::Command(["/bin/sh", "-c", &script].map(str::to_owned).to_vec());
        let kept = Mutex::<Kept>::default();
        let age = async |by: Duration| {
            let mut kept = kept.lock().await;
            let said = kept.said.as_mut().unwrap();
            said.at = said.at.checked_sub(by).unwrap();
        };
        let get = async || secret.get(&kept, &[]).await.unwrap().0;
        assert_eq!(get().await, "1");
        age(RERUN_AFTER).await;
        assert_eq!(get().await, "1");
        assert!(kept.lock().await.refused());
        assert_eq!(get().await, "2");
        assert!(!kept.lock().await.refused());
        assert_eq!(get().await, "2", "not again at once");
        age(COMMAND_LIFE).await;
        assert_eq!(get().await, "3");
    }
}
