//! Where bytes come from: upstreams along a chain, and version control itself where the chain ends in `direct`.

use std::{fmt::Write as _, sync::Arc};

use bytes::{Bytes, BytesMut};
use gomod::{ModulePath, Query, QueryKind, Version};
use upstream::{Ask, BodyError, Failure, FailureKind, Walk};
use vcs::{DirectError, ErrorKind, ZipStream};

use crate::{
    artifact::{Artifact, Part},
    failure,
    gateway::Gateway,
    refusal::{Code, Refusal},
    settings::{Route, Settings},
};

/// What `direct` is called in logs, records and errors.
pub(crate) const DIRECT: &str = "direct";

/// What to do where upstreams can be reached and repositories cannot.
const NO_WAY: &str = "the owner of this gateway: where repositories cannot be reached from here, leave `direct` out of `chain`";

/// Most moved tags on one commit that are looked behind.
const MAX_MOVED: usize = 8;

/// What changes with time.
#[derive(Clone, Debug)]
pub(crate) enum What {
    List,
    Latest,
    Query(Query),
}

/// What is wanted of a module.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Changing(What),
    Part(Part, Version),
}

impl Wish {
    /// The path below an upstream's address.
    pub(crate) fn path(&self, module: &ModulePath) -> String {
        let module = module.escaped();
        match self {
            Self::Changing(What::List) => format!("/{module}/@v/list"),
            Self::Changing(What::Latest) => format!("/{module}/@latest"),
            Self::Changing(What::Query(query)) => {
                format!("/{module}/@v/{}.info", path_element(&query.escaped()))
            }
            Self::Part(part, version) => {
                format!("/{module}/@v/{}.{}", version.escaped(), part.ending())
            }
        }
    }

    /// As refusals name it.
    fn name(&self, module: &ModulePath) -> String {
        match self {
            Self::Changing(What::List) => module.to_string(),
            Self::Changing(What::Latest) => format!("{module}@latest"),
            Self::Changing(What::Query(query)) => format!("{module}@{query}"),
            Self::Part(_, version) => format!("{module}@{version}"),
        }
    }

    /// The code of its absence.
    pub(crate) fn absent(&self) -> Code {
        match self {
            Self::Changing(What::List | What::Latest) => Code::ModuleNotFound,
            Self::Changing(What::Query(_)) | Self::Part(..) => Code::VersionNotFound,
        }
    }

    /// Whether a second upstream may be asked soon. What changes is better asked of one, unless that is silent.
    fn hedge(&self) -> bool {
        matches!(self, Self::Part(..))
    }
}

/// Bytes on their way.
#[derive(Debug)]
pub(crate) struct Found {
    /// Who sends them, without secrets.
    pub(crate) upstream: Arc<str>,
    /// How many they will be, if that is known.
    pub(crate) length: Option<u64>,
    what: String,
    /// What was read of them already.
    before: Option<Bytes>,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Upstream(Box<upstream::Body>),
    Memory(Bytes),
    Zip(ZipStream),
}

/// A search along a route's chain: upstreams, and version control if the chain ends there. It goes on when what came
/// turns out bad, where the chain says so.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    settings: &'a Settings,
    module: &'a ModulePath,
    wish: &'a Wish,
    walk: Walk,
    /// Who knows of which commit a version is, and by which route it finds out.
    pinner: Option<(&'a Arc<Gateway>, &'a Route)>,
    /// Why what came before was bad.
    rejected: Option<Refusal>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        route: &Route,
        module: &'a ModulePath,
        wish: &'a Wish,
    ) -> Self {
        let ask = Ask {
            path: wish.path(module),
            hedge: wish.hedge(),
        };
        Self {
            settings,
            module,
            wish,
            walk: settings.upstreams.walk(route.chain(), &ask),
            pinner: None,
            rejected: None,
        }
    }

    /// From version control all files of a version are taken of the commit that the gateway knows it to be.
    pub(crate) fn pinned(mut self, gateway: &'a Arc<Gateway>, route: &'a Route) -> Self {
        self.pinner = Some((gateway, route));
        self
    }

    /// The next that has it.
    pub(crate) async fn next(&mut self) -> Result<Found, Refusal> {
        let ended = match self.walk.next().await {
            Ok(fetched) => {
                return Ok(Found {
                    before: None,
                    upstream: fetched.upstream,
                    length: fetched.length,
                    what: self.wish.name(self.module),
                    stream: Stream::Upstream(Box::new(fetched.body)),
                });
            }
            Err(failure) => self.at_the_end(failure).await,
        };
        // Where something came that was bad, nobody can say that there is nothing.
        ended.map_err(|refusal| self.rejected.take().unwrap_or(refusal))
    }

    /// The next that sends it whole, at most `max` bytes.
    pub(crate) async fn whole(&mut self, max: usize) -> Result<(Arc<str>, Bytes), Refusal> {
        loop {
            let found = self.next().await?;
            let upstream = Arc::clone(&found.upstream);
            match found.into_bytes(max).await {
                Ok(bytes) => return Ok((upstream, bytes)),
                Err(refusal) => {
                    let counted = refusal.code == Code::UpstreamUnavailable;
                    self.reject(refusal, counted)?;
                }
            }
        }
    }

    /// Goes on after what came last turned out bad, or ends with the refusal: after `,`, or if the upstream is not to
    /// blame. `counted`: it has been counted in the upstream's health.
    pub(crate) fn reject(&mut self, refusal: Refusal, counted: bool) -> Result<(), Refusal> {
        let to_blame = matches!(
            refusal.code,
            Code::UpstreamInvalid | Code::UpstreamUnavailable | Code::ChecksumMismatch
        );
        if to_blame && self.walk.reject(&refusal.why, counted) {
            tracing::warn!(%refusal, "bad content, the next upstream is asked");
            self.rejected = Some(refusal);
            return Ok(());
        }
        Err(refusal)
    }

    async fn at_the_end(&mut self, failure: Failure) -> Result<Found, Refusal> {
        let what = self.wish.name(self.module);
        let absent = self.wish.absent();
        let FailureKind::Direct { earlier } = &failure.kind else {
            return Err(failure::refusal(&what, absent, &failure));
        };
        let pin = match (self.pinner, self.wish) {
            (Some((gateway, route)), Wish::Part(Part::Mod | Part::Zip, version)) => {
                gateway.commit_of(self.module, version, route).await?
            }
            _ => None,
        };
        let asked = match (self.pinner, self.wish) {
            (Some((gateway, _)), Wish::Changing(What::Query(query))) => {
                query_direct(self.settings, gateway, self.module, query).await
            }
            _ => ask_direct(self.settings, self.module, self.wish, pin.as_deref()).await,
        };
        match asked {
            Ok(stream) => Ok(Found {
                before: None,
                upstream: DIRECT.into(),
                length: match &stream {
                    Stream::Memory(bytes) => Some(bytes.len() as u64),
                    _ => None,
                },
                what,
                stream,
            }),
            // Whether an upstream in trouble has it is not known: an outage is never absence.
            Err(error) if error.kind == ErrorKind::NotFound && earlier.is_some() => {
                Err(failure::refusal(&what, absent, &failure))
            }
            Err(error) => {
                let unreachable = error.kind == ErrorKind::Unavailable && error.hint.is_none();
                let not_found = error.kind == ErrorKind::NotFound;
                let refusal = failure::direct(what, absent, error).sent_by(&DIRECT.into());
                let mut refusal = failure::after(refusal, &failure.attempts);
                refusal.looped = failure.looped;
                refusal.denied = earlier.is_none() && !failure.attempts.is_empty();
                refusal.definite = not_found && !failure.looped;
                if unreachable && refusal.denied {
                    refusal.hint = Some(NO_WAY.into());
                }
                Err(refusal)
            }
        }
    }
}

/// What a query is, asked of version control. A version that is kept as another commit is not what was asked for, and
/// its files are not either: a branch or commit under a tag that was moved is told as a pseudo-version.
async fn query_direct(
    settings: &Settings,
    gateway: &Gateway,
    module: &ModulePath,
    query: &Query,
) -> Result<Stream, DirectError> {
    let direct = &settings.direct;
    let mut moved = Vec::new();
    loop {
        let found = direct
            .revision_without(module, query.as_str(), &moved)
            .await?;
        let version = &found.version;
        // Who asks for a version gets it as it is kept.
        let told = version.is_pseudo() || names(query, version) || moved.contains(version);
        if !told && moved.len() < MAX_MOVED {
            let now = found.origin.as_ref().map(|origin| &*origin.hash);
            let kept = gateway.kept_commit(module, version).await;
            if now.is_some_and(|now| !now.is_empty() && kept.is_some_and(|kept| kept != now)) {
                moved.push(version.clone());
                continue;
            }
        }
        return Ok(Stream::Memory(found.info_json()));
    }
}

/// Whether a query names the version that it led to, or one of the list.
fn names(query: &Query, version: &Version) -> bool {
    let plain = version.as_str();
    let plain = plain.strip_suffix("+incompatible").unwrap_or(plain);
    query.kind() != QueryKind::Revision || query.as_str() == plain
}

async fn ask_direct(
    settings: &Settings,
    module: &ModulePath,
    wish: &Wish,
    pin: Option<&str>,
) -> Result<Stream, DirectError> {
    let direct = &settings.direct;
    let info = |revision: vcs::Revision| Stream::Memory(revision.info_json());
    match wish {
        Wish::Changing(What::List) => {
            let versions = direct.versions(module).await?;
            Ok(Stream::Memory(gomod::list::format(&versions).into()))
        }
        Wish::Changing(What::Latest) => direct.latest(module).await.map(info),
        Wish::Changing(What::Query(query)) => {
            direct.revision(module, query.as_str()).await.map(info)
        }
        Wish::Part(Part::Info, version) => {
            direct.revision(module, version.as_str()).await.map(info)
        }
        Wish::Part(Part::Mod, version) => {
            let got = direct.go_mod(module, version, pin).await;
            got.map(Stream::Memory)
        }
        Wish::Part(Part::Zip, version) => direct.zip(module, version, pin).await.map(Stream::Zip),
    }
}

/// A query as an element of a URL's path: whatever could mean something else there is escaped.
fn path_element(text: &str) -> String {
    let mut element = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&+,=@()".contains(&byte) {
            element.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(element, "%{byte:02X}");
        }
    }
    element
}

impl Artifact {
    /// What is asked for to get it.
    pub(crate) fn wish(&self) -> Wish {
        Wish::Part(self.part, self.version.clone())
    }
}

impl Found {
    /// The next piece; `None` once all has come whole.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        if let Some(before) = self.before.take() {
            return Ok(Some(before));
        }
        match &mut self.stream {
            Stream::Upstream(body) => {
                let chunk = body.next_chunk().await;
                chunk.map_err(|error| self.broken(&error))
            }
            Stream::Memory(bytes) => Ok(Some(std::mem::take(bytes)).filter(|b| !b.is_empty())),
            Stream::Zip(zip) => match zip.next().await.transpose() {
                Ok(chunk) => Ok(chunk),
                Err(error) => Err(failure::direct(
                    self.what.clone(),
                    Code::VersionNotFound,
                    error,
                )),
            },
        }
    }

    /// All of it, if it turns out to be at most `max` bytes; else the same again, with what was read.
    pub(crate) async fn whole_up_to(mut self, max: u64) -> Result<Result<Bytes, Self>, Refusal> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next_chunk().await? {
            all.extend_from_slice(&chunk);
            if all.len() as u64 > max {
                self.before = Some(all.freeze());
                return Ok(Err(self));
            }
        }
        Ok(Ok(all.freeze()))
    }

    /// All of it in memory, at most `max` bytes.
    pub(crate) async fn into_bytes(mut self, max: usize) -> Result<Bytes, Refusal> {
        let too_large = |found: &Self| found.broken(&BodyError::TooLarge(max));
        if let Stream::Memory(bytes) = self.stream {
            return Ok(bytes);
        }
        let announced = self.length.unwrap_or(0);
        if announced > max as u64 {
            return Err(too_large(&self));
        }
        let mut all = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(chunk) = self.next_chunk().await? {
            if chunk.len() > max - all.len() {
                return Err(too_large(&self));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    fn broken(&self, error: &BodyError) -> Refusal {
        let upstream = &self.upstream;
        let (code, why) = if let BodyError::TooLarge(max) = error {
            let why = format!("{upstream} sent more than {max} bytes");
            (Code::UpstreamInvalid, why)
        } else {
            let why = format!("the answer of {upstream} broke off: {error}");
            (Code::UpstreamUnavailable, why)
        };
        Refusal::new(code, self.what.clone(), why).sent_by(&self.upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_for_urls() {
        for (query, element) in [
            ("main", "main"),
            ("v1.2.3+meta", "v1.2.3+meta"),
            ("fix#12", "fix%2312"),
            ("100%", "100%25"),
            ("a b", "a%20b"),
            ("{x}^[y]", "%7Bx%7D%5E%5By%5D"),
            ("!rel~1(a)=$@&,", "!rel~1(a)=$@&,"),
        ] {
            assert_eq!(path_element(query), element);
        }
    }
}
