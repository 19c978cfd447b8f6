//! Subversion, by its program (protocol.md 8.3). Nothing is kept: each question goes to the server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use gomod::zip::Kind;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::git::mirror::blocking;
use crate::process::{self, Exit};
use crate::program::{Exported, Scratch, failed, http_proxy, usable};
use crate::reach::Way;
use crate::repository::{Commit, Tag, Trouble};
use crate::zip::{Content, Entry, Files, outgrown};
use crate::{DirectError, ErrorKind};

/// Most that svn may say of a revision, tags or files, in bytes.
const MAX_SAID: usize = 64 << 20;
/// Digits of a revision.
const DIGITS: usize = 12;

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct SvnRepository {
    way: Way,
    limit: Duration,
    max_bytes: u64,
    scratch: Scratch,
}

impl SvnRepository {
    /// `folder` is for what is written for a short time; `limit` bounds each run, `max_bytes` what is exported.
    pub(crate) fn new(
        folder: &Path,
        way: Way,
        limit: Duration,
        max_bytes: u64,
    ) -> Result<Self, DirectError> {
        let scratch = Scratch::new(folder)?;
        let authorities = authorities(&way, &scratch)?;
        scratch.write("servers", &servers(&way, &authorities)?)?;
        Ok(Self {
            way,
            limit,
            max_bytes,
            scratch,
        })
    }

    /// Whether a repository answers: no error.
    pub(crate) async fn answers(&self) -> Result<(), DirectError> {
        let (exit, _) = self.run(&["info", "--", &self.way.url]).await?;
        if exit.success() {
            Ok(())
        } else {
            Err(self.failed("info", &exit))
        }
    }

    /// The names in the folder of tags with a prefix. As for the go command, that of a folder ends in `/`, and is no
    /// version for that.
    pub(crate) async fn tags(&mut self, prefix: &str) -> Result<Vec<Tag>, Trouble> {
        let base = self.way.url.strip_suffix("/trunk").unwrap_or(&self.way.url);
        let url = format!("{base}/tags");
        let (exit, said) = self.run(&["list", "--", &url]).await?;
        if !exit.success() {
            return match self.failed("list", &exit) {
                error if absent(&exit) || error.kind == ErrorKind::NotFound => Ok(Vec::new()),
                error => Err(error.into()),
            };
        }
        let said = String::from_utf8_lossy(&said);
        let names = said.lines().filter(|name| name.starts_with(prefix));
        let tag = |name: &str| Tag {
            name: name.to_owned(),
            hash: String::new(),
        };
        Ok(names.map(tag).collect())
    }

    /// The revision of a number or of `HEAD`: the last one up to it in which something changed.
    pub(crate) async fn stat(&mut self, revision: &str) -> Result<Commit, Trouble> {
        let number = revision.trim_start_matches('r');
        let number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !number && !revision.eq_ignore_ascii_case("head") {
            return Err(DirectError::not_found(format!("unknown revision {revision}")).into());
        }
        self.log(&format!("{}@{revision}", self.way.url), revision)
            .await
    }

    /// The newest revision.
    pub(crate) async fn latest(&mut self) -> Result<Commit, Trouble> {
        self.log(&format!("{}@HEAD", self.way.url), "latest").await
    }

    async fn log(&self, url: &str, asked: &str) -> Result<Commit, Trouble> {
        let (exit, said) = self.run(&["log", "-l1", "--xml", "--", url]).await?;
        let unknown = || DirectError::not_found(format!("unknown revision {asked}"));
        if !exit.success() {
            return Err(match self.failed("log", &exit) {
                error if error.kind == ErrorKind::NotFound => unknown().into(),
                // A number that is too large for one.
                _ if exit.stderr.contains("E205000") => unknown().into(),
                error => error.into(),
            });
        }
        let said = String::from_utf8_lossy(&said);
        let number = attribute(&said, "revision").and_then(|number| number.parse::<u64>().ok());
        let time =
            element(&said, "date").and_then(|date| OffsetDateTime::parse(date, &Rfc3339).ok());
        let (Some(number), Some(time)) = (number, time) else {
            return Err(unknown().into());
        };
        Ok(Commit {
            hash: number.to_string(),
            short: format!("{number:0DIGITS$}"),
            time,
            tags: Vec::new(),
            tag: None,
            reference: Some(asked.to_owned()),
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
        let url = format!("{}/{file}@{revision}", self.way.url);
        let most = usize::try_from(max).unwrap_or(MAX_SAID).min(MAX_SAID);
        let (exit, said) = self.output(&["cat", "--", &url], most).await?;
        if exit.success() {
            return Ok(Some(said.into()));
        }
        let error = self.failed("cat", &exit);
        if !absent(&exit) && error.kind != ErrorKind::NotFound {
            return Err(error.into());
        }
        self.prove_there(revision).await?;
        Ok(None)
    }

    /// An error if a revision is not there at all: of a server that has nothing at the moment, svn says the same as of a
    /// file that does not exist.
    async fn prove_there(&self, revision: &str) -> Result<(), DirectError> {
        let url = format!("{}@{revision}", self.way.url);
        let (exit, _) = self.run(&["info", "--", &url]).await?;
        if exit.success() {
            Ok(())
        } else {
            Err(self.failed("info", &exit))
        }
    }

    /// All files in a folder of a revision: exported, as there is no other way to get many.
    pub(crate) async fn files(self, revision: &str, folder: &str) -> Result<Files, Trouble> {
        let mut url = self.way.url.clone();
        if !folder.is_empty() {
            url = format!("{url}/{folder}");
        }
        let url = format!("{url}@{revision}");
        let at = ["--revision", revision, "--", &url];
        let (exit, said) = self
            .run(&[&["list", "--xml", "--incremental", "--recursive"], &at[..]].concat())
            .await?;
        if !exit.success() {
            return Err(self.failed("list", &exit).into());
        }
        let entries = entries(&String::from_utf8_lossy(&said));
        let sum: u64 = entries.iter().map(|entry| entry.size).sum();
        if sum > self.max_bytes {
            let text = format!("the files of revision {revision} have {sum} bytes");
            return Err(outgrown(&text, self.max_bytes).into());
        }
        let target = self.scratch.path().join("export");
        let into = target.display().to_string();
        let how = [
            "export",
            "--quiet",
            "--native-eol",
            "LF",
            "--ignore-externals",
            "--ignore-keywords",
        ];
        let (exit, _) = self.run(&[&how[..], &at, &[&into]].concat()).await?;
        if !exit.success() {
            return Err(self.failed("export", &exit).into());
        }
        let root = target.clone();
        let (entries, odd) = blocking(move || {
            let odd = entries.iter().position(|entry| {
                let path = path_in(&root, &entry.name);
                let data = path.and_then(|path| fs::symlink_metadata(path).ok());
                !data.is_some_and(|data| data.is_file() && data.len() == entry.size)
            });
            Ok((entries, odd))
        })
        .await?;
        if let Some(odd) = odd {
            // So does the go command: a link, or line ends that the repository has changed.
            let name = String::from_utf8_lossy(&entries[odd].name).into_owned();
            let text = format!("{name} is exported otherwise than it is listed");
            return Err(DirectError::invalid(text).into());
        }
        Ok(Files {
            entries,
            content: Content::Exported(Box::new(Exported::new(target, self.scratch))),
            mirror: None,
        })
    }

    async fn run(&self, arguments: &[&str]) -> Result<(Exit, Vec<u8>), DirectError> {
        self.output(arguments, MAX_SAID).await
    }

    async fn output(
        &self,
        arguments: &[&str],
        most: usize,
    ) -> Result<(Exit, Vec<u8>), DirectError> {
        let what = format!("svn {} {}", arguments[0], self.way.url);
        let mut command = process::command("svn", self.scratch.path());
        // Names of files are UTF-8, and it gives up on those that it cannot write.
        command.env("LC_ALL", "C.UTF-8");
        if let Some(ssh) = self.way.ssh() {
            command.env("SVN_SSH", ssh);
        }
        command.args(["--non-interactive", "--no-auth-cache", "--config-dir"]);
        command.arg(self.scratch.path());
        let mut said = Vec::new();
        if let Some((user, password)) = &self.way.login {
            command.args(["--username", user, "--password-from-stdin"]);
            said.extend_from_slice(format!("{}\n", password.expose()).as_bytes());
        }
        command.args(arguments);
        process::talk(command, &what, &said, most, self.limit).await
    }

    fn failed(&self, what: &str, exit: &Exit) -> DirectError {
        failed(&format!("svn {what} {}", self.way.url), &self.way, exit)
    }
}

/// Whether svn says that a path is not there, or is a folder.
fn absent(exit: &Exit) -> bool {
    ["W160013", "W195007"]
        .iter()
        .any(|code| exit.stderr.contains(code))
}

/// The configured certificates, each in a file of its own: svn takes the first of a file and passes over the others. The
/// system's it has from elsewhere.
fn authorities(way: &Way, scratch: &Scratch) -> Result<Vec<String>, DirectError> {
    const END: &str = "-----END CERTIFICATE-----";
    let pem = String::from_utf8_lossy(way.authorities.as_deref().unwrap_or_default());
    let mut files = Vec::new();
    for certificate in pem.split_inclusive(END).filter(|one| one.ends_with(END)) {
        let name = format!("authority-{}.pem", files.len());
        scratch.write(&name, certificate)?;
        files.push(scratch.path().join(name).display().to_string());
    }
    Ok(files)
}

/// svn's settings of servers for one question; may hold secrets.
fn servers(way: &Way, authorities: &[String]) -> Result<String, DirectError> {
    usable("svn", way, false)?;
    let mut lines = vec!["[global]".to_owned(), "store-passwords = no".to_owned()];
    if !authorities.is_empty() {
        lines.push(format!("ssl-authority-files = {}", authorities.join(";")));
    }
    if way.setting("http.sslCAPath").is_some() {
        lines.push("ssl-trust-default-ca = no".to_owned());
    }
    if let Some(proxy) = http_proxy("svn", way)? {
        lines.push(format!("http-proxy-host = {}", proxy.host));
        lines.push(format!("http-proxy-port = {}", proxy.port));
        if let Some((user, password)) = proxy.login {
            lines.push(format!("http-proxy-username = {user}"));
            lines.push(format!("http-proxy-password = {password}"));
        }
    }
    // A line break would begin another setting.
    lines.retain(|line| !line.contains(['\n', '\r']));
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// The files in what `svn list --xml` says.
fn entries(text: &str) -> Vec<Entry> {
    let files = text
        .split("<entry")
        .skip(1)
        .filter(|entry| attribute(entry, "kind") == Some("file"));
    let entry = |entry: &str| {
        Some(Entry {
            name: unescaped(element(entry, "name")?).into_bytes(),
            kind: Kind::Regular,
            size: element(entry, "size")?.parse().ok()?,
        })
    };
    files.filter_map(entry).collect()
}

/// The path of an entry, if it is below `folder`.
fn path_in(folder: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = std::str::from_utf8(name).ok()?;
    let fine = |element: &str| !matches!(element, "" | "." | "..");
    name.split('/').all(fine).then(|| folder.join(name))
}

/// The first attribute of this name.
fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0)
}

/// The text of the first element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    let plain = plain.replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&#13;", "\r").replace("&amp;", "&")
}

#[cfg(test)]
mod tests;
