//! What Go's rules ask of a repository, whatever its version control system.

use bytes::Bytes;
use gomod::zip::Kind;
use time::OffsetDateTime;

use crate::bzr::BzrRepository;
use crate::fossil::FossilRepository;
use crate::git::{Archive, GitRepository};
use crate::hg::HgRepository;
use crate::process::Exit;
use crate::svn::SvnRepository;
use crate::words::bare;
use crate::zip::{Content, Entry, Files};
use crate::{DirectError, ErrorKind};

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) enum Repository {
    Git(Box<GitRepository>),
    Hg(Box<HgRepository>),
    Svn(Box<SvnRepository>),
    Bzr(Box<BzrRepository>),
    Fossil(Box<FossilRepository>),
}

/// Trouble with a repository.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// What is kept of it is damaged. Kept anew, it may well be fine.
    Mirror(String),
    /// A program that read what is kept died, which says nothing of what it read. Asked again, it may well be fine.
    Killed(Killed),
    /// Anything else.
    Other(DirectError),
}

/// How a program died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Killed {
    /// Which, and of what.
    pub(crate) text: String,
    /// It did so by itself.
    crashed: bool,
}

/// Signals by which others end a program: the machine's lack of memory, its administrator, a limit.
const BY_OTHERS: [i32; 6] = [1, 2, 9, 15, 24, 25];

/// What programs say in lower case when it is the machine that has not what they need.
const MACHINE: [&str; 6] = [
    "out of memory",
    "cannot allocate memory",
    "too many open files",
    "resource temporarily unavailable",
    "no space left on device",
    "unable to create thread",
];

impl Trouble {
    /// What it means that a program that read nothing but what is kept failed.
    pub(crate) fn of_reader(what: &str, exit: &Exit) -> Self {
        let text = format!("{what}: {}", exit.said());
        if let Some(signal) = exit.signal {
            return Self::Killed(Killed {
                text,
                crashed: !BY_OTHERS.contains(&signal),
            });
        }
        let machine = |line: &String| MACHINE.iter().any(|words| line.contains(words));
        if bare(&exit.stderr).iter().any(machine) {
            return DirectError::new(ErrorKind::Overloaded, text).into();
        }
        Self::Mirror(text)
    }
}

impl Killed {
    /// What it means once more: a program that crashes again and again does so at what it reads.
    pub(crate) fn again(self) -> Trouble {
        if self.crashed {
            Trouble::Mirror(self.text)
        } else {
            self.error().into()
        }
    }

    fn error(self) -> DirectError {
        DirectError::new(ErrorKind::Overloaded, self.text)
            .hint("see whether the machine, or a limit of modgate's own, has too little memory")
    }
}

impl From<DirectError> for Trouble {
    fn from(error: DirectError) -> Self {
        Self::Other(error)
    }
}

impl From<Trouble> for DirectError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Other(error) => error,
            Trouble::Killed(killed) => killed.error(),
            Trouble::Mirror(text) => {
                Self::new(ErrorKind::Disk, format!("the mirror is damaged: {text}")).hint(
                    "it is made anew with the next question; check the disk if this comes again",
                )
            }
        }
    }
}

/// What else will be asked about a commit, so that one fetch can do for all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan<'a> {
    /// Tags whose files will be read too.
    pub(crate) also: &'a [String],
    /// Whether tags among its ancestors will be looked for.
    pub(crate) ancestry: Ancestry<'a>,
    /// What is asked for is a commit by its hash, whatever branches and tags are named. git's alone.
    pub(crate) by_hash: bool,
}

/// Whether the history of a commit will be needed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Ancestry<'a> {
    /// Not.
    #[default]
    No,
    /// Surely.
    Needed,
    /// If there are versions among the tags with this prefix, but none on the commit itself.
    UnlessTagged(&'a str),
}

/// A commit, as a query found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its whole name.
    pub(crate) hash: String,
    /// Its name as pseudo-versions have it.
    pub(crate) short: String,
    /// When it was committed.
    pub(crate) time: OffsetDateTime,
    /// All tags on it, sorted.
    pub(crate) tags: Vec<String>,
    /// The tag that was asked for, if it was one.
    pub(crate) tag: Option<String>,
    /// The full name of the reference that led to it.
    pub(crate) reference: Option<String>,
    /// It is at the tip of a branch or tag; else it was found in their history.
    pub(crate) tip: bool,
}

/// A tag and the commit it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) hash: String,
}

/// What an origin says of the tags that a version depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// `TagPrefix`, where versions depend on tags alone.
    pub(crate) tag_prefix: String,
    /// `TagSum`.
    pub(crate) tag_sum: String,
    /// `RepoSum`, where versions depend on everything. Not given for hg: the go command sums up what an extension of hg
    /// tells it, in the order in which hg happens to tell it.
    pub(crate) repo_sum: String,
}

impl Repository {
    /// The name of its system in origins.
    pub(crate) fn vcs(&self) -> &'static str {
        match self {
            Self::Git(_) => "git",
            Self::Hg(_) => "hg",
            Self::Svn(_) => "svn",
            Self::Bzr(_) => "bzr",
            Self::Fossil(_) => "fossil",
        }
    }

    /// Whether commits have names that are the same everywhere.
    pub(crate) fn has_hashes(&self) -> bool {
        !matches!(self, Self::Svn(_) | Self::Bzr(_))
    }

    /// What an origin says of the tags with a prefix.
    pub(crate) async fn sums(&mut self, prefix: &str) -> Result<Sums, Trouble> {
        match self {
            Self::Git(git) => git.sums(prefix).await,
            _ => Ok(Sums::default()),
        }
    }

    /// The tags with a prefix, sorted by name.
    pub(crate) async fn tags(&mut self, prefix: &str) -> Result<Vec<Tag>, Trouble> {
        match self {
            Self::Git(git) => git.tags(prefix).await,
            Self::Hg(hg) => hg.tags(prefix).await,
            Self::Svn(svn) => svn.tags(prefix).await,
            Self::Bzr(bzr) => bzr.tags(prefix).await,
            Self::Fossil(fossil) => fossil.tags().await,
        }
    }

    /// The commit that a revision names: a tag, a branch, `HEAD`, a hash or the beginning of one.
    pub(crate) async fn stat(&mut self, revision: &str, plan: Plan<'_>) -> Result<Commit, Trouble> {
        match self {
            Self::Git(git) => git.stat(revision, plan).await,
            Self::Hg(hg) => hg.stat(revision).await,
            Self::Svn(svn) => svn.stat(revision).await,
            Self::Bzr(bzr) => bzr.stat(revision).await,
            Self::Fossil(fossil) => fossil.stat(revision).await,
        }
    }

    /// The tip of the default branch.
    pub(crate) async fn latest(&mut self, plan: Plan<'_>) -> Result<Commit, Trouble> {
        match self {
            Self::Git(git) => git.latest(plan).await,
            Self::Hg(hg) => hg.latest().await,
            Self::Svn(svn) => svn.latest().await,
            Self::Bzr(bzr) => bzr.latest().await,
            Self::Fossil(fossil) => fossil.latest().await,
        }
    }

    /// A file in a commit that `stat` gave, at most `max` bytes of it; `None` if there is none.
    pub(crate) async fn read(
        &mut self,
        hash: &str,
        file: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        match self {
            Self::Git(git) => git.read(hash, file, max).await,
            Self::Hg(hg) => hg.read(hash, file, max).await,
            Self::Svn(svn) => svn.read(hash, file, max).await,
            Self::Bzr(bzr) => bzr.read(hash, file, max).await,
            Self::Fossil(fossil) => fossil.read(hash, file, max).await,
        }
    }

    /// The tags with a prefix that are on the commit or its ancestors. Those that are on the commit itself, though the
    /// server did not tell, are noted in it.
    pub(crate) async fn merged_tags(
        &mut self,
        commit: &mut Commit,
        prefix: &str,
    ) -> Result<Vec<String>, Trouble> {
        match self {
            Self::Git(git) => git.merged_tags(commit, prefix).await,
            Self::Hg(hg) => hg.merged_tags(commit, prefix).await,
            // Nor does the go command ask these.
            Self::Svn(_) | Self::Bzr(_) | Self::Fossil(_) => Ok(Vec::new()),
        }
    }

    /// Whether a tag is on the commit or its ancestors.
    pub(crate) async fn descends_from(
        &mut self,
        commit: &Commit,
        tag: &Tag,
    ) -> Result<bool, Trouble> {
        match self {
            Self::Git(git) => git.descends_from(commit, tag).await,
            Self::Hg(hg) => hg.descends_from(commit, tag).await,
            Self::Svn(_) | Self::Bzr(_) | Self::Fossil(_) => Ok(false),
        }
    }

    /// All files in a folder of a commit, and their content.
    pub(crate) async fn files(self, hash: &str, folder: &str) -> Result<Files, Trouble> {
        match self {
            Self::Git(git) => git.files(hash, folder).await,
            Self::Hg(hg) => hg_files(*hg, hash, folder).await,
            Self::Svn(svn) => svn.files(hash, folder).await,
            Self::Bzr(bzr) => bzr.files(hash, folder).await,
            Self::Fossil(fossil) => fossil.files(hash, folder).await,
        }
    }
}

/// The files of a folder, as hg archives them.
async fn hg_files(mut hg: HgRepository, hash: &str, folder: &str) -> Result<Files, Trouble> {
    let inside = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let listed = hg.list(hash, folder).await?;
    let entries = listed.into_iter().filter_map(|file| {
        Some(Entry {
            name: file.name.strip_prefix(inside.as_bytes())?.to_owned(),
            kind: if file.link {
                Kind::Symlink
            } else {
                Kind::Regular
            },
            size: file.size,
        })
    });
    let prefix = format!("{}/{inside}", HgRepository::prefix());
    let archive = Archive::new(
        hg.archive(hash, folder).await?,
        prefix.trim_end_matches('/'),
    )?;
    Ok(Files {
        entries: entries.collect(),
        content: Content::Archive(Box::new(archive)),
        mirror: Some(hg.mirror()),
    })
}
