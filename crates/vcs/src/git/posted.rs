//! Commits by one POST, where a server speaks http.
//!
//! `git fetch` starts four programs here, asks twice, and makes the server start as many again. What is wanted is known: some
//! commits without what came before, beside others that are here. That is one question of version 2 of git's protocol
//! (gitprotocol-v2, "fetch"), and what comes back is a pack, which git itself takes apart and completes
//! (`git index-pack --fix-thin`). Whatever is not quite that is left to `git fetch`, and so is every error but a server that is
//! silent and a pack that is too large.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use egress::{Answer, Ask, EgressErrorKind, Post};
use reqwest::header::CONTENT_TYPE;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use super::advertised::service_url;
use super::command::local;
use super::failure::Page;
use super::mirror::{Mirror, blocking};
use super::packet::{Packet, Packets, put, text};
use super::refs::is_full_hash;
use super::remote::{Bounds, too_large};
use crate::DirectError;
use crate::discover::page::from_egress;
use crate::process::{Running, within};
use crate::reach::Way;

const ASKED: &str = "application/x-git-upload-pack-request";
const TOLD: &str = "application/x-git-upload-pack-result";
/// Commits that a server is told are here, the youngest first: the wanted ones are near them.
const MOST_HAVES: usize = 64;
/// Commits without history that a server is told of. git tells all; where there are more, it may.
const MOST_SHALLOW: usize = 10_000;
/// The file that says where history ends, and what it will be, under the name that git itself writes it.
const BORDERS: &str = "shallow";
const NEW_BORDERS: &str = "shallow.lock";
/// Longest silence of a server, as for git itself.
const SILENCE: Duration = Duration::from_mins(1);

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// All came, as far as the server says.
    Done,
    /// It did not: git is to fetch.
    Failed,
    /// It cannot: the server does not speak this.
    NotSpoken,
}

/// What is here already.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Here {
    shallow: BTreeSet<String>,
    haves: Vec<String>,
}

impl Here {
    /// Of a mirror that exists and is held.
    pub(super) async fn of(mirror: &Mirror) -> Result<Self, DirectError> {
        let folder = mirror.folder.clone();
        blocking(move || here(&folder)).await
    }

    /// The commits that the server is told of.
    pub(super) fn haves(&self) -> &[String] {
        &self.haves
    }
}

/// Fetches commits without history into the mirror, which must exist and be held and have what `here` says. Nothing refers to
/// them yet.
pub(super) async fn posted(
    mirror: &Mirror,
    way: &Way,
    page: &Page,
    here: Here,
    hashes: &[&str],
    bounds: Bounds,
) -> Result<Posted, DirectError> {
    let what = format!("fetching from {}", way.url);
    let Some(url) = service_url(&way.url, "git-upload-pack") else {
        return Ok(Posted::NotSpoken);
    };
    if here.shallow.len() > MOST_SHALLOW {
        return Ok(Posted::Failed);
    }
    let ask = Ask {
        plain_http: url.scheme() == "http",
        url,
        timeout: SILENCE.min(bounds.time),
        credentials: page.credentials,
    };
    let post = Post {
        kind: ASKED,
        headers: vec![("git-protocol", "version=2"), ("accept", TOLD)],
        body: question(&here, hashes).into(),
    };
    // Starting it takes as long as the server's answer. What is written below is what it will look for: it reads that with the
    // first commit.
    let git = index_pack(mirror, bounds)?;
    within(bounds.time, &what, async {
        let answer = match page.egress.as_git().open_here(ask, Some(post)).await {
            Ok(answer) if answer.status() == 200 => answer,
            // Of these it will say the same tomorrow; others may be the login's or the hour's.
            Ok(answer) if matches!(answer.status(), 400 | 404 | 405 | 406 | 411 | 415 | 501) => {
                return Ok(Posted::NotSpoken);
            }
            Err(error) if error.kind == EgressErrorKind::Timeout => {
                return Err(from_egress(&what, error));
            }
            Ok(_) | Err(_) => return Ok(Posted::Failed),
        };
        if answer
            .headers()
            .get(CONTENT_TYPE)
            .is_none_or(|kind| kind != TOLD)
        {
            return Ok(Posted::NotSpoken);
        }
        take(mirror, here, Told::new(answer, &what), git, bounds).await
    })
    .await
}

/// The body of the request.
fn question(here: &Here, hashes: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, "command=fetch");
    put(&mut body, "agent=modgate");
    // Servers that know no other kind do not know the word.
    if hashes.iter().any(|hash| hash.len() == 64) {
        put(&mut body, "object-format=sha256");
    }
    body.extend_from_slice(b"0001");
    for word in ["thin-pack", "no-progress", "ofs-delta", "deepen 1"] {
        put(&mut body, word);
    }
    for hash in &here.shallow {
        put(&mut body, &format!("shallow {hash}"));
    }
    for hash in hashes {
        put(&mut body, &format!("want {hash}"));
    }
    for hash in &here.haves {
        put(&mut body, &format!("have {hash}"));
    }
    put(&mut body, "done");
    body.extend_from_slice(b"0000");
    body
}

/// The answer, line by line.
struct Told<'a> {
    answer: Answer,
    packets: Packets,
    /// What is being done, for errors.
    what: &'a str,
}

impl<'a> Told<'a> {
    fn new(answer: Answer, what: &'a str) -> Self {
        Self {
            answer,
            packets: Packets::default(),
            what,
        }
    }

    /// The next line or mark; `None` if it broke off, or came to an end.
    async fn next(&mut self) -> Result<Option<Packet>, DirectError> {
        loop {
            if let Some(packet) = self.packets.next() {
                return Ok(Some(packet));
            }
            match self.answer.next_chunk().await {
                Ok(Some(chunk)) => self.packets.push(&chunk),
                Err(error) if error.kind == EgressErrorKind::Timeout => {
                    return Err(from_egress(self.what, error));
                }
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

/// Reads what the server tells: where history ends now, and the pack.
async fn take(
    mirror: &Mirror,
    here: Here,
    mut told: Told<'_>,
    git: Running,
    bounds: Bounds,
) -> Result<Posted, DirectError> {
    let mut shallow = here.shallow;
    loop {
        let line = match told.next().await? {
            Some(Packet::Line(line)) => line,
            Some(_) => return Ok(Posted::NotSpoken),
            None => return Ok(Posted::Failed),
        };
        match text(&line) {
            b"packfile" => break,
            b"shallow-info" if borders(&mut shallow, &mut told).await? => {}
            b"shallow-info" => return Ok(Posted::Failed),
            // It speaks this, and has not what is asked for any more.
            other if other.starts_with(b"ERR upload-pack: not our ref") => {
                return Ok(Posted::Failed);
            }
            _ => return Ok(Posted::NotSpoken),
        }
    }
    let (folder, borders) = (mirror.folder.clone(), shallow.clone());
    blocking(move || write_borders(&folder, &borders)).await?;
    if !index(&mut told, git, bounds).await? {
        return Ok(Posted::Failed);
    }
    told.answer.finish().await;
    let folder = mirror.folder.clone();
    blocking(move || place_borders(&folder, shallow.is_empty())).await?;
    Ok(Posted::Done)
}

/// Reads where history ends now; false if it is not told whole.
async fn borders(shallow: &mut BTreeSet<String>, told: &mut Told<'_>) -> Result<bool, DirectError> {
    loop {
        match told.next().await? {
            Some(Packet::Line(line))
                if shallow.len() <= 2 * MOST_SHALLOW && border(shallow, text(&line)) => {}
            Some(Packet::Delimiter) => return Ok(true),
            _ => return Ok(false),
        }
    }
}

/// Takes a line about where history ends; false if it is none.
fn border(shallow: &mut BTreeSet<String>, line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(line) else {
        return false;
    };
    match line.split_once(' ') {
        Some(("shallow", hash)) if is_full_hash(hash) => {
            shallow.insert(hash.to_owned());
        }
        Some(("unshallow", hash)) if is_full_hash(hash) => {
            shallow.remove(hash);
        }
        _ => return false,
    }
    true
}

/// The git that takes a pack apart and puts it beside the others, unless something is missing of what its objects name: what
/// is neither in it nor here, up to where history will end.
fn index_pack(mirror: &Mirror, bounds: Bounds) -> Result<Running, DirectError> {
    let mut command = local(&mirror.folder);
    command.env("GIT_SHALLOW_FILE", mirror.folder.join(NEW_BORDERS));
    command.args(["index-pack", "--stdin", "--fix-thin", "--threads=1"]);
    command.arg("--check-self-contained-and-connected");
    command.arg(format!("--max-input-size={}", bounds.bytes));
    Running::start(command, "git index-pack")
}

/// Gives the pack to git as it comes. False if it is not whole, or git does not take it.
async fn index(told: &mut Told<'_>, mut git: Running, bounds: Bounds) -> Result<bool, DirectError> {
    let (mut pack, mut said) = (git.take_stdin(), git.take_stdout()?);
    let mut bytes = 0;
    loop {
        let packet = tokio::select! {
            biased;
            packet = told.next() => packet?,
            // It says something, or nothing more, when it has the whole or cannot go on.
            _ = said.fill_buf() => break,
        };
        let line = match packet {
            Some(Packet::Line(line)) => line,
            Some(Packet::Flush) => break,
            _ => return Ok(false),
        };
        match line.split_first() {
            Some((1, part)) => {
                bytes += part.len() as u64;
                if bytes > bounds.bytes {
                    return Err(too_large(told.what, bounds.bytes, bytes));
                }
                // One that has ended says why when it is asked for its end.
                if let Some(open) = &mut pack
                    && open.write_all(part).await.is_err()
                {
                    pack = None;
                }
            }
            // How far the server is, or that nothing happens yet.
            Some((2, _)) => {}
            // That it cannot go on.
            _ => return Ok(false),
        }
    }
    drop(pack);
    let exit = git.finish().await?;
    // With 1 it says that the pack names what was here already.
    let taken = matches!(exit.code, Some(0 | 1));
    if !taken {
        tracing::debug!(what = told.what, said = exit.stderr, "a pack was not taken");
    }
    Ok(taken)
}

/// What the mirror has: where history ends, and commits that are kept with all of their files.
fn here(folder: &Path) -> io::Result<Here> {
    let lines = match fs::read_to_string(folder.join(BORDERS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        lines => lines?,
    };
    let mut young = Vec::new();
    if let Ok(entries) = fs::read_dir(folder.join("refs/kept")) {
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_full_hash(&name) {
                let time = entry.metadata()?.modified();
                young.push((time.unwrap_or(SystemTime::UNIX_EPOCH), name));
            }
        }
    }
    young.sort_unstable_by(|a, b| b.cmp(a));
    let mut haves: Vec<String> = young.into_iter().map(|(_, name)| name).collect();
    haves.truncate(MOST_HAVES);
    if haves.len() < MOST_HAVES
        && let Ok(packed) = fs::read_to_string(folder.join("packed-refs"))
    {
        let kept = packed
            .lines()
            .filter_map(|line| line.split_once(" refs/kept/"));
        let room = MOST_HAVES - haves.len();
        haves.extend(kept.take(room).map(|(_, hash)| hash.to_owned()));
    }
    Ok(Here {
        shallow: lines.lines().map(str::to_owned).collect(),
        haves,
    })
}

/// Writes where history will end, for those who are told to look there.
fn write_borders(folder: &Path, shallow: &BTreeSet<String>) -> io::Result<()> {
    let mut lines = String::new();
    for hash in shallow {
        lines.push_str(hash);
        lines.push('\n');
    }
    fs::write(folder.join(NEW_BORDERS), lines)
}

/// From now on it ends there.
fn place_borders(folder: &Path, none: bool) -> io::Result<()> {
    let (new, file) = (folder.join(NEW_BORDERS), folder.join(BORDERS));
    if none {
        fs::remove_file(new)?;
        return match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    fs::rename(new, file)
}

/// Keeps commits that came, under names that no other can be in the way of.
pub(super) async fn keep_all(mirror: &Mirror, hashes: &[&str]) -> Result<(), DirectError> {
    let folder = mirror.folder.clone();
    let hashes: Vec<String> = hashes.iter().map(|hash| (*hash).to_owned()).collect();
    blocking(move || keep(&folder, &hashes)).await
}

fn keep(folder: &Path, hashes: &[String]) -> io::Result<()> {
    let kept = folder.join("refs/kept");
    fs::create_dir_all(&kept)?;
    for hash in hashes {
        replace(&kept.join(hash), &format!("{hash}\n"))?;
    }
    Ok(())
}

/// Writes a file in git's way: what a killed one leaves is swept out.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    fs::write(&lock, text)?;
    fs::rename(lock, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let here = Here {
            shallow: [a.clone()].into(),
            haves: vec![b.clone()],
        };
        let body = String::from_utf8(question(&here, &[&c])).unwrap();
        let want = format!(
            "0011command=fetch0011agent=modgate0001000dthin-pack000fno-progress000dofs-delta000cdeepen 1\
             0034shallow {a}0031want {c}0031have {b}0008done0000"
        );
        assert_eq!(body, want);
        let long = "c".repeat(64);
        let body = String::from_utf8(question(&Here::default(), &[&long])).unwrap();
        assert!(body.contains("0018object-format=sha2560001"), "{body}");
    }

    #[test]
    fn where_history_ends() {
        let hash = "a".repeat(40);
        let mut shallow = BTreeSet::new();
        assert!(border(&mut shallow, format!("shallow {hash}").as_bytes()));
        assert!(shallow.contains(&hash));
        assert!(border(&mut shallow, format!("unshallow {hash}").as_bytes()));
        assert!(shallow.is_empty());
        for bad in [
            "",
            "shallow",
            "shallow ../x",
            "shallow A",
            "deepen 1",
            "\u{e9}",
        ] {
            assert!(!border(&mut shallow, bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn what_is_here() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(here(folder.path()).unwrap(), Here::default());
        let hash = |c: &str| c.repeat(40);
        let shallow = [hash("a"), hash("b")].into();
        write_borders(folder.path(), &shallow).unwrap();
        place_borders(folder.path(), false).unwrap();
        keep(folder.path(), &[hash("a")]).unwrap();
        fs::write(folder.path().join("refs/kept/x.lock"), "").unwrap();
        let packed = format!("{} refs/kept/{}\n", hash("b"), hash("b"));
        fs::write(folder.path().join("packed-refs"), packed).unwrap();
        let found = here(folder.path()).unwrap();
        assert_eq!(found.haves, [hash("a"), hash("b")]);
        assert_eq!(found.shallow.len(), 2);
        write_borders(folder.path(), &BTreeSet::new()).unwrap();
        place_borders(folder.path(), true).unwrap();
        assert!(!folder.path().join(NEW_BORDERS).exists());
        assert!(!folder.path().join("shallow").exists());
    }
}
