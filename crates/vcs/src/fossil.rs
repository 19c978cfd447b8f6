//! Fossil, by its program, over a kept clone (protocol.md 8.3). As for the go command it lists no tags, though a tag can
//! be asked for by its name; and a repository with other hashes than SHA-1 is none for Go.

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
use crate::repository::{Commit, Tag, Trouble};
use crate::whole::{Whole, is_plain};
use crate::zip::Files;
use crate::{DirectError, ErrorKind};

/// The clone, in the mirror's folder, and what is to be it.
const FILE: &str = "repository.fossil";
const NEW: &str = "new.fossil";
/// Digits of a commit's name in a pseudo-version.
const SHORT: usize = 12;
/// Most that fossil may say of a commit, in bytes.
const MAX_SAID: usize = 1 << 20;
/// What stands before the names in an archive.
const PREFIX: &str = "prefix/";
/// What it says of a clone that is damaged.
const DAMAGE: [&str; 4] = [
    "malformed",
    "not a database",
    "not a valid repository",
    "disk i/o error",
];

/// How a server begins that misses rights.
const RIGHTS: [&str; 2] = ["not authorized", "login failed"];

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct FossilRepository {
    whole: Whole,
    max_bytes: u64,
    scratch: PathBuf,
}

impl FossilRepository {
    /// Over a clone. What is written for a short time goes below `scratch`, and is at most `max_bytes`.
    pub(crate) fn new(whole: Whole, scratch: PathBuf, max_bytes: u64) -> Result<Self, DirectError> {
        let way = &whole.way;
        usable("fossil", way, false)?;
        http_proxy("fossil", way)?;
        if way.login.is_some() {
            // It takes them on its command line alone, which everybody on the machine can read.
            let used = way.credential.as_deref().unwrap_or("the credential");
            let text = format!("{}: fossil cannot be given {used}", way.url);
            return Err(DirectError::new(ErrorKind::Refused, text)
                .hint("fossil repositories can be asked without a login alone"));
        }
        Ok(Self {
            whole,
            max_bytes,
            scratch,
        })
    }

    /// None, as for the go command, which lists none either; but only of a repository that answers.
    pub(crate) async fn tags(&mut self) -> Result<Vec<Tag>, Trouble> {
        self.pull(false).await?;
        Ok(Vec::new())
    }

    /// The commit that a revision names. What is not known is looked for after a pull.
    pub(crate) async fn stat(&mut self, revision: &str) -> Result<Commit, Trouble> {
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

    /// The newest commit of the trunk.
    pub(crate) async fn latest(&mut self) -> Result<Commit, Trouble> {
        self.stat("trunk").await
    }

    async fn look_up(&self, revision: &str) -> Result<Commit, Trouble> {
        let unknown = || DirectError::not_found(format!("unknown revision {revision}"));
        if !is_plain(revision) {
            return Err(unknown().into());
        }
        let info = ["info", "-R", FILE, "--", revision];
        let (exit, said) = self.run("info", &info, MAX_SAID).await?;
        if !exit.success() {
            return Err(self.unless_damaged(&exit, unknown()));
        }
        let said = String::from_utf8_lossy(&said);
        let line = said
            .lines()
            .find(|line| line.starts_with("hash:") || line.starts_with("uuid:"));
        let fields: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let [_, hash, day, clock, "UTC"] = fields[..] else {
            return Err(unknown().into());
        };
        if hash.len() != 40 {
            let text = format!(
                "{}: Go takes fossil repositories with SHA-1 alone",
                self.whole.way.url
            );
            return Err(DirectError::invalid(text).into());
        }
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        let time = time::PrimitiveDateTime::parse(&format!("{day} {clock}"), form);
        let time = time.map_err(|_| unknown())?.assume_utc();
        Ok(commit(revision, hash, time))
    }

    /// A file in a commit that `stat` gave, at most `max` bytes of it; `None` if there is none.
    pub(crate) async fn read(
        &mut self,
        hash: &str,
        file: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        let revision = format!("-r={hash}");
        let most = usize::try_from(max).unwrap_or(usize::MAX);
        let cat = ["cat", "-R", FILE, &revision, "--", file];
        let (exit, said) = self.run("cat", &cat, most).await?;
        if exit.success() {
            return Ok(Some(said.into()));
        }
        if exit.stderr.contains("does not exist in check-in") {
            return Ok(None);
        }
        Err(Trouble::of_reader("fossil cat", &exit))
    }

    /// All files in a folder of a commit. Its archive of a folder is empty, for the go command as for us.
    pub(crate) async fn files(self, hash: &str, folder: &str) -> Result<Files, Trouble> {
        const ZIP: &str = "out.zip";
        let place = self.scratch.clone();
        let scratch = blocking(move || Ok(Scratch::new(&place))).await??;
        let repository = self.whole.mirror.folder.join(FILE).display().to_string();
        let include = format!("--include={folder}");
        let mut zip = vec!["zip", "-R", &repository, "--name", "prefix"];
        if !folder.is_empty() && !folder.contains(['*', '?', '[', ']', ',']) {
            zip.push(&include);
        }
        zip.extend(["--", hash, ZIP]);
        let what = format!("fossil zip {}", self.whole.way.url);
        let mut command = self.command();
        // It writes into its folder alone.
        command.args(zip).current_dir(scratch.path());
        let (exit, _) = self.whole.run(command, &what, MAX_SAID).await?;
        if !exit.success() {
            return Err(Trouble::of_reader("fossil zip", &exit));
        }
        let prefix = if folder.is_empty() {
            PREFIX.to_owned()
        } else {
            format!("{PREFIX}{folder}/")
        };
        let files = unpacked(scratch, ZIP, &prefix, self.max_bytes).await?;
        if files.entries.is_empty() {
            let text = format!("fossil makes no archive of the folder {folder:?}");
            return Err(DirectError::invalid(text).into());
        }
        Ok(files)
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
        let folder = mirror.folder.clone();
        let there = blocking(move || {
            if folder.join(FILE).is_file() {
                return Ok(true);
            }
            for left in [NEW, "new.fossil-journal", "new.fossil-wal"] {
                let _ = std::fs::remove_file(folder.join(left));
            }
            Ok(false)
        });
        if there.await? {
            self.update().await?;
        } else {
            self.clone_anew().await?;
        }
        self.whole.pulled(&mut disk, begun);
        Ok(())
    }

    async fn clone_anew(&self) -> Result<(), Trouble> {
        let (url, asked) = (&self.whole.way.url, self.asked());
        let clone = ["clone", "--admin-user", "modgate", "--", &asked, NEW];
        let what = format!("fossil clone {url}");
        let run = self.run("clone", &clone, MAX_SAID);
        let (exit, said) = self.whole.grow(&what, run).await?;
        if !exit.success() {
            let error = refusal(&what, &said);
            return Err(error.unwrap_or_else(|| self.failed(&what, &exit)).into());
        }
        let folder = self.whole.mirror.folder.clone();
        blocking(move || std::fs::rename(folder.join(NEW), folder.join(FILE))).await?;
        Ok(())
    }

    /// What it is told to ask. Over http its relay makes the requests, over https too where that is what is meant.
    fn asked(&self) -> String {
        let url = &self.whole.way.url;
        match reqwest::Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "https" => {
                let host = parsed.host_str().unwrap_or_default();
                let port = parsed.port_or_known_default().unwrap_or(443);
                let query = parsed.query().map(|query| format!("?{query}"));
                let query = query.unwrap_or_default();
                format!("http://{host}:{port}{}{query}", parsed.path())
            }
            _ => url.clone(),
        }
    }

    async fn update(&self) -> Result<(), Trouble> {
        let (url, asked) = (&self.whole.way.url, self.asked());
        let pull = ["pull", "-R", FILE, "--once", &asked];
        let what = format!("fossil pull {url}");
        let run = self.run("pull", &pull, MAX_SAID);
        let (exit, said) = self.whole.grow(&what, run).await?;
        // Its code tells nothing: it is 0 too if the server refuses, and if nobody answers, of which it complains.
        if let Some(error) = refusal(&what, &said) {
            return Err(error.into());
        }
        if exit.success() && exit.stderr.trim().is_empty() {
            return Ok(());
        }
        let error = self.failed(&what, &exit);
        Err(self.unless_damaged(&exit, error))
    }

    fn unless_damaged(&self, exit: &Exit, error: DirectError) -> Trouble {
        let said = exit.stderr.to_lowercase().replace(&*self.whole.way.url, "");
        if DAMAGE.iter().any(|words| said.contains(words)) {
            Trouble::Mirror(exit.stderr.clone())
        } else {
            error.into()
        }
    }

    async fn run(
        &self,
        what: &str,
        arguments: &[&str],
        most: usize,
    ) -> Result<(Exit, Vec<u8>), DirectError> {
        let what = format!("fossil {what} {}", self.whole.way.url);
        let mut command = self.command();
        command.args(arguments);
        self.whole.run(command, &what, most).await
    }

    /// fossil in the mirror's folder, with nothing of the machine's own configuration.
    fn command(&self) -> Command {
        let (folder, way) = (&self.whole.mirror.folder, &self.whole.way);
        let mut command = process::command("fossil", folder);
        // It does nothing without somebody to be.
        command.env("USER", "modgate").env("FOSSIL_HOME", folder);
        if let Some(proxy) = way.setting("http.proxy").filter(|proxy| !proxy.is_empty()) {
            command.env("http_proxy", proxy);
        }
        command
    }

    fn failed(&self, what: &str, exit: &Exit) -> DirectError {
        failed(what, &self.whole.way, exit)
    }
}

/// What the server itself said against it, which fossil shows among what it has to tell, and no complaint of its own.
fn refusal(what: &str, said: &[u8]) -> Option<DirectError> {
    let said = String::from_utf8_lossy(said);
    let mut lines = said.split(['\r', '\n']);
    let why = lines.find_map(|line| line.strip_prefix("Error: "))?;
    let text = format!("{what}: the server says: {why}");
    if !RIGHTS.iter().any(|words| why.starts_with(words)) {
        return Some(DirectError::new(ErrorKind::Unavailable, text));
    }
    Some(DirectError::new(ErrorKind::Unauthorized, text).hint(
        "fossil repositories can be asked without a login alone: let its user nobody clone and read (g and o)",
    ))
}

fn commit(revision: &str, hash: &str, time: OffsetDateTime) -> Commit {
    let beginning = hash.starts_with(revision);
    Commit {
        short: hash[..SHORT].to_owned(),
        hash: hash.to_owned(),
        time,
        tags: Vec::new(),
        tag: (!beginning).then(|| revision.to_owned()),
        // What is the beginning of the hash tells nothing more.
        reference: (revision.len() < SHORT || !beginning).then(|| revision.to_owned()),
        tip: false,
    }
}
