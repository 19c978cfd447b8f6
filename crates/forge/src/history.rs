//! A repository as a description: commits, tags and other references, with dates and authors that never change, so that
//! the hashes never change either. One `git fast-import` makes it, however many commits it has.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use time::OffsetDateTime;
use time::macros::format_description;

/// When the first commit was made: 2024-01-01T00:00:00Z, in seconds. Each later one is an hour younger.
const START: i64 = 1_704_067_200;

/// One change of a commit's files.
#[derive(Debug, Clone)]
pub struct Change {
    name: Vec<u8>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(Vec<u8>),
    /// A submodule at this commit.
    Submodule(String),
    Gone,
}

/// The kinds of [`Change`].
pub mod change {
    use super::{Change, What};

    /// An ordinary file.
    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Change {
        make(name, What::File(content.as_ref().to_vec()))
    }

    /// An executable file.
    pub fn program(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Change {
        make(name, What::Program(content.as_ref().to_vec()))
    }

    /// A symbolic link.
    pub fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Change {
        make(name, What::Link(target.as_ref().to_vec()))
    }

    /// A submodule; its commit need not exist.
    pub fn submodule(name: impl AsRef<[u8]>, commit: &str) -> Change {
        make(name, What::Submodule(commit.to_owned()))
    }

    /// A file or folder that is removed.
    pub fn gone(name: impl AsRef<[u8]>) -> Change {
        make(name, What::Gone)
    }

    fn make(name: impl AsRef<[u8]>, what: What) -> Change {
        let name = name.as_ref().to_vec();
        Change { name, what }
    }
}

/// A description of a repository.
///
/// Commits have names, by which tags, parents and [`Built::fill`] speak of them.
#[derive(Debug)]
pub struct History {
    stream: Vec<u8>,
    /// The mark of each named commit, and its time.
    commits: BTreeMap<String, (usize, i64)>,
    marks: usize,
    now: i64,
    sha256: bool,
    head: String,
    /// What `HEAD` is in place of a branch.
    detached: Option<String>,
}

impl Default for History {
    fn default() -> History {
        History::new()
    }
}

impl History {
    /// No commits; `HEAD` is `main`.
    pub fn new() -> History {
        History {
            stream: Vec::new(),
            commits: BTreeMap::new(),
            marks: 0,
            now: START,
            sha256: false,
            head: "main".to_owned(),
            detached: None,
        }
    }

    /// The same with objects named by SHA-256.
    #[must_use]
    pub fn sha256(mut self) -> History {
        self.sha256 = true;
        self
    }

    /// Makes `HEAD` another branch.
    pub fn head(&mut self, branch: &str) {
        branch.clone_into(&mut self.head);
    }

    /// Makes `HEAD` a commit, by its hash, whether there is one or not; a text for [`Built::fill`].
    pub fn head_at(&mut self, hash: &str) {
        self.detached = Some(hash.to_owned());
    }

    /// Makes the next commit this many seconds younger than the last one, instead of an hour.
    pub fn after(&mut self, seconds: i64) {
        self.now += seconds - 3600;
    }

    /// A commit on top of a branch, which it starts if there is none.
    pub fn commit(&mut self, branch: &str, name: &str, changes: impl IntoIterator<Item = Change>) {
        self.add(&format!("refs/heads/{branch}"), name, &[], changes);
    }

    /// A commit on top of `parents`, the first of which it has its files from, which then is the tip of `branch`.
    pub fn commit_on(
        &mut self,
        branch: &str,
        name: &str,
        parents: &[&str],
        changes: impl IntoIterator<Item = Change>,
    ) {
        self.add(&format!("refs/heads/{branch}"), name, parents, changes);
    }

    /// The same for a reference that is no branch, by its full name.
    pub fn commit_elsewhere(
        &mut self,
        reference: &str,
        name: &str,
        parents: &[&str],
        changes: impl IntoIterator<Item = Change>,
    ) {
        self.add(reference, name, parents, changes);
    }

    fn add(
        &mut self,
        reference: &str,
        name: &str,
        parents: &[&str],
        changes: impl IntoIterator<Item = Change>,
    ) {
        self.marks += 1;
        self.now += 3600;
        let mut text = format!(
            "commit {reference}\nmark :{}\nauthor Ann <ann@golden.test> {} +0000\n\
             committer Cy <cy@golden.test> {} +0200\ndata {}\n{name}\n",
            self.marks,
            self.now - 60,
            self.now,
            name.len()
        );
        for (at, parent) in parents.iter().enumerate() {
            let word = if at == 0 { "from" } else { "merge" };
            let _ = writeln!(text, "{word} :{}", self.mark(parent));
        }
        self.stream.extend_from_slice(text.as_bytes());
        for Change { name, what } in changes {
            let (mode, content) = match &what {
                What::File(content) => ("100644", content),
                What::Program(content) => ("100755", content),
                What::Link(target) => ("120000", target),
                What::Submodule(commit) => {
                    self.line(format!("M 160000 {commit} ").as_bytes(), &name);
                    continue;
                }
                What::Gone => {
                    self.line(b"D ", &name);
                    continue;
                }
            };
            self.line(format!("M {mode} inline ").as_bytes(), &name);
            let _ = writeln!(self.stream, "data {}", content.len());
            self.stream.extend_from_slice(content);
            self.stream.push(b'\n');
        }
        self.stream.push(b'\n');
        self.commits.insert(name.to_owned(), (self.marks, self.now));
    }

    /// A line that ends with a file name, quoted as C does.
    fn line(&mut self, start: &[u8], name: &[u8]) {
        self.stream.extend_from_slice(start);
        self.stream.push(b'"');
        for &byte in name {
            match byte {
                b'"' | b'\\' => self.stream.extend_from_slice(&[b'\\', byte]),
                0x20..0x7f => self.stream.push(byte),
                _ => {
                    let _ = write!(self.stream, "\\{byte:03o}");
                }
            }
        }
        self.stream.extend_from_slice(b"\"\n");
    }

    fn mark(&self, name: &str) -> usize {
        match self.commits.get(name) {
            Some((mark, _)) => *mark,
            None => panic!("there is no commit named {name}"),
        }
    }

    /// A light tag.
    pub fn tag(&mut self, tag: &str, commit: &str) {
        self.reference(&format!("refs/tags/{tag}"), commit);
    }

    /// Any reference, by its full name.
    pub fn reference(&mut self, reference: &str, commit: &str) {
        let mark = self.mark(commit);
        let _ = write!(self.stream, "reset {reference}\nfrom :{mark}\n\n");
    }

    /// An annotated tag, made a day after the last commit.
    pub fn annotated(&mut self, tag: &str, commit: &str) {
        let (mark, time) = (self.mark(commit), self.now + 86_400);
        let _ = write!(
            self.stream,
            "tag {tag}\nfrom :{mark}\ntagger Tim <tim@golden.test> {time} +0000\ndata 5\nv tag\n"
        );
    }

    /// Makes the repository in a folder that does not exist yet.
    ///
    /// # Panics
    /// If git does not make it.
    pub fn build(&self, folder: &Path) -> Built {
        let format = if self.sha256 { "sha256" } else { "sha1" };
        git(
            &[
                "init",
                "--quiet",
                "--bare",
                "--template=",
                &format!("--object-format={format}"),
                &format!("--initial-branch={}", self.head),
            ],
            Some(folder),
            &[],
        );
        for (key, value) in [
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
        ] {
            git(&["-C", path(folder), "config", key, value], None, &[]);
        }
        self.import(folder)
    }

    /// Writes the commits and references into a repository that exists, in place of what its references were. The old
    /// objects stay.
    ///
    /// # Panics
    /// If git does not take them.
    pub fn import(&self, folder: &Path) -> Built {
        let marks = folder.join("marks");
        git(
            &[
                "-C",
                path(folder),
                // Small packs are nobody's concern here, and take long to make.
                "-c",
                "core.compression=0",
                "fast-import",
                "--depth=0",
                "--quiet",
                "--force",
                "--export-marks=marks",
            ],
            None,
            &self.stream,
        );
        let text = std::fs::read_to_string(&marks).expect("fast-import wrote the marks");
        let hashes: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(':')?.split_once(' '))
            .collect();
        let commits = self.commits.iter().map(|(name, (mark, time))| {
            let hash = hashes[mark.to_string().as_str()].to_owned();
            (name.clone(), (hash, *time))
        });
        let built = Built {
            folder: folder.to_owned(),
            commits: commits.collect(),
        };
        if let Some(hash) = &self.detached {
            let head = format!("{}\n", built.fill(hash));
            std::fs::write(folder.join("HEAD"), head).expect("it can be written");
        }
        built
    }
}

/// A repository that was made.
#[derive(Debug, Clone)]
pub struct Built {
    /// The bare repository.
    pub folder: PathBuf,
    commits: BTreeMap<String, (String, i64)>,
}

impl Built {
    /// The full hash of a commit.
    ///
    /// # Panics
    /// If there is no such commit.
    pub fn hash(&self, commit: &str) -> &str {
        &self.commits[commit].0
    }

    /// Replaces `{name}` by a commit's full hash, `{name:N}` by its first N digits, `{name:p}` by the end of its
    /// pseudo-version (`20240101010000-0123456789ab`) and `{name:t}` by the time therein.
    ///
    /// # Panics
    /// If there is no such commit.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}').expect("a closing brace");
            filled.push_str(before);
            let (name, form) = word.split_once(':').unwrap_or((word, "64"));
            let Some((hash, time)) = self.commits.get(name) else {
                panic!("there is no commit named {name}");
            };
            let time = OffsetDateTime::from_unix_timestamp(*time)
                .expect("a small number")
                .format(format_description!(
                    "[year][month][day][hour][minute][second]"
                ))
                .expect("it can be formatted");
            match form {
                "p" => filled.extend([time.as_str(), "-", &hash[..12]]),
                "t" => filled.push_str(&time),
                digits => {
                    let digits: usize = digits.parse().expect("a number of digits");
                    filled.push_str(&hash[..digits.min(hash.len())]);
                }
            }
            rest = after;
        }
        filled + rest
    }
}

fn path(folder: &Path) -> &str {
    folder.to_str().expect("temporary folders have plain names")
}

/// Runs git with these arguments, and no configuration but the repository's.
///
/// # Panics
/// If it fails; the message has what git says.
fn git(args: &[&str], folder: Option<&Path>, input: &[u8]) {
    let mut command = Command::new("git");
    command
        .args(args)
        .args(folder)
        .envs(quiet_git())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("git is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    // git may end early; what it says then is better than a broken pipe.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("git ends");
    assert!(
        output.status.success(),
        "git {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The variables that keep git from reading the configuration of the machine.
pub(crate) fn quiet_git() -> [(&'static str, &'static str); 3] {
    [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ]
}
