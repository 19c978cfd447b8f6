//! Mercurial, by its program, over a kept clone (protocol.md 8.3).
//!
//! The program gets its settings by a pipe in place of its configuration files: so neither the machine's nor a
//! repository's count, and no secret stands on a command line or on the disk.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::Instant;

use crate::git::Mirror;
use crate::git::mirror::blocking;
use crate::git::remote::outgrown;
use crate::process::{self, Exit, Running, talk};
use crate::program::failed;
use crate::reach::Way;
use crate::repository::{Commit, Tag, Trouble};
use crate::{DirectError, DirectSettings, ErrorKind};

/// Digits of a commit's name in a pseudo-version.
const SHORT: usize = 12;
/// Most that hg may say of commits, tags or files, in bytes.
const MAX_SAID: usize = 64 << 20;
/// What stands before the names in an archive.
const PREFIX: &str = "p";

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its path in the repository.
    pub(crate) name: Vec<u8>,
    /// In bytes.
    pub(crate) size: u64,
    /// Whether it is a symbolic link.
    pub(crate) link: bool,
}

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct HgRepository {
    mirror: Arc<Mirror>,
    generation: u64,
    way: Way,
    limit: Duration,
    max_bytes: u64,
    /// When the question was asked.
    since: Instant,
    pulled: bool,
}

impl HgRepository {
    /// Over the clone in `mirror`.
    pub(crate) fn new(mirror: Arc<Mirror>, way: Way, settings: &DirectSettings) -> Self {
        Self {
            generation: mirror.generation(),
            mirror,
            way,
            limit: settings.process_timeout,
            max_bytes: settings.max_mirror_bytes,
            since: Instant::now(),
            pulled: false,
        }
    }

    /// The clone, and which making of it.
    pub(crate) fn mirror(&self) -> (Arc<Mirror>, u64) {
        (Arc::clone(&self.mirror), self.generation)
    }

    /// Whether a repository answers: no error. `folder` is any folder.
    pub(crate) async fn answers(
        folder: &Path,
        way: Way,
        limit: Duration,
    ) -> Result<(), DirectError> {
        let (what, arguments) = (
            format!("hg identify {}", way.url),
            ["identify", "--", &way.url],
        );
        let mut command = command(folder);
        command.args(arguments);
        let told = settings(&way);
        let (exit, _) = talk(command, &what, told.as_bytes(), MAX_SAID, limit).await?;
        if exit.success() {
            Ok(())
        } else {
            Err(failed(&what, &way, &exit))
        }
    }

    /// The tags with a prefix, sorted by name.
    pub(crate) async fn tags(&mut self, prefix: &str) -> Result<Vec<Tag>, Trouble> {
        self.pull().await?;
        let said = self
            .ask("tags", &["tags", "--template", "{node}\\t{tag}\\n"])
            .await?;
        let named = said
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(_, name)| *name != "tip");
        let all = named.clone();
        let all = all.map(|(hash, name)| (name.to_owned(), hash.to_owned()));
        self.mirror.watch_tags(&self.way.url, all.collect()).await;
        let mut tags: Vec<Tag> = named
            .filter(|(_, name)| name.starts_with(prefix))
            .map(|(hash, name)| Tag {
                name: name.to_owned(),
                hash: hash.to_owned(),
            })
            .collect();
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tags)
    }

    /// The commit that a revision names: a tag, a branch, a bookmark, a hash or the beginning of one. What may have
    /// moved is looked for after a pull, as is what is not known yet.
    pub(crate) async fn stat(&mut self, revision: &str) -> Result<Commit, Trouble> {
        let whole = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if whole
            && !self.pulled
            && self.exists()
            && let Ok(commit) = self.look_up(revision).await
        {
            return Ok(commit);
        }
        self.pull().await?;
        self.look_up(revision).await
    }

    /// The newest commit.
    pub(crate) async fn latest(&mut self) -> Result<Commit, Trouble> {
        self.pull().await?;
        let commit = self.look_up("tip").await?;
        Ok(Commit {
            tag: None,
            ..commit
        })
    }

    async fn look_up(&self, revision: &str) -> Result<Commit, Trouble> {
        let unknown = || DirectError {
            kind: ErrorKind::NotFound,
            text: format!("unknown revision {revision}"),
            hint: None,
        };
        // A revision is an expression to hg: only a name is let through, and in quotes.
        let named = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
        if revision.is_empty() || !revision.chars().all(named) {
            return Err(unknown().into());
        }
        let revset = format!("--rev=\"{revision}\"");
        let template = "{node} {date|hgdate}\\n{tags % '{tag}\\n'}";
        let log = ["log", "-l1", &revset, "--template", template];
        let (exit, said) = self.run("log", &log).await?;
        if !exit.success() {
            // What else hg complains of is the clone's.
            let words = [
                "unknown revision",
                "ambiguous identifier",
                "hidden revision",
                "parse error",
            ];
            return Err(if words.iter().any(|words| exit.stderr.contains(words)) {
                unknown().into()
            } else {
                Trouble::Mirror(format!("hg log: {}", exit.stderr))
            });
        }
        let text = String::from_utf8_lossy(&said);
        let (head, tags) = text.split_once('\n').unwrap_or((&text, ""));
        let mut words = head.split(' ');
        let hash = words.next().filter(|hash| hash.len() == 40);
        let seconds = words.next().and_then(|seconds| seconds.parse().ok());
        let time = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let (Some(hash), Some(time)) = (hash, time) else {
            return Err(Trouble::Mirror(format!("hg log said {head:?}")));
        };
        let mut tags: Vec<String> = tags
            .lines()
            .filter(|tag| *tag != "tip")
            .map(str::to_owned)
            .collect();
        tags.sort();
        Ok(Commit {
            short: hash[..SHORT].to_owned(),
            tag: tags.iter().find(|tag| *tag == revision).cloned(),
            hash: hash.to_owned(),
            time,
            tags,
            // What is the beginning of the hash tells nothing more.
            reference: (revision.len() < SHORT || !hash.starts_with(revision))
                .then(|| revision.to_owned()),
            tip: false,
        })
    }

    /// A file in a commit that `stat` gave, at most `max` bytes of it; `None` if there is none.
    pub(crate) async fn read(
        &mut self,
        hash: &str,
        file: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        let (revision, path) = (format!("--rev={hash}"), format!("path:{file}"));
        let most = usize::try_from(max).unwrap_or(MAX_SAID).min(MAX_SAID);
        let cat = ["cat", &revision, "--", &path];
        let (exit, said) = self.output("cat", &cat, most).await?;
        match exit.code {
            Some(0) => Ok(Some(said.into())),
            // No file of that name.
            Some(1) => Ok(None),
            _ => Err(Trouble::Mirror(exit.stderr)),
        }
    }

    /// The tags with a prefix that are on the commit or its ancestors.
    pub(crate) async fn merged_tags(
        &mut self,
        commit: &Commit,
        prefix: &str,
    ) -> Result<Vec<String>, Trouble> {
        let revset = format!("--rev=ancestors({}) and tag()", commit.hash);
        let said = self
            .ask(
                "log",
                &["log", &revset, "--template", "{tags % '{tag}\\n'}"],
            )
            .await?;
        let tags = said
            .lines()
            .filter(|tag| *tag != "tip" && tag.starts_with(prefix));
        Ok(tags.map(str::to_owned).collect())
    }

    /// Whether a tag is on the commit or its ancestors.
    pub(crate) async fn descends_from(
        &mut self,
        commit: &Commit,
        tag: &Tag,
    ) -> Result<bool, Trouble> {
        let revset = format!("--rev=ancestors({}) and id({})", commit.hash, tag.hash);
        let said = self
            .ask("log", &["log", &revset, "--template", "{node}"])
            .await?;
        Ok(!said.is_empty())
    }

    /// The files in a folder of a commit, in the order in which [`HgRepository::archive`] has them.
    pub(crate) async fn list(&mut self, hash: &str, folder: &str) -> Result<Vec<Listed>, Trouble> {
        let (revision, path) = (format!("--rev={hash}"), format!("path:{folder}"));
        let files = [
            "files",
            &revision,
            "--template",
            "{size}\\t{flags}\\t{path}\\0",
            "--",
            &path,
        ];
        let (exit, said) = self.output("files", &files, MAX_SAID).await?;
        match exit.code {
            Some(0) => {}
            // No file at all.
            Some(1) => return Ok(Vec::new()),
            _ => return Err(Trouble::Mirror(exit.stderr)),
        }
        let lines = said
            .split(|byte| *byte == 0)
            .filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let mut fields = line.splitn(3, |byte| *byte == b'\t');
                let size = fields
                    .next()
                    .and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
                match (size, fields.next(), fields.next()) {
                    (Some(size), Some(flags), Some(name)) => Ok(Listed {
                        name: name.to_owned(),
                        size,
                        link: flags.contains(&b'l'),
                    }),
                    _ => Err(Trouble::Mirror(
                        "hg files said something else than files".to_owned(),
                    )),
                }
            })
            .collect()
    }

    /// A tar of the files in a folder of a commit, as it comes. All names in it begin with [`HgRepository::prefix`].
    pub(crate) async fn archive(&self, hash: &str, folder: &str) -> Result<Running, Trouble> {
        let (revision, prefix) = (format!("--rev={hash}"), format!("--prefix={PREFIX}"));
        let include = format!("--include=path:{folder}");
        let mut archive = vec!["archive", "-t", "tar", "--no-decode", &revision, &prefix];
        if !folder.is_empty() {
            archive.push(&include);
        }
        archive.extend(["--", "-"]);
        Ok(self.start("archive", &archive).await?)
    }

    /// The folder in archives that stands for the root of the repository.
    pub(crate) fn prefix() -> &'static str {
        PREFIX
    }

    /// Gets what is new, once in a question.
    async fn pull(&mut self) -> Result<(), Trouble> {
        if self.pulled {
            return Ok(());
        }
        let mirror = Arc::clone(&self.mirror);
        let mut disk = mirror.disk.lock().await;
        // Whoever was before may have pulled since this was asked.
        if disk.pulled.is_some_and(|at| at >= self.since) {
            self.pulled = true;
            return Ok(());
        }
        let begun = Instant::now();
        let folder = mirror.folder.clone();
        blocking(move || std::fs::create_dir_all(folder)).await?;
        if !self.exists() {
            let (exit, _) = self.run("init", &["init", "--", "."]).await?;
            if !exit.success() {
                return Err(self.failed("hg init", &exit).into());
            }
            mirror.stamp(&self.way.url)?;
        }
        let url = self.way.url.clone();
        let what = format!("hg pull {url}");
        let arguments = ["pull", "-q", "-f", "--", &url];
        let (exit, _) = tokio::select! {
            done = self.run("pull", &arguments) => done?,
            error = outgrown(&mirror.folder, self.max_bytes, &what) => return Err(error.into()),
        };
        if !exit.success() {
            return Err(self.damaged(&what, &exit).await);
        }
        disk.pulled = Some(begun);
        self.pulled = true;
        Ok(())
    }

    /// Whether there is a clone.
    fn exists(&self) -> bool {
        self.mirror.folder.join(".hg").is_dir()
    }

    /// What a failed pull means: that the clone is damaged, if hg cannot read it without any server either.
    async fn damaged(&self, what: &str, exit: &Exit) -> Trouble {
        let error = self.failed(what, exit);
        match self.run("tags", &["tags"]).await {
            Ok((alone, _)) if !alone.success() => Trouble::Mirror(error.text),
            _ if exit.stderr.contains("abandoned transaction") => Trouble::Mirror(error.text),
            _ => error.into(),
        }
    }

    /// What hg says, as text; a failure is the mirror's.
    async fn ask(&self, what: &str, arguments: &[&str]) -> Result<String, Trouble> {
        let (exit, said) = self.run(what, arguments).await?;
        if exit.success() {
            Ok(String::from_utf8_lossy(&said).into_owned())
        } else {
            Err(Trouble::Mirror(format!("hg {what}: {}", exit.stderr)))
        }
    }

    async fn run(&self, what: &str, arguments: &[&str]) -> Result<(Exit, Vec<u8>), DirectError> {
        self.output(what, arguments, MAX_SAID).await
    }

    async fn output(
        &self,
        what: &str,
        arguments: &[&str],
        most: usize,
    ) -> Result<(Exit, Vec<u8>), DirectError> {
        let named = format!("hg {what} {}", self.way.url);
        let mut command = command(&self.mirror.folder);
        command.args(arguments);
        let told = settings(&self.way);
        talk(command, &named, told.as_bytes(), most, self.limit).await
    }

    /// Starts hg in the clone, with its settings on the way.
    async fn start(&self, what: &str, arguments: &[&str]) -> Result<Running, DirectError> {
        let mut command = command(&self.mirror.folder);
        command.args(arguments).stdin(Stdio::piped());
        let mut running = Running::start(command, format!("hg {what} {}", self.way.url))?;
        if let Some(mut stdin) = running.take_stdin() {
            // A program that does not start reads nothing; its exit says more.
            let _ = stdin.write_all(settings(&self.way).as_bytes()).await;
        }
        Ok(running)
    }

    fn failed(&self, what: &str, exit: &Exit) -> DirectError {
        failed(what, &self.way, exit)
    }
}

/// hg in a folder, with nothing of the machine's own configuration and nobody to ask.
fn command(folder: &Path) -> Command {
    let mut command = process::command("hg", folder);
    command
        .env("HGPLAIN", "1")
        .env("HGENCODING", "utf-8")
        // Settings come by the pipe.
        .env("HGRCPATH", "/dev/stdin");
    command
}

/// hg's configuration for one use; may hold secrets.
fn settings(way: &Way) -> String {
    let mut text = "[ui]\ninteractive = false\ntimeout = 600\n".to_owned();
    let mut set = |line: String| {
        // A line break would begin another setting.
        if !line.contains(['\n', '\r']) {
            text.push_str(&line);
            text.push('\n');
        }
    };
    if let Some(ssh) = way.ssh() {
        set(format!("ssh = {ssh}"));
    }
    if let Some(file) = way.setting("http.sslCAInfo") {
        set("[web]".to_owned());
        set(format!("cacerts = {file}"));
    }
    if let Some(proxy) = way.setting("http.proxy").filter(|proxy| !proxy.is_empty()) {
        set("[http_proxy]".to_owned());
        set("always = true".to_owned());
        let bare = proxy
            .split_once("://")
            .map_or(proxy, |(_, rest)| rest)
            .trim_end_matches('/');
        let (login, host) = bare
            .rsplit_once('@')
            .map_or((None, bare), |(login, host)| (Some(login), host));
        set(format!("host = {host}"));
        if let Some((user, password)) = login.and_then(|login| login.split_once(':')) {
            set(format!("user = {user}"));
            set(format!("passwd = {password}"));
        }
    }
    if let Some((user, password)) = &way.login {
        set("[auth]".to_owned());
        set(format!("own.prefix = {}", way.url));
        set(format!("own.username = {user}"));
        set(format!("own.password = {}", password.expose()));
    }
    text
}

#[cfg(test)]
mod tests;
