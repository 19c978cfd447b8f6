//! Where bytes come from: upstreams along a chain, and version control itself where the chain ends in `direct`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gomod::{ModulePath, Query, Version};
use upstream::{Ask, BodyError, FailureKind};
use vcs::{DirectError, ErrorKind, ZipStream};

use crate::{
    artifact::{Artifact, Part},
    failure,
    refusal::{Code, Refusal},
    settings::{Route, Settings},
};

/// What `direct` is called in logs, records and errors.
const DIRECT: &str = "direct";

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
                format!("/{module}/@v/{}.info", query.escaped().replace(' ', "%20"))
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

    fn absent(&self) -> Code {
        match self {
            Self::Changing(What::List | What::Latest) => Code::ModuleNotFound,
            Self::Changing(What::Query(_)) | Self::Part(..) => Code::VersionNotFound,
        }
    }

    /// Whether a second upstream may be asked too. What changes is better asked of one.
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
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Upstream(Box<upstream::Body>),
    Memory(Bytes),
    Zip(ZipStream),
}

/// Asks the upstreams of the route's chain, and version control if the chain ends there.
pub(crate) async fn fetch(
    settings: &Settings,
    route: &Route,
    module: &ModulePath,
    wish: &Wish,
) -> Result<Found, Refusal> {
    let ask = Ask {
        path: wish.path(module),
        hedge: wish.hedge(),
    };
    let what = wish.name(module);
    let failure = match settings.upstreams.fetch(route.chain(), &ask).await {
        Ok(fetched) => {
            return Ok(Found {
                upstream: fetched.upstream,
                length: fetched.length,
                what,
                stream: Stream::Upstream(Box::new(fetched.body)),
            });
        }
        Err(failure) => failure,
    };
    let FailureKind::Direct { earlier } = &failure.kind else {
        return Err(failure::refusal(&what, wish.absent(), &failure));
    };
    match ask_direct(settings, module, wish).await {
        Ok(stream) => Ok(Found {
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
            Err(failure::refusal(&what, wish.absent(), &failure))
        }
        Err(error) => {
            let refusal = failure::direct(what, wish.absent(), error);
            Err(failure::after(refusal, &failure.attempts))
        }
    }
}

async fn ask_direct(
    settings: &Settings,
    module: &ModulePath,
    wish: &Wish,
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
        Wish::Part(Part::Mod, version) => direct.go_mod(module, version).await.map(Stream::Memory),
        Wish::Part(Part::Zip, version) => direct.zip(module, version).await.map(Stream::Zip),
    }
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
        let why = format!("the answer of {} broke off: {error}", self.upstream);
        Refusal::new(Code::UpstreamUnavailable, self.what.clone(), why)
    }
}
