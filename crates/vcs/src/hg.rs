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
use crate::process::{self, Exit, Running, talk};
use crate::program::{failed, http_proxy, usable};
use crate::reach::Way;
use crate::repository::{Commit, Tag, Trouble};
use crate::whole::{Whole, is_plain};
use crate::{DirectError, ErrorKind};

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
    whole: Whole,
}

impl HgRepository {
    /// Over a clone.
    pub(crate) fn new(whole: Whole) -> Result<Self, DirectError> {
        check(&whole.way)?;
        Ok(Self { whole })
    }

    /// The clone, and which making of it.
    pub(crate) fn mirror(&self) -> (Arc<Mirror>, u64) {
        (Arc::clone(&self.whole.mirror), self.whole.generation)
    }

    /// Whether a repository answers: no error. `folder` is any folder.
    pub(crate) async fn answers(
        folder: &Path,
        way: Way,
        limit: Duration,
    ) -> Result<(), DirectError> {
        check(&way)?;
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
        self.pull(false).await?;
        let tags = self.all_tags().await?.into_iter();
        let named = tags.filter(|(name, _)| name.starts_with(prefix));
        let mut tags: Vec<Tag> = named.map(|(name, hash)| Tag { name, hash }).collect();
        tags.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tags)
    }

    /// All tags of the clone, and the commits they are on.
    async fn all_tags(&self) -> Result<Vec<(String, String)>, Trouble> {
        let said = self
            .ask("tags", &["tags", "--template", "{node}\\t{tag}\\n"])
            .await?;
        let named = said
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(_, name)| *name != "tip");
        let tags: Vec<(String, String)> = named
            .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
            .collect();
        if tags.is_empty() {
            self.prove_untagged().await?;
        }
        Ok(tags)
    }

    /// An error if the file of the tags is lost: hg takes that for no tags.
    async fn prove_untagged(&self) -> Result<(), Trouble> {
        let heads = "--rev=head() and contains(\"path:.hgtags\")";
        let said = self
            .ask("log", &["log", "-l1", heads, "--template", "{node}"])
            .await?;
        if !said.is_empty() {
            let revision = format!("--rev={said}");
            self.ask("cat", &["cat", &revision, "--", "path:.hgtags"])
                .await?;
        }
        Ok(())
    }

    /// The commit that a revision names: a tag, a branch, a bookmark, a hash or the beginning of one. What may have
    /// moved is looked for after a pull, as is what is not known yet.
    pub(crate) async fn stat(&mut self, revision: &str) -> Result<Commit, Trouble> {
        let hash = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hash
            && !self.whole.is_new()
            && self.exists()
            && let Ok(commit) = self.look_up(revision).await
        {
            return Ok(commit);
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

    /// The newest commit.
    pub(crate) async fn latest(&mut self) -> Result<Commit, Trouble> {
        self.pull(false).await?;
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
        // A revision is an expression to hg: only a name is let through, and in quotes. Nothing but `f` is its working
        // folder, which is of now, whenever that is.
        if !is_plain(revision) || revision.bytes().all(|byte| byte == b'f') {
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
                Trouble::of_reader("hg log", &exit)
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
        // What hg has before the first commit, and takes for the newest where there is none, is no commit.
        if hash.bytes().all(|digit| digit == b'0') {
            return Err(unknown().into());
        }
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
            _ => Err(Trouble::of_reader("hg cat", &exit)),
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
        if said.lines().all(|tag| tag == "tip") {
            self.prove_untagged().await?;
        }
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
            _ => return Err(Trouble::of_reader("hg files", &exit)),
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

    /// Gets what is new, unless what is here will do; see [`Whole::is_fresh`].
    async fn pull(&mut self, now: bool) -> Result<(), Trouble> {
        let mirror = Arc::clone(&self.whole.mirror);
        let mut disk = mirror.disk.lock().await;
        if self.whole.is_fresh(&disk, now) {
            return Ok(());
        }
        let begun = Instant::now();
        self.whole.prepare().await?;
        if !self.exists() {
            let (exit, _) = self.run("init", &["init", "--", "."]).await?;
            if !exit.success() {
                return Err(self.failed("hg init", &exit).into());
            }
        }
        let url = self.whole.way.url.clone();
        let what = format!("hg pull {url}");
        let arguments = ["pull", "-q", "-f", "--", &url];
        let pull = self.run("pull", &arguments);
        let (exit, _) = self.whole.grow(&what, pull).await?;
        if !exit.success() {
            return Err(self.damaged(&what, &exit).await);
        }
        // While nobody else pulls: what is seen later must not be noted earlier.
        let tags = self.all_tags().await?;
        mirror.watch_tags(&url, tags).await;
        self.whole.pulled(&mut disk, begun);
        Ok(())
    }

    /// Whether there is a clone.
    fn exists(&self) -> bool {
        self.whole.mirror.folder.join(".hg").is_dir()
    }

    /// What a failed pull means: that the clone is damaged, if hg cannot read it without any server either.
    async fn damaged(&self, what: &str, exit: &Exit) -> Trouble {
        let error = self.failed(what, exit);
        match self.run("tags", &["tags"]).await {
            Ok((alone, _)) if alone.is_complaint() => Trouble::Mirror(error.text),
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
            Err(Trouble::of_reader(&format!("hg {what}"), &exit))
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
        let named = format!("hg {what} {}", self.whole.way.url);
        let mut command = command(&self.whole.mirror.folder);
        command.args(arguments);
        let told = settings(&self.whole.way);
        talk(command, &named, told.as_bytes(), most, self.whole.limit).await
    }

    /// Starts hg in the clone, with its settings on the way.
    async fn start(&self, what: &str, arguments: &[&str]) -> Result<Running, DirectError> {
        let mut command = command(&self.whole.mirror.folder);
        command.args(arguments).stdin(Stdio::piped());
        let mut running = Running::start(command, format!("hg {what} {}", self.whole.way.url))?;
        if let Some(mut stdin) = running.take_stdin() {
            // A program that does not start reads nothing; its exit says more.
            let _ = stdin.write_all(settings(&self.whole.way).as_bytes()).await;
        }
        Ok(running)
    }

    fn failed(&self, what: &str, exit: &Exit) -> DirectError {
        failed(what, &self.whole.way, exit)
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
    // A server may name files to begin a clone with: of this machine too, and with commits that are not its own.
    let mut text = "[ui]\ninteractive = false\ntimeout = 600\nclonebundles = false\n".to_owned();
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
    if let Ok(Some(proxy)) = http_proxy("hg", way) {
        set("[http_proxy]".to_owned());
        set("always = true".to_owned());
        set(format!("host = {}:{}", proxy.host, proxy.port));
        if let Some((user, password)) = proxy.login {
            set(format!("user = {user}"));
            set(format!("passwd = {password}"));
        }
    }
    let certificate = way.setting("http.sslCert").zip(way.setting("http.sslKey"));
    if way.login.is_some() || certificate.is_some() {
        set("[auth]".to_owned());
        set(format!("own.prefix = {}", way.url));
    }
    if let Some((cert, key)) = certificate {
        set(format!("own.cert = {cert}"));
        set(format!("own.key = {key}"));
    }
    if let Some((user, password)) = &way.login {
        set(format!("own.username = {user}"));
        set(format!("own.password = {}", password.expose()));
    }
    text
}

/// Refuses what hg cannot do on the way.
fn check(way: &Way) -> Result<(), DirectError> {
    usable("hg", way, true)?;
    http_proxy("hg", way).map(drop)
}

#[cfg(test)]
mod tests;
