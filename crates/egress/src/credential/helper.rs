//! git's credential helpers (`gitcredentials(7)`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::run;
use super::secret::{COMMAND_LIFE, Hidden, RERUN_AFTER};

/// How long "no credential" is believed.
const NONE_LIFE: Duration = Duration::from_mins(1);
/// Most hosts whose answers are kept.
const MAX_KEPT: usize = 64;

/// What a helper said for one host.
#[derive(Debug)]
struct Said {
    protocol: String,
    host: String,
    until: Instant,
    at: Instant,
    found: Option<(String, Hidden)>,
}

/// A helper's answers, kept for minutes.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<Said>);

impl Kept {
    /// Asks the helper for a user and password, unless it has been asked lately. `host` may have a port.
    pub(crate) async fn get(
        &mut self,
        argv: &[String],
        (protocol, host, path): (&str, &str, &str),
        hide: &[String],
    ) -> Result<Option<(String, Hidden)>, String> {
        let now = Instant::now();
        self.0.retain(|said| said.until > now);
        let known = self
            .0
            .iter()
            .find(|said| said.protocol == protocol && said.host == host);
        if let Some(said) = known {
            return Ok(said.found.clone());
        }
        let mut argv = argv.to_vec();
        argv.push("get".to_owned());
        let path = match path.trim_start_matches('/') {
            "" => String::new(),
            path => format!("path={path}\n"),
        };
        let question = format!("protocol={protocol}\nhost={host}\n{path}\n");
        let answer = run::text(&argv, question.as_bytes(), hide).await?;
        let (found, life) = read(&answer);
        if self.0.len() >= MAX_KEPT {
            self.0.remove(0);
        }
        self.0.push(Said {
            protocol: protocol.to_owned(),
            host: host.to_owned(),
            until: now + life,
            at: now,
            found: found.clone(),
        });
        Ok(found)
    }

    /// What was said for these hosts is soon asked again; true if some of it would be now.
    pub(crate) fn refused(&mut self) -> bool {
        let now = Instant::now();
        for said in &mut self.0 {
            said.until = said.until.min(said.at + RERUN_AFTER);
        }
        self.0.iter().any(|said| said.until <= now)
    }
}

/// The user and password in a helper's answer, and how long they are good.
fn read(answer: &str) -> (Option<(String, Hidden)>, Duration) {
    let value = |key: &str| {
        answer
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    let (Some(user), Some(password)) = (value("username"), value("password")) else {
        return (None, NONE_LIFE);
    };
    let left = value("password_expiry_utc")
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    let life = left.map_or(COMMAND_LIFE, |left| left.min(COMMAND_LIFE));
    (Some((user.to_owned(), Hidden::new(password))), life)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let (found, life) = read("protocol=https\nusername=ci\npassword=p=w\n");
        assert_eq!(found, Some(("ci".to_owned(), Hidden::new("p=w"))));
        assert_eq!(life, COMMAND_LIFE);
        let (found, life) = read("username=ci\npassword=x\npassword_expiry_utc=1000\n");
        assert!(found.is_some());
        assert_eq!(life, Duration::ZERO, "good for this once");
        assert_eq!(read("").0, None);
        assert_eq!(read("quit=1\nusername=ci\n").0, None);
    }
}
