//! Bazaar, by its program (now Breezy), over a kept branch (protocol.md 8.3). Revisions are numbers, as for the go
//! command, so nothing tells a history that was rewritten.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::process::Command;
use tokio::time::Instant;

use crate::git::mirror::blocking;
use crate::process::{self, Exit};
use crate::program::{Scratch, failed, http_proxy, unpacked, usable};
use crate::reach::Way;
use crate::repository::{Commit, Tag, Trouble};
use crate::whole::{Whole, is_plain};
use crate::zip::Files;
use crate::{DirectError, ErrorKind};

/// The branch, in the mirror's folder.
const BRANCH: &str = "branch";
/// Digits of a revision in a pseudo-version.
const DIGITS: usize = 12;
/// Most that it may say of revisions, tags or a file, in bytes.
const MAX_SAID: usize = 64 << 20;
/// What stands before the names in an archive.
const PREFIX: &str = "prefix/";
/// The newest revision.
const LATEST: &str = "revno:-1";

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct BzrRepository {
    whole: Whole,
    max_bytes: u64,
    /// Its settings, and what is written for a short time.
    scratch: Scratch,
}

impl BzrRepository {
    /// Over a branch. What is written for a short time goes below `scratch`, and is at most `max_bytes`.
    pub(crate) async fn new(
        whole: Whole,
        scratch: PathBuf,
        max_bytes: u64,
    ) -> Result<Self, DirectError> {
        let scratch = configured(&whole.way, scratch).await?;
        Ok(Self {
            whole,
            max_bytes,
            scratch,
        })
    }

    /// Whether a branch answers: no error. What is written for a short time goes below `scratch`.
    pub(crate) async fn answers(
        way: Way,
        scratch: PathBuf,
        limit: std::time::Duration,
    ) -> Result<(), DirectError> {
        let scratch = configured(&way, scratch).await?;
        let what = format!("bzr info {}", way.url);
        let mut command = command(&way, &scratch);
        command.args(["info", "--", &way.url]);
        let (exit, _) = process::output(command, &what, MAX_SAID, limit).await?;
        if exit.success() {
            Ok(())
        } else {
            Err(failed(&what, &way, &exit))
        }
    }

    /// The tags with a prefix, sorted by name. Those that a merge brought along are left out: the revisions of other branches
    /// have no plain number (`4.1.1`), and cannot be asked for.
    pub(crate) async fn tags(&mut self, prefix: &str) -> Result<Vec<Tag>, Trouble> {
        self.pull(false).await?;
        let tags = self.all_tags().await?.into_iter();
        let named = tags
            .filter(|(name, _)| name.starts_with(prefix))
            .filter(|(_, number)| number.parse::<u64>().is_ok());
        let mut tags: Vec<Tag> = named.map(|(name, hash)| Tag { name, hash }).collect();
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tags)
    }

    async fn all_tags(&self) -> Result<Vec<(String, String)>, Trouble> {
        let (exit, said) = self.run("tags", &["tags", "-d", BRANCH], MAX_SAID).await?;
        if !exit.success() {
            return Err(Trouble::of_reader("bzr tags", &exit));
        }
        let said = String::from_utf8_lossy(&said);
        let tag = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            Some((name, words.next().unwrap_or_default().to_owned()))
        };
        Ok(said.lines().filter_map(tag).collect())
    }

    /// The revision of a number or tag. What is not known is looked for after a pull.
    pub(crate) async fn stat(&mut self, revision: &str) -> Result<Commit, Trouble> {
        // Other forms say where to look, perhaps at another server.
        if !is_plain(revision) {
            return Err(DirectError::not_found(format!("unknown revision {revision}")).into());
        }
        self.pull(false).await?;
        match self.look_up(revision).await {
            Err(Trouble::Other(error))
                if error.kind == ErrorKind::NotFound && !self.whole.is_new() =>
            {
                self.pull(true).await?;
                self.look_up(revision).await
            }
            found => found,
        }
    }

    /// The newest revision.
    pub(crate) async fn latest(&mut self) -> Result<Commit, Trouble> {
        self.pull(false).await?;
        let commit = self.look_up(LATEST).await?;
        Ok(Commit {
            tag: None,
            ..commit
        })
    }

    async fn look_up(&self, revision: &str) -> Result<Commit, Trouble> {
        let unknown = || DirectError::not_found(format!("unknown revision {revision}"));
        let which = format!("--revision={revision}");
        let log = ["log", "-l1", "--long", "--show-ids", &which, "--", BRANCH];
        let (exit, said) = self.run("log", &log, MAX_SAID).await?;
        if !exit.success() {
            return Err(if exit.stderr.contains("Requested revision:") {
                unknown().into()
            } else {
                Trouble::of_reader("bzr log", &exit)
            });
        }
        let said = String::from_utf8_lossy(&said);
        let (mut number, mut time, mut tags) = (None, None, Vec::new());
        for line in said.lines().filter(|line| !line.starts_with('-')) {
            let Some((key, value)) = line.split_once(':') else {
                break;
            };
            let value = value.trim();
            match key {
                "revno" => number = value.split(' ').next().and_then(|n| n.parse::<u64>().ok()),
                "timestamp" => time = timestamp(value),
                "tags" => tags = value.split(", ").map(str::to_owned).collect(),
                // The message comes last, and is anybody's.
                "message" => break,
                _ => {}
            }
        }
        let (Some(number), Some(time)) = (number, time) else {
            return Err(unknown().into());
        };
        Ok(Commit {
            hash: number.to_string(),
            short: format!("{number:0DIGITS$}"),
            time,
            tags,
            tag: Some(revision.to_owned()),
            reference: Some(revision.to_owned()),
            tip: false,
        })
    }

    /// A file in a revision that `stat` gave, at most `max` bytes of it; `None` if there is none.
    pub(crate) async fn read(
        &mut self,
        revision: &str,
        file: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        let (which, path) = (format!("--revision={revision}"), format!("{BRANCH}/{file}"));
        let most = usize::try_from(max).unwrap_or(MAX_SAID).min(MAX_SAID);
        let (exit, said) = self.run("cat", &["cat", &which, "--", &path], most).await?;
        if exit.success() {
            return Ok(Some(said.into()));
        }
        if exit.stderr.contains(" is not present in revision ") {
            return Ok(None);
        }
        Err(Trouble::of_reader("bzr cat", &exit))
    }

    /// All files in a folder of a revision.
    pub(crate) async fn files(self, revision: &str, folder: &str) -> Result<Files, Trouble> {
        const ZIP: &str = "out.zip";
        let which = format!("--revision={revision}");
        let target = self.scratch.path().join(ZIP).display().to_string();
        let what = [
            "export",
            "--format=zip",
            &which,
            "--root=prefix/",
            "--",
            &target,
        ];
        let from = if folder.is_empty() {
            BRANCH.to_owned()
        } else {
            format!("{BRANCH}/{folder}")
        };
        let (exit, _) = self
            .run("export", &[&what[..], &[&from]].concat(), MAX_SAID)
            .await?;
        if !exit.success() {
            return Err(Trouble::of_reader("bzr export", &exit));
        }
        Ok(unpacked(self.scratch, ZIP, PREFIX, self.max_bytes).await?)
    }

    /// Gets what is new, unless what is here will do; see [`Whole::is_fresh`].
    async fn pull(&mut self, now: bool) -> Result<(), Trouble> {
        let mirror = Arc::clone(&self.whole.mirror);
        let mut disk = mirror.disk.lock().await;
        if self.whole.is_fresh(&disk, now) {
            return Ok(());
        }
        let begun = Instant::now();
        self.whole.prepare().await?;
        let (url, branch) = (self.whole.way.url.clone(), mirror.folder.join(BRANCH));
        let there = blocking(move || {
            // The last file that is made; without it a killed child left a half.
            let there = branch.join(".bzr/branch/branch.conf").is_file();
            if !there && branch.exists() {
                std::fs::remove_dir_all(&branch)?;
            }
            Ok(there)
        });
        let arguments: &[&str] = if there.await? {
            &["pull", "-q", "--overwrite", "-d", BRANCH, "--", &url]
        } else {
            &["branch", "-q", "--no-tree", "--", &url, BRANCH]
        };
        let what = format!("bzr {} {url}", arguments[0]);
        let run = self.run(arguments[0], arguments, MAX_SAID);
        let (exit, _) = self.whole.grow(&what, run).await?;
        if !exit.success() {
            return Err(self.damaged(&what, &exit).await);
        }
        let tags = self.all_tags().await?;
        mirror.watch_tags(&url, tags).await;
        self.whole.pulled(&mut disk, begun);
        Ok(())
    }

    /// What a failed pull means: that the branch is damaged, if it cannot be read without any server either, or is held by
    /// somebody who is gone.
    async fn damaged(&self, what: &str, exit: &Exit) -> Trouble {
        let error = failed(what, &self.whole.way, exit);
        let there = self.whole.mirror.folder.join(BRANCH).is_dir();
        let held = exit.stderr.contains("Unable to obtain lock");
        match self.run("tags", &["tags", "-d", BRANCH], MAX_SAID).await {
            Ok((alone, _)) if there && (held || alone.is_complaint()) => {
                Trouble::Mirror(error.text)
            }
            _ => error.into(),
        }
    }

    async fn run(
        &self,
        what: &str,
        arguments: &[&str],
        most: usize,
    ) -> Result<(Exit, Vec<u8>), DirectError> {
        let what = format!("bzr {what} {}", self.whole.way.url);
        let mut command = command(&self.whole.way, &self.scratch);
        command
            .args(arguments)
            .current_dir(&self.whole.mirror.folder);
        self.whole.run(command, &what, most).await
    }
}

/// Mon 2024-01-01 00:00:00 +0000
fn timestamp(text: &str) -> Option<OffsetDateTime> {
    let (_, rest) = text.split_once(' ')?;
    let form = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
    );
    let time = OffsetDateTime::parse(rest, form).ok()?;
    Some(time.to_offset(time::UtcOffset::UTC))
}

/// A folder with its settings for one question; may hold secrets.
async fn configured(way: &Way, place: PathBuf) -> Result<Scratch, DirectError> {
    usable("bzr", way, false)?;
    http_proxy("bzr", way)?;
    let mut files = vec![
        ("breezy.conf", settings(way)),
        ("authentication.conf", login(way)),
    ];
    if let Some(ssh) = way.ssh() {
        files.push(("ssh", format!("#!/bin/sh\nexec {ssh} \"$@\"\n")));
    }
    let write = move || {
        let written = Scratch::new(&place).and_then(|scratch| {
            for (name, text) in &files {
                scratch.write(name, text)?;
            }
            Ok(scratch)
        });
        let Ok(scratch) = written else {
            return Ok(written);
        };
        let ssh = scratch.path().join("ssh");
        if ssh.exists() {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(ssh, std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(Ok(scratch))
    };
    blocking(write).await?
}

fn settings(way: &Way) -> String {
    let ca = way.setting("http.sslCAInfo");
    let ca = ca.map(|file| format!("ssl.ca_certs = {file}\n"));
    format!(
        "[DEFAULT]\nemail = modgate <modgate@localhost>\n{}",
        ca.unwrap_or_default()
    )
}

fn login(way: &Way) -> String {
    let Some((user, password)) = &way.login else {
        return String::new();
    };
    let url = reqwest::Url::parse(&way.url).ok();
    let host = url
        .as_ref()
        .and_then(reqwest::Url::host_str)
        .unwrap_or_default();
    let port = url.as_ref().and_then(reqwest::Url::port);
    let mut lines = vec![
        "[own]".to_owned(),
        format!("scheme = {}", way.url.split(':').next().unwrap_or_default()),
        format!("host = {host}"),
        format!("user = {user}"),
        format!("password = {}", password.expose()),
    ];
    lines.extend(port.map(|port| format!("port = {port}")));
    // A line break would begin another setting.
    lines.retain(|line| !line.contains(['\n', '\r']));
    lines.push(String::new());
    lines.join("\n")
}

/// The program, under the name that is installed.
fn program() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !has("bzr") && has("brz") {
        "brz"
    } else {
        "bzr"
    }
}

/// bzr with its settings in `scratch` and nothing of the machine's own configuration.
fn command(way: &Way, scratch: &Scratch) -> Command {
    let home = scratch.path();
    let mut command = process::command(program(), home);
    for key in ["BRZ_HOME", "BZR_HOME"] {
        command.env(key, home);
    }
    for key in ["BRZ_LOG", "BZR_LOG"] {
        command.env(key, "/dev/null");
    }
    command
        .env("LC_ALL", "C.UTF-8")
        .env("BRZ_PROGRESS_BAR", "none")
        .env("BRZ_DISABLE_PLUGINS", "launchpad:github:gitlab")
        .env("BRZ_PLUGIN_PATH", "+core:-site:-user");
    if way.ssh().is_some() {
        command
            .env("BRZ_SSH", home.join("ssh"))
            .env("BZR_SSH", home.join("ssh"));
    }
    if let Some(proxy) = way.setting("http.proxy").filter(|proxy| !proxy.is_empty()) {
        command.env("http_proxy", proxy).env("https_proxy", proxy);
    }
    command
}

#[cfg(test)]
mod tests {
    use egress::Hidden;

    use super::*;

    #[test]
    fn times_and_logins() {
        let time = timestamp("Mon 2024-01-01 02:30:00 +0130").unwrap();
        assert_eq!(time.unix_timestamp(), 1_704_070_800);
        assert_eq!(time.offset(), time::UtcOffset::UTC);
        assert_eq!(timestamp("yesterday"), None);
        let way = Way {
            url: "https://bzr.example:8443/x".to_owned(),
            login: Some(("ci".to_owned(), Hidden::new("a\nb"))),
            ..Way::default()
        };
        let text = login(&way);
        assert_eq!(
            text,
            "[own]\nscheme = https\nhost = bzr.example\nuser = ci\nport = 8443\n"
        );
    }
}
