//! Proofs that somebody carried here in a file, for a network without a line. They are believed no more than those of
//! any other source: each record is proven under the kept head, which moves forward along a proof or not at all.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use tlog::{head::SignedHead, proof::Plan};
use tokio::task::spawn_blocking;

use super::{
    SumDb,
    source::{Fault, Source},
};
use crate::{
    gateway::Gateway,
    refusal::{Code, Refusal},
    settings::Settings,
};

/// Answers of a checksum database in a file.
pub trait Carried: fmt::Debug + Send + Sync {
    /// The answer to `latest`, `lookup/…` or `tile/…`, if it is there. Waits for the disk.
    ///
    /// # Errors
    /// The disk.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;

    /// Sizes of earlier trees of which it is said that the tiles are there to prove that the head continues them.
    fn continues(&self) -> &[u64];
}

/// Asks for `path`, which begins with a slash.
pub(super) async fn ask_carried(carried: &Arc<dyn Carried>, path: &str) -> Result<Bytes, Fault> {
    let (carried, path) = (Arc::clone(carried), path.trim_start_matches('/').to_owned());
    let read = spawn_blocking(move || carried.read(&path)).await;
    match read.map_err(io::Error::other).and_then(|read| read) {
        Ok(Some(bytes)) => Ok(bytes.into()),
        Ok(None) => Err(Fault::Absent),
        Err(error) => Err(Fault::Trouble(error.to_string())),
    }
}

impl SumDb {
    /// Brings the kept head forward to the one that was carried here, and keeps what proves older ones.
    async fn meet_carried(
        self: &Arc<Self>,
        settings: &Settings,
        carried: &Arc<dyn Carried>,
    ) -> Result<(), Refusal> {
        self.not_forked().await?;
        let source = Source::Carried(Arc::clone(carried));
        let refusal = |fault| match fault {
            Fault::Final(refusal) => refusal,
            Fault::Absent => self.invalid("the bundle has no signed head"),
            Fault::Trouble(why) | Fault::Invalid(why) => self.invalid(why),
        };
        let note = self.ask(settings, &source, "/latest").await;
        let seen = SignedHead::verify(&note.map_err(refusal)?, &self.settings.key)
            .map_err(|error| self.invalid(error))?;
        let before = self.tree_size();
        self.meet(settings, &source, &seen).await.map_err(|fault| {
            let refusal = refusal(fault);
            if before == 0 || refusal.code == Code::ChecksumDatabaseFork {
                return refusal;
            }
            refusal.hint(format!(
                "this gateway knows the tree of {before} records, and the bundle has no proof from there: \
                 `modgate export --continues {before}` makes one that has"
            ))
        })?;
        // Clients may know older heads than this gateway: their tiles are kept too.
        let head = self.head().filter(|head| head.head() == seen.head());
        for size in carried.continues() {
            let Some(head) = &head else { break };
            let plan = Plan::beginning(*size, head.head()).map_err(|error| self.invalid(error))?;
            let proven = self
                .run(settings, &source, plan.tiles(), |tiles| {
                    plan.root(tiles).map(drop)
                })
                .await;
            let proven = proven.and_then(|proven| proven.map_err(Fault::invalid));
            proven.map_err(refusal)?;
        }
        Ok(())
    }
}

impl Gateway {
    /// From now on proofs come from what somebody carried here, and no line is asked. `name` is the database that it says
    /// they are of; none: it has no proofs. For a process that imports, and serves nobody.
    ///
    /// # Errors
    /// They are of another database, do not verify, or do not continue what is known here.
    pub async fn prove_by(
        &self,
        name: Option<&str>,
        carried: Arc<dyn Carried>,
    ) -> Result<(), Refusal> {
        let Some(sumdb) = self.sumdb.load_full() else {
            return Ok(());
        };
        // Only the first one counts: a process takes over one bundle.
        let _ = sumdb.carried.set(Source::Carried(Arc::clone(&carried)));
        let Some(name) = name else {
            return Ok(());
        };
        if sumdb.name() != name {
            let why = format!(
                "its proofs are of the checksum database {name}, and this gateway verifies by {}",
                sumdb.name()
            );
            return Err(Refusal::new(Code::DatabaseNotServed, "the bundle", why));
        }
        let settings = self.settings.load_full();
        sumdb.meet_carried(&settings, &carried).await
    }

    /// Whether what is kept of a module is proven by the checksum database.
    pub fn proves(&self, module: &gomod::ModulePath) -> bool {
        let sumdb = self.sumdb.load();
        sumdb.as_ref().is_some_and(|sumdb| {
            module.is_toolchain() || !(self.is_private(module) || sumdb.exempts(module))
        })
    }

    /// Writes what was proven, before this returns.
    ///
    /// # Errors
    /// The disk, or a tier that keeps.
    pub async fn keep_proofs(&self) -> io::Result<()> {
        let Some(sumdb) = self.sumdb.load_full() else {
            return Ok(());
        };
        let kept = Arc::clone(&sumdb.kept);
        let written = spawn_blocking(move || kept.write_now()).await;
        if written.map_err(io::Error::other)? {
            return Ok(());
        }
        Err(io::Error::other("the proofs could not be kept"))
    }
}
