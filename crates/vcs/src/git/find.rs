//! From what is asked for to a commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use time::OffsetDateTime;

use super::GitRepository;
use super::refs::{HEADS, Refs, TAGS, is_hex, version_of};
use crate::repository::{Ancestry, Commit, Plan, Trouble};
use crate::{DirectError, ErrorKind};

/// Fewest digits that are taken for the beginning of a hash.
const MIN_DIGITS: usize = 7;
/// Digits of a hash in pseudo-versions.
const SHORT: usize = 12;
/// Largest commit, in bytes: its message can be long.
const MAX_COMMIT: u64 = 16 << 20;

/// What the references alone tell.
enum Found {
    /// The tip of a reference.
    Tip {
        name: String,
        hash: String,
        tag: Option<String>,
    },
    /// The beginning of a hash that no reference has.
    Hash,
    /// Nothing.
    Unknown,
}

impl GitRepository {
    /// The tip of the default branch.
    pub(crate) async fn latest(&mut self, plan: Plan<'_>) -> Result<Commit, Trouble> {
        let refs = self.refs().await?;
        let Some(hash) = refs.get("HEAD") else {
            return Err(DirectError::not_found(format!("{}: no commits", self.way.url)).into());
        };
        let hash = hash.to_owned();
        let mut commit = self.stat(&hash, plan).await?;
        commit.reference = Some("HEAD".to_owned());
        Ok(commit)
    }

    /// The commit that `revision` names.
    pub(crate) async fn stat(&mut self, revision: &str, plan: Plan<'_>) -> Result<Commit, Trouble> {
        loop {
            let refs = self.refs().await?;
            let unknown = || DirectError::not_found(format!("unknown revision {revision}"));
            match find(&refs, revision, plan.by_hash)? {
                Found::Tip { name, hash, tag } => {
                    if self.reach(&name, &hash, plan, &refs).await? {
                        let name = Some(name)
                            .filter(|name| tag.is_some() || name != "HEAD" || revision == "HEAD");
                        return self.commit(&hash, &refs, name, tag, true).await;
                    }
                    // It moved since; what is asked for now is not believed less long.
                    if self.moves > 2 {
                        let text = format!("{revision} moves while it is asked for");
                        return Err(DirectError::new(ErrorKind::Unavailable, text).into());
                    }
                    self.moves += 1;
                    self.refs_now();
                }
                Found::Hash => {
                    // One that is here came from the branches and tags, now or once.
                    let mut hash = self.local(revision).await?;
                    if hash.is_none() {
                        hash = self.by_tag_object(revision, plan, &refs).await?;
                    }
                    if hash.is_none() {
                        if self.refs_again().await {
                            continue;
                        }
                        self.history(&refs).await?;
                        hash = self.local(revision).await?;
                    }
                    let Some(hash) = hash else {
                        return Err(self.not_in_history(unknown()).await);
                    };
                    return self.commit(&hash, &refs, None, None, false).await;
                }
                Found::Unknown if self.refs_again().await => {}
                Found::Unknown => return Err(unknown().into()),
            }
        }
    }

    /// Gets a tip and what else will be needed. False if it is not to be had any more.
    async fn reach(
        &mut self,
        name: &str,
        hash: &str,
        plan: Plan<'_>,
        refs: &Arc<Refs>,
    ) -> Result<bool, Trouble> {
        let needed = match plan.ancestry {
            Ancestry::No => false,
            Ancestry::Needed => true,
            Ancestry::UnlessTagged(prefix) => {
                let is_version = |tag: &str| version_of(&tag[prefix.len()..]).is_some();
                let mut versions = refs
                    .tags(prefix)
                    .filter(|(tag, _)| is_version(tag))
                    .peekable();
                versions.peek().is_some() && versions.all(|(_, on)| on != hash)
            }
        };
        if needed && !self.has(hash).await? {
            self.history(refs).await?;
            if self.has(hash).await? {
                return Ok(true);
            }
        }
        let mut tips = vec![(name.to_owned(), hash.to_owned())];
        let mut seen = BTreeSet::from([hash.to_owned()]);
        for tag in plan.also {
            let Some(hash) = refs.tag(tag) else {
                continue;
            };
            if seen.insert(hash.to_owned()) {
                tips.push((format!("{TAGS}{tag}"), hash.to_owned()));
            }
        }
        self.have(&tips, refs).await
    }

    /// The whole hash of a commit in the mirror by its beginning.
    async fn local(&mut self, revision: &str) -> Result<Option<String>, Trouble> {
        if !self.mirror.exists().await {
            return Ok(None);
        }
        let objects = self.objects()?;
        // To git a branch or tag of this name comes first, but not before what looks like `git describe`.
        for name in [revision.to_owned(), format!("any-g{revision}")] {
            let info = objects.info(&format!("{name}^{{commit}}")).await?;
            let commit = info.filter(|info| info.kind == "commit");
            let hash = commit.map(|info| info.hash);
            if hash.as_ref().is_none_or(|hash| hash.starts_with(revision)) {
                return Ok(hash);
            }
        }
        Ok(None)
    }

    /// The commit of an annotated tag that is asked for by the hash of the tag itself, which is got; `None` if there is none.
    async fn by_tag_object(
        &mut self,
        revision: &str,
        plan: Plan<'_>,
        refs: &Arc<Refs>,
    ) -> Result<Option<String>, Trouble> {
        let several = |()| DirectError::not_found(format!("ambiguous revision {revision}"));
        let Some(name) = refs.tag_object(revision).map_err(several)? else {
            return Ok(None);
        };
        let hash = refs.get(name).unwrap_or_default();
        let came = self.reach(name, hash, plan, refs).await?;
        Ok(came.then(|| hash.to_owned()))
    }

    /// Reads a commit that is there.
    async fn commit(
        &mut self,
        hash: &str,
        refs: &Refs,
        reference: Option<String>,
        tag: Option<String>,
        tip: bool,
    ) -> Result<Commit, Trouble> {
        let (listed, mut hash) = (hash, hash.to_owned());
        let mut content = self
            .objects()?
            .contents(&hash, "commit", MAX_COMMIT)
            .await?;
        if content.is_none()
            && let Some(commit) = self.objects()?.commit_of(&hash).await?
        {
            // Not every server tells what an annotated tag is about.
            content = self
                .objects()?
                .contents(&commit, "commit", MAX_COMMIT)
                .await?;
            hash = commit;
        }
        let Some(content) = content else {
            // It was there.
            return Err(match self.objects()?.info(&hash).await? {
                Some(_) => DirectError::not_found(format!("{hash} is no commit")).into(),
                None => Trouble::Mirror(format!("{hash} is missing")),
            });
        };
        let time = committed(&content).ok_or_else(|| {
            DirectError::invalid(format!("commit {hash} has no time that can be read"))
        })?;
        let tags = refs.tags("").filter(|(_, on)| *on == hash || *on == listed);
        Ok(Commit {
            tags: tags.map(|(tag, _)| tag.to_owned()).collect(),
            short: hash[..SHORT].to_owned(),
            hash,
            time,
            tag,
            reference,
            tip,
        })
    }
}

/// Tag before branch before `HEAD` before hash, unless it can be a hash alone.
fn find(refs: &Refs, revision: &str, by_hash: bool) -> Result<Found, DirectError> {
    let named = [format!("{TAGS}{revision}"), format!("{HEADS}{revision}")];
    for (i, name) in named.into_iter().enumerate().filter(|_| !by_hash) {
        if let Some(hash) = refs.get(&name) {
            return Ok(Found::Tip {
                hash: hash.to_owned(),
                name,
                tag: (i == 0).then(|| revision.to_owned()),
            });
        }
    }
    if revision == "HEAD"
        && let Some(hash) = refs.get("HEAD")
    {
        return Ok(Found::Tip {
            name: revision.to_owned(),
            hash: hash.to_owned(),
            tag: None,
        });
    }
    let longest = if refs.sha256() { 64 } else { 40 };
    if !is_hex(revision) || !(MIN_DIGITS..=longest).contains(&revision.len()) {
        return Ok(Found::Unknown);
    }
    let mut tips = refs.iter().filter(|(_, hash)| hash.starts_with(revision));
    let Some((name, hash)) = tips.next() else {
        return Ok(Found::Hash);
    };
    if tips.any(|(_, other)| other != hash) {
        return Err(DirectError::not_found(format!(
            "ambiguous revision {revision}"
        )));
    }
    Ok(Found::Tip {
        name: name.to_owned(),
        hash: hash.to_owned(),
        tag: None,
    })
}

/// The time of a commit, by its committer line, as strictly as git reads one: seconds and zone.
fn committed(content: &[u8]) -> Option<OffsetDateTime> {
    let head = content
        .split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty());
    let line = head
        .filter_map(|line| line.strip_prefix(b"committer "))
        .last()?;
    let behind = &line[line.iter().rposition(|byte| *byte == b'>')? + 1..];
    let text = std::str::from_utf8(behind).ok()?.trim_ascii_start();
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (seconds, zone) = text.split_at(digits(text));
    let zone = zone.trim_ascii_start().strip_prefix(['+', '-'])?;
    if line.contains(&0) || digits(zone) == 0 {
        return None;
    }
    OffsetDateTime::from_unix_timestamp(seconds.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::refs::Reader;

    #[test]
    fn order_of_names() {
        let mut reader = Reader::default();
        for (hash, name) in [
            ("1111111", "refs/heads/both"),
            ("2222222", "refs/tags/both"),
            ("3333333aa", "refs/heads/a"),
            ("3333333bb", "refs/heads/b"),
            ("abcdef0", "refs/heads/main"),
            ("abcdef0", "HEAD"),
        ] {
            reader
                .line(format!("{hash:0<40}\t{name}").as_bytes())
                .unwrap();
        }
        let refs = reader.finish();
        let name = |revision: &str| match find(&refs, revision, false) {
            Ok(Found::Tip { name, .. }) => name,
            Ok(Found::Hash) => "hash".to_owned(),
            Ok(Found::Unknown) => "unknown".to_owned(),
            Err(error) => error.text,
        };
        for (revision, want) in [
            ("both", "refs/tags/both"),
            ("main", "refs/heads/main"),
            ("HEAD", "HEAD"),
            ("abcdef0", "HEAD"),
            ("abcdef", "unknown"),
            ("3333333", "ambiguous revision 3333333"),
            ("3333333a", "refs/heads/a"),
            ("4444444", "hash"),
            ("-x", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(name(revision), want, "{revision}");
        }
        let branch = [
            ("1234567", "refs/heads/abcdef0"),
            ("abcdef0", "refs/tags/x"),
        ];
        let mut reader = Reader::default();
        for (hash, name) in branch {
            let line = format!("{hash:0<40}\t{name}");
            reader.line(line.as_bytes()).unwrap();
        }
        let refs = reader.finish();
        for (by_hash, want) in [(false, "refs/heads/abcdef0"), (true, "refs/tags/x")] {
            let found = find(&refs, "abcdef0", by_hash);
            assert!(matches!(found, Ok(Found::Tip { name, .. }) if name == want));
        }
    }

    #[test]
    fn times() {
        let commit = b"tree x\nauthor A <a> 1 +0000\ncommitter C > D <c@d> 1546300800 +0100\n\ncommitter X <x> 5 +0000\n";
        assert_eq!(committed(commit).unwrap().unix_timestamp(), 1_546_300_800);
        assert!(committed(b"tree x\n\ncommitter C <c> 5 +0000\n").is_none());
        let with = |rest: &str| committed(format!("committer C <c>{rest}\n\n").as_bytes());
        for good in [" 5 +0000", "5 +1", "\t5  -0000 x"] {
            assert_eq!(
                with(good).map(OffsetDateTime::unix_timestamp),
                Some(5),
                "{good:?}"
            );
        }
        for bad in [
            "",
            " ",
            " -5 +0000",
            " +5 +0000",
            " 5",
            " 5 x",
            " 5 +",
            " x +0000",
        ] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
        assert!(committed(b"committer  5 +0000\n\n").is_none());
        let twice = b"committer A <a> 1 +0000\ncommitter B <b> 2 +0000\n\n";
        assert_eq!(committed(twice).unwrap().unix_timestamp(), 2);
        assert!(committed(b"committer A\0 <a> 1 +0000\n\n").is_none());
    }
}
