//! What the forge serves: pages and repositories by URL, and the faults they have.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tokio::sync::watch;

/// How a repository or page misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every request is read, and never answered.
    Stall,
    /// Only requests for objects are; references are told.
    StallPack,
    /// Objects that this filter of git's (`blob:none`) leaves out are not sent, though nobody asked for that.
    Filter(&'static str),
    /// Where history is asked for beside commits that are here without it, it is said to go on there, and nothing of it is sent.
    HalfHistory,
    /// The connection is cut after so many bytes of the answer that has the objects.
    CutPack(usize),
    /// After so many bytes of it, nothing more comes.
    HangPack(usize),
    /// This status, and a line of text.
    Status(u16),
    /// A redirect to this URL, to which the rest of the path and the query string are added.
    Redirect(String),
    /// References are told as `(name, hash)`, so many of them, none with an object.
    ManyRefs(usize),
    /// It knows protocol version 0 alone.
    OldProtocol,
    /// As `OldProtocol`, and of an annotated tag it is not told what it is about.
    Unpeeled,
    /// Nobody is let in but git, as it calls itself.
    OnlyGit,
    /// As a server of files alone: whatever is asked behind a `?` is not seen.
    Files,
    /// Pages are of this type, not of HTML.
    Type(&'static str),
}

/// The pages of one address.
#[derive(Debug, Clone)]
pub struct Pages {
    /// The body.
    pub body: String,
    /// The status; `go` looks at the body whatever it is.
    pub status: u16,
    /// Answered for every path below too.
    pub below: bool,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Pages>,
    files: BTreeMap<String, Vec<u8>>,
    /// By `host/path`, without the `.git` or with it as it is in the URL.
    repositories: BTreeMap<String, PathBuf>,
    faults: HashMap<String, Fault>,
    /// Wanted for everything below `host/path`: `user:secret`.
    logins: BTreeMap<String, String>,
    requests: Vec<String>,
}

/// All of it. Every listener of a forge shares one.
#[derive(Debug)]
pub(crate) struct Site {
    state: Mutex<State>,
    /// How many requests there were.
    count: watch::Sender<usize>,
}

/// What a URL is.
#[derive(Debug)]
pub(crate) enum Found {
    Page(Pages),
    File(Vec<u8>),
    Git {
        folder: PathBuf,
        /// What comes after the repository: `/info/refs` and the like.
        rest: String,
    },
    Nothing,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site {
            state: Mutex::default(),
            count: watch::channel(0).0,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("nobody panicked"))
    }

    pub(crate) fn page(&self, url: &str, pages: Pages) {
        self.with(|state| state.pages.insert(url.to_owned(), pages));
    }

    pub(crate) fn file(&self, url: &str, content: Vec<u8>) {
        self.with(|state| state.files.insert(url.to_owned(), content));
    }

    pub(crate) fn repository(&self, url: &str, folder: &Path) {
        self.with(|state| state.repositories.insert(url.to_owned(), folder.to_owned()));
    }

    pub(crate) fn forget(&self, url: &str) {
        self.with(|state| state.repositories.remove(url));
    }

    pub(crate) fn login(&self, url: &str, login: &str) {
        self.with(|state| state.logins.insert(url.to_owned(), login.to_owned()));
    }

    pub(crate) fn fault(&self, url: &str, fault: Option<Fault>) {
        self.with(|state| match fault {
            Some(fault) => state.faults.insert(url.to_owned(), fault),
            None => state.faults.remove(url),
        });
    }

    pub(crate) fn record(&self, line: String) {
        self.with(|state| state.requests.push(line));
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.with(|state| state.requests.clone())
    }

    /// Waits until a request was made whose line has this text.
    pub(crate) async fn asked(&self, text: &str) {
        let mut count = self.count.subscribe();
        while !self.with(|state| state.requests.iter().any(|line| line.contains(text))) {
            count.changed().await.expect("the sender is in self");
        }
    }

    /// What is wanted to see `host/path`, and what is wrong with it.
    pub(crate) fn rules(&self, address: &str) -> (Option<String>, Option<(String, Fault)>) {
        self.with(|state| {
            let login = state.logins.iter().find(|(url, _)| below(address, url));
            let fault = state.faults.iter().find(|(url, _)| below(address, url));
            (
                login.map(|(_, login)| login.clone()),
                fault.map(|(url, fault)| (url.clone(), fault.clone())),
            )
        })
    }

    pub(crate) fn find(&self, address: &str) -> Found {
        self.with(|state| {
            for (url, folder) in &state.repositories {
                if below(address, url) && address.len() > url.len() {
                    let rest = address[url.len()..].to_owned();
                    let named = ["/info/refs", "/git-upload-pack", "/HEAD"];
                    if named.contains(&&*rest) || rest.starts_with("/objects/") {
                        let folder = folder.clone();
                        return Found::Git { folder, rest };
                    }
                }
            }
            if let Some(content) = state.files.get(address) {
                return Found::File(content.clone());
            }
            let pages = state.pages.iter().rev();
            let mut pages =
                pages.filter(|(url, page)| address == *url || (page.below && below(address, url)));
            match pages.next() {
                Some((_, page)) => Found::Page(page.clone()),
                None => Found::Nothing,
            }
        })
    }
}

/// Whether an address is a URL or below it.
fn below(address: &str, url: &str) -> bool {
    address
        .strip_prefix(url)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || url.ends_with('/'))
}
