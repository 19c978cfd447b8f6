//! What was served while the checksum database could not be reached, with the hashes of what was sent: once the
//! database answers, each is compared with it. On disk, so that a restart does not forget it.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gomod::h1::H1;
use store::{Key, Store};

use crate::{
    artifact::Artifact,
    gateway::Gateway,
    import,
    pipeline::Want,
    refusal::{Code, Refusal},
    results::Incident,
    verify::Proof,
};

const FOLDER: &str = "unverified";
const MAX_ARTIFACTS: usize = 10_000;
/// Different contents of one artifact that are remembered: more than one is bad already.
const MAX_HASHES: usize = 8;
const MAX_FILE_BYTES: u64 = 4096;

/// What is still to be compared.
#[derive(Debug)]
pub(crate) struct Unverified {
    store: Arc<Store>,
    table: Mutex<HashMap<Artifact, Served>>,
}

/// What was sent of one artifact.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    hashes: BTreeSet<String>,
    /// Whether it was told why it cannot be compared.
    told: bool,
}

impl Unverified {
    /// Reads what a process before this one noted. Waits for the disk.
    pub(crate) fn load(store: Arc<Store>) -> Self {
        let folder = store.folder().join(FOLDER);
        let mut table = HashMap::new();
        match import::find(&folder) {
            Ok(found) => {
                for artifact in found.into_iter().map(|found| found.artifact) {
                    let hashes = read(&store, &artifact);
                    let told = false;
                    table.insert(artifact, Served { hashes, told });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(%error, "cannot read what was served unverified");
            }
        }
        if !table.is_empty() {
            tracing::warn!(
                count = table.len(),
                "served unverified before the start, to be verified"
            );
        }
        Self {
            store,
            table: Mutex::new(table),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Artifact, Served>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was sent. False if there is no room. Waits for the disk.
    fn note(&self, artifact: &Artifact, hash: &H1) -> bool {
        let hashes = {
            let mut table = self.lock();
            if table.len() >= MAX_ARTIFACTS && !table.contains_key(artifact) {
                return false;
            }
            let served = table.entry(artifact.clone()).or_default();
            if served.hashes.len() < MAX_HASHES && !served.hashes.insert(hash.to_string()) {
                return true;
            }
            served.hashes.clone()
        };
        let mut text = String::new();
        for hash in hashes {
            text += &hash;
            text.push('\n');
        }
        let written = key(artifact).and_then(|key| self.store.replace_small(&key, text.as_bytes()));
        if let Err(error) = written {
            tracing::error!(%artifact, %error, "what was served unverified is noted in memory only");
        }
        true
    }

    fn waiting(&self) -> Vec<(Artifact, Served)> {
        let table = self.lock();
        let all = table.iter();
        all.map(|(artifact, served)| (artifact.clone(), served.clone()))
            .collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn told(&self, artifact: &Artifact) {
        if let Some(served) = self.lock().get_mut(artifact) {
            served.told = true;
        }
    }

    /// Forgets what is settled. Waits for the disk.
    fn settled(&self, artifact: &Artifact) {
        self.lock().remove(artifact);
        if let Err(error) = key(artifact).and_then(|key| self.store.remove(&key)) {
            tracing::error!(%artifact, %error, "cannot remove the note of what was served unverified");
        }
    }
}

fn key(artifact: &Artifact) -> io::Result<Key> {
    Key::new(format!("{FOLDER}{}", artifact.upstream_path())).map_err(io::Error::other)
}

fn read(store: &Store, artifact: &Artifact) -> BTreeSet<String> {
    let text = key(artifact).and_then(|key| store.read_small(&key, MAX_FILE_BYTES));
    match text {
        Ok(text) => String::from_utf8_lossy(&text.unwrap_or_default())
            .lines()
            .map(str::to_owned)
            .collect(),
        Err(error) => {
            tracing::error!(%artifact, %error, "cannot read what was served unverified");
            BTreeSet::new()
        }
    }
}

/// Whether to go on with the next.
enum Next {
    GoOn,
    /// The database is away, or nothing of it is to be trusted: the others would fare no better.
    Stop,
}

impl Gateway {
    /// Notes what was served unverified: it is verified as soon as the checksum database answers.
    pub(crate) async fn verify_later(
        self: &Arc<Self>,
        artifact: &Artifact,
        hash: H1,
    ) -> Result<(), Refusal> {
        let served = artifact.clone();
        let noted = self
            .on_disk(move |gateway| gateway.unverified.note(&served, &hash))
            .await?;
        if !noted {
            self.metrics.incidents.count(Incident::UnverifiedNotNoted);
            tracing::error!(%artifact, "served unverified, and too much waits already: it will not be verified later");
        }
        Ok(())
    }

    /// Compares what was served unverified with the checksum database, as far as that can be reached.
    pub(crate) async fn verify_served(self: &Arc<Self>) {
        for (artifact, served) in self.unverified.waiting() {
            if matches!(self.compare(&artifact, &served).await, Next::Stop) {
                return;
            }
        }
    }

    async fn compare(self: &Arc<Self>, artifact: &Artifact, served: &Served) -> Next {
        let settings = self.settings.load_full();
        let route = settings.routes.resolve(&artifact.module);
        match self.ask_proof(&settings, artifact, &route).await {
            Ok(Proof::Unreachable) => return Next::Stop,
            Ok(Proof::Hash(wanted)) => {
                let wanted = wanted.to_string();
                let others: Vec<_> = served.hashes.iter().filter(|got| **got != wanted).collect();
                if !others.is_empty() {
                    self.metrics
                        .incidents
                        .count(Incident::ServedUnverifiedAltered);
                    tracing::error!(%artifact, part = artifact.part.ending(), got = ?others, wanted, "SECURITY: what was served unverified is not what the checksum database says: clients have it");
                }
                self.settle_served(artifact).await;
                let want = Want {
                    whole: true,
                    ..Want::default()
                };
                if let Err(refused) = self.fly(artifact.clone(), route, want).await {
                    tracing::warn!(%artifact, refusal = %refused.refusal, "what was served unverified cannot be kept now");
                }
                if others.is_empty() {
                    tracing::info!(%artifact, "verified what was served unverified before");
                }
            }
            Ok(Proof::Exempt | Proof::Unknown) => {
                tracing::warn!(%artifact, "what was served unverified is not in the checksum database, and need not be by the configuration");
                self.settle_served(artifact).await;
            }
            Err(refusal) => match refusal.code {
                Code::ChecksumDatabaseUnreachable | Code::ChecksumDatabaseFork => {
                    return Next::Stop;
                }
                Code::ChecksumUnknown => {
                    self.metrics
                        .incidents
                        .count(Incident::ServedUnverifiedUnknown);
                    tracing::error!(%artifact, "SECURITY: the checksum database does not know what was served unverified: clients have it");
                    self.settle_served(artifact).await;
                }
                _ => {
                    if !served.told {
                        tracing::error!(%artifact, %refusal, "what was served unverified cannot be verified yet");
                        self.unverified.told(artifact);
                    }
                }
            },
        }
        Next::GoOn
    }

    async fn settle_served(self: &Arc<Self>, artifact: &Artifact) {
        let settled = artifact.clone();
        let done = self
            .on_disk(move |gateway| gateway.unverified.settled(&settled))
            .await;
        if let Err(refusal) = done {
            tracing::error!(%refusal, "settling what was served unverified");
        }
    }
}
