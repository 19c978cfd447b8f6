//! The witness that something was verified, and the only makers of it.

use bytes::Bytes;
use gomod::h1::H1;

use crate::{
    artifact::{Artifact, Part},
    gateway::Gateway,
    refusal::{Code, Refusal},
    results::Verification,
    settings::{Route, Settings},
};

/// What an artifact's hash must be.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// Proven by the checksum database.
    Hash(H1),
    /// Nothing to compare with, by configuration: private, exempt, or no database.
    Exempt,
    /// Unknown to the database, and let through by configuration.
    Unknown,
    /// The database cannot be reached, and the configuration says to serve all the same.
    Unreachable,
}

impl Proof {
    /// Whether bytes of this hash may pass; otherwise what the hash should be.
    pub(crate) fn admits(&self, hash: &H1) -> Result<(), H1> {
        match self {
            Self::Hash(wanted) if wanted != hash => Err(*wanted),
            _ => Ok(()),
        }
    }

    /// Whether the hash must be known before the bytes may pass: to compare it now, or later.
    pub(crate) fn needs_hash(&self) -> bool {
        matches!(self, Self::Hash(_) | Self::Unreachable)
    }

    /// What a client is told with bytes that may pass.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        matches!(self, Self::Unreachable)
            .then_some("not verified: the checksum database cannot be reached")
    }

    /// As metrics name it.
    pub(crate) fn result(&self) -> Verification {
        match self {
            Self::Hash(_) => Verification::Verified,
            Self::Exempt => Verification::Exempt,
            Self::Unknown => Verification::Unknown,
            Self::Unreachable => Verification::Unverified,
        }
    }
}

/// Content that passed its check. Only this is kept, and only this gives a client its last bytes.
#[derive(Debug)]
pub(crate) struct Verified<T> {
    content: T,
    warning: Option<&'static str>,
}

impl Verified<Bytes> {
    /// An `.info` has no checksum; it was checked to be about the version asked for.
    pub(crate) fn info(content: Bytes) -> Self {
        Self {
            content,
            warning: None,
        }
    }

    pub(crate) fn go_mod(content: Bytes, proof: &Proof) -> Self {
        Self {
            content,
            warning: proof.warning(),
        }
    }
}

impl<T> Verified<T> {
    /// The caller has checked the zip and compared its hash with `proof`.
    pub(crate) fn zip(content: T, proof: &Proof) -> Self {
        Self {
            content,
            warning: proof.warning(),
        }
    }
}

impl Verified<()> {
    /// The content that the witness is about, where it could not be taken along.
    pub(crate) fn with<T>(self, content: T) -> Verified<T> {
        Verified {
            content,
            warning: self.warning,
        }
    }
}

impl<T> Verified<T> {
    pub(crate) fn content(&self) -> &T {
        &self.content
    }

    pub(crate) fn content_mut(&mut self) -> &mut T {
        &mut self.content
    }

    pub(crate) fn into_content(self) -> T {
        self.content
    }

    /// Why this is served but not kept.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        self.warning
    }
}

impl Gateway {
    /// What an artifact that is to be served is compared with.
    pub(crate) async fn proof(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
    ) -> Result<Proof, Refusal> {
        let proof = self.ask_proof(settings, artifact, route).await;
        match &proof {
            Ok(Proof::Unknown | Proof::Unreachable) => {
                tracing::warn!(%artifact, "served without verification, as configured");
            }
            Err(refusal) if refusal.code == Code::ChecksumUnknown => {
                self.metrics
                    .verifications
                    .count(Verification::UnknownRefused);
            }
            _ => {}
        }
        proof
    }

    /// Whether the configuration may let this pass while the checksum database cannot be reached.
    pub(crate) fn may_pass_unverified(&self, artifact: &Artifact) -> bool {
        let sumdb = self.sumdb.load();
        let serves = sumdb
            .as_ref()
            .is_some_and(|sumdb| sumdb.serves_unverified());
        serves && !artifact.module.is_toolchain()
    }

    /// What the checksum database says of an artifact, where it must be asked.
    pub(crate) async fn ask_proof(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
    ) -> Result<Proof, Refusal> {
        // Without a database toolchains pass as well: the go command verifies those itself, whatever GOSUMDB says, and
        // then needs a database from elsewhere (docs/operations.md).
        let Some(sumdb) = self.sumdb.load_full() else {
            return Ok(Proof::Exempt);
        };
        // Toolchains run as programs on the client: no exemption and no exception (CVE-2026-42501). Their name is no
        // secret either, whatever `private` says.
        let toolchain = artifact.module.is_toolchain();
        if !toolchain && (route.is_private() || sumdb.exempts(&artifact.module)) {
            return Ok(Proof::Exempt);
        }
        let hashes = match sumdb
            .hashes(settings, &artifact.module, &artifact.version)
            .await
        {
            Ok(hashes) => hashes,
            Err(refusal) => {
                tracing::info!(%artifact, reason = %refusal, "no proof of the checksum database");
                return match refusal.code {
                    Code::RecordNotFound if sumdb.allows_unknown() && !toolchain => {
                        Ok(Proof::Unknown)
                    }
                    Code::RecordNotFound => {
                        let why = "the checksum database does not know it, and this gateway serves no unknown public versions";
                        Err(Refusal::new(Code::ChecksumUnknown, artifact.to_string(), why)
                            .hint("a private module belongs into `private`; others may be listed in `sumdb.exempt`, or `sumdb.unknown = \"allow\"`"))
                    }
                    Code::ChecksumDatabaseUnreachable
                        if sumdb.serves_unverified() && !toolchain =>
                    {
                        Ok(Proof::Unreachable)
                    }
                    _ => Err(refusal),
                };
            }
        };
        let text = if artifact.part == Part::Zip {
            &hashes.zip
        } else {
            &hashes.go_mod
        };
        let wanted = text.parse().map_err(|_| {
            Refusal::new(
                Code::ChecksumDatabaseInvalid,
                artifact.to_string(),
                format!("the checksum database has no readable hash: {text}"),
            )
        })?;
        Ok(Proof::Hash(wanted))
    }
}
