//! For tests: repositories made by git, asked by `file:` URLs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use egress::{Credentials, Egress, NetworkSettings};
use gomod::{ModulePath, Version};
use tempfile::TempDir;

use crate::discover::{Kind, Mapping};
use crate::{Direct, DirectError, DirectSettings};

/// A folder with repositories and a [`Direct`] that knows `test.example/NAME` as the repository `NAME`.
pub(crate) struct Lab {
    pub(crate) folder: TempDir,
    pub(crate) direct: std::sync::Arc<Direct>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut DirectSettings)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = DirectSettings::new(folder.path().join("mirrors"));
        settings.mappings.push(Mapping {
            prefix: "test.example".to_owned(),
            repo: format!("file://{}/{{1}}", folder.path().display()),
            vcs: Kind::Git,
            subdir: String::new(),
        });
        settings.refs_life = Duration::from_mins(1);
        change(&mut settings);
        Self {
            direct: Direct::new(settings, no_network()),
            folder,
        }
    }

    /// A repository that is there or made.
    pub(crate) fn repository(&self, name: &str) -> Repo {
        let folder = self.folder.path().join(name);
        let repo = Repo(folder);
        if !repo.0.exists() {
            std::fs::create_dir(&repo.0).unwrap();
            repo.git(&["init", "-q", "-b", "main"]);
        }
        repo
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        let mut mirrors = std::fs::read_dir(self.folder.path().join("mirrors")).unwrap();
        let found = mirrors.find_map(|entry| {
            let path = entry.unwrap().path();
            (path.extension().is_some_and(|extension| extension == "git")).then_some(path)
        });
        found.unwrap()
    }

    pub(crate) async fn query(&self, path: &str, query: &str) -> Result<String, DirectError> {
        let revision = self.direct.revision(&module(path), query).await?;
        Ok(revision.version.to_string())
    }

    pub(crate) async fn versions(&self, path: &str) -> Vec<String> {
        let versions = self.direct.versions(&module(path)).await.unwrap();
        versions.iter().map(Version::to_string).collect()
    }

    pub(crate) async fn zip(&self, path: &str, version: &str) -> Result<Vec<u8>, DirectError> {
        let mut stream = self
            .direct
            .zip(&module(path), &Version::parse(version).unwrap(), None)
            .await?;
        let mut all = Vec::new();
        while let Some(block) = stream.next().await {
            all.extend_from_slice(&block?);
        }
        Ok(all)
    }

    /// The names in a zip, after `path@version/`, which is checked as a client does.
    pub(crate) async fn names(
        &self,
        path: &str,
        version: &str,
    ) -> Result<Vec<String>, DirectError> {
        let bytes = self.zip(path, version).await?;
        let (module, parsed) = (module(path), Version::parse(version).unwrap());
        let length = bytes.len() as u64;
        let limits = gomod::zip::Limits::default();
        let cursor = std::io::Cursor::new(&bytes);
        gomod::zip::check(
            cursor,
            length,
            &module,
            &parsed,
            &limits,
            gomod::zip::Want::Hash,
        )
        .unwrap();
        let zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
        let prefix = format!("{path}@{version}/");
        let mut names: Vec<String> = zip
            .file_names()
            .map(|name| name.unwrap().strip_prefix(&prefix).unwrap().to_owned())
            .collect();
        names.sort();
        Ok(names)
    }
}

/// A way out without settings.
pub(crate) fn no_network() -> Egress {
    Egress::new(NetworkSettings::default(), Credentials::default())
}

pub(crate) fn module(path: &str) -> ModulePath {
    ModulePath::parse(path).unwrap()
}

/// A repository with a work tree.
pub(crate) struct Repo(pub(crate) PathBuf);

impl Repo {
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.0, args)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let file = self.0.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }

    /// Changes references by the lines of `git update-ref --stdin`.
    pub(crate) fn update_refs(&self, lines: &str) {
        use std::io::Write;
        let mut git = command(&self.0, &["update-ref", "--stdin"]);
        let mut child = git.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Commits all files; the hash.
    pub(crate) fn commit(&self, time: u32) -> String {
        self.git(&["add", "-A"]);
        let date = format!("{time} +0000");
        let mut command = command(&self.0, &["commit", "-q", "--allow-empty", "-m", "x"]);
        command
            .env("GIT_COMMITTER_DATE", &date)
            .env("GIT_AUTHOR_DATE", &date);
        assert!(command.status().unwrap().success());
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn tag(&self, name: &str) {
        self.git(&["tag", "-f", name]);
    }

    /// A module of one file, committed and tagged.
    pub(crate) fn release(&self, path: &str, version: &str, time: u32) -> String {
        self.write("go.mod", &format!("module {path}\n\ngo 1.21\n"));
        self.write("x.go", &format!("package x // {version}\n"));
        let hash = self.commit(time);
        self.tag(version);
        hash
    }
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder);
    for (key, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@test.example"),
        ("GIT_COMMITTER_NAME", "c"),
        ("GIT_COMMITTER_EMAIL", "c@test.example"),
    ] {
        command.env(key, value);
    }
    command
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = command(folder, args).output().unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
