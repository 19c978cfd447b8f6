//! Redis as a hot tier that replicas share. It may forget anything at any time; nothing depends on it.
//!
//! A value is `MGO1`, the length of the digest's text as two bytes (big endian), that text, and the bytes. It is
//! compared with its digest at every read. What is not what it should be is renamed out of the way for a day.

use std::{
    fmt,
    future::Future,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::{Buf, Bytes};
use redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
    cmd,
};
use rustls::RootCertStore;
use tokio::task::spawn_blocking;

use super::{Gate, Head, Secret, Source, TierError, TierErrorKind, millis};
use crate::{Committed, Digest, Key};

const ADVICE: &str = "are user and password right, may this user read and write its keys, and does `maxmemory-policy` make room?";
const MAGIC: &[u8; 4] = b"MGO1";
/// Longest that stands before the bytes.
const MAX_HEADER: usize = 4 + 2 + 20 + 1 + 64 + 1 + 128;
/// Bytes up to this length are hashed where they are, more on a thread for it.
const HASH_INLINE: usize = 64 << 10;
/// How long a bad value is kept for those who want to see it.
const QUARANTINE: Duration = Duration::from_hours(24);

/// What a [`RedisTier`] is made of.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// `redis://` or `rediss://`, with the password in it if there is one.
    pub url: Secret,
    /// Stands before every key, with a colon between; may be empty.
    pub prefix: String,
    /// Longest object that it takes, in bytes.
    pub max_entry: u64,
    /// How long an object stays, counted from its writing; without it Redis' own eviction decides.
    pub ttl: Option<Duration>,
    /// More certificates to trust, as PEM.
    pub extra_ca: Vec<Vec<u8>>,
    /// Longest that a command may take.
    pub timeout: Duration,
    /// Most commands at a time.
    pub concurrency: usize,
}

impl RedisSettings {
    /// The defaults for the Redis at `url`.
    pub fn new(url: Secret) -> Self {
        Self {
            name: "redis".into(),
            url,
            prefix: "modgate".into(),
            max_entry: 1 << 20,
            ttl: None,
            extra_ca: Vec::new(),
            timeout: Duration::from_millis(250),
            concurrency: 64,
        }
    }
}

/// A shared hot tier.
pub struct RedisTier {
    gate: Arc<Gate>,
    client: Client,
    /// Replaced by a probe that succeeds: one that hangs for ever must not outlive its trouble.
    connection: RwLock<ConnectionManager>,
    settings: RedisSettings,
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl RedisTier {
    /// Makes the tier; connects when it is first used. Call it within the runtime.
    pub fn new(settings: &RedisSettings) -> Result<Self, TierError> {
        let name = Arc::clone(&settings.name);
        let gate = Arc::new(Gate::new(name, ADVICE, settings.concurrency));
        let refused = |error: RedisError| gate.error(TierErrorKind::Refused, error);
        let client = redis_client(settings.url.expose(), &settings.extra_ca).map_err(refused)?;
        let connection = connect(&client, settings).map_err(refused)?;
        Ok(Self {
            gate,
            client,
            connection: RwLock::new(connection),
            settings: settings.clone(),
        })
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Longest object that it takes, in bytes.
    pub fn max_entry(&self) -> u64 {
        self.settings.max_entry
    }

    /// The object and its digest, which it agrees with.
    pub async fn get(&self, key: &Key) -> Result<Option<(Bytes, Digest)>, TierError> {
        let name = self.name(key);
        // A foreign value may be of any length: never more than an entry is taken in.
        let end = self.settings.max_entry.saturating_add(MAX_HEADER as u64);
        let value: Vec<u8> = self.run(cmd("GETRANGE").arg(&name).arg(0).arg(end)).await?;
        if value.is_empty() {
            return Ok(None);
        }
        let len = value.len() as u64;
        match opened(value.into()).await {
            Some(object) => {
                self.gate.counters.read_bytes.fetch_add(len, Relaxed);
                Ok(Some(object))
            }
            None => Err(self.quarantine(key, &name).await),
        }
    }

    /// What is known of the object without reading it.
    pub async fn head(&self, key: &Key) -> Result<Option<Head>, TierError> {
        let name = self.name(key);
        let header: Vec<u8> = self
            .run(cmd("GETRANGE").arg(&name).arg(0).arg(MAX_HEADER - 1))
            .await?;
        if header.is_empty() {
            return Ok(None);
        }
        match header_of(&mut header.into()) {
            Some(digest) => Ok(Some(Head {
                size: digest.size,
                digest: Some(digest),
                mark: None,
                generation: None,
            })),
            None => Err(self.quarantine(key, &name).await),
        }
    }

    /// Writes the object unless it is there.
    pub async fn put(
        &self,
        key: &Key,
        source: &Source,
        digest: &Digest,
    ) -> Result<Committed, TierError> {
        let bytes = source.whole(self.settings.max_entry).await;
        let bytes = bytes.map_err(|error| self.gate.error(TierErrorKind::Refused, error))?;
        let name = self.name(key);
        let value = value_of(&bytes, digest);
        let mut set = cmd("SET");
        set.arg(&name).arg(value).arg("NX");
        if let Some(ttl) = self.settings.ttl {
            set.arg("PX").arg(millis(ttl));
        }
        let set_now = async || {
            let set: Option<String> = self.run(&set).await?;
            Ok(set.is_some())
        };
        if set_now().await? {
            return Ok(Committed::New);
        }
        match self.head(key).await {
            Ok(Some(Head {
                digest: Some(there),
                ..
            })) if there.same_bytes(digest) => Ok(Committed::Present),
            Ok(Some(_)) => {
                let error = self.gate.error(TierErrorKind::Differs, key);
                self.gate.note(Some(&error));
                tracing::error!(tier = %self.settings.name, %key, "SECURITY: other bytes under this key");
                Err(error)
            }
            // It expired or was moved away just now: once more.
            Ok(None)
            | Err(TierError {
                kind: TierErrorKind::Corrupt,
                ..
            }) => {
                let new = set_now().await?;
                Ok(if new {
                    Committed::New
                } else {
                    Committed::Present
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the object, if it is there.
    pub async fn remove(&self, key: &Key) -> Result<(), TierError> {
        self.run(cmd("UNLINK").arg(self.name(key))).await
    }

    /// Asks over a new connection, which is used from then on.
    pub async fn probe(&self) -> Result<(), TierError> {
        let connected = connect(&self.client, &self.settings);
        let mut connection = connected.map_err(|error| self.map(&error))?;
        let pong = cmd("PING").exec_async(&mut connection).await;
        pong.map_err(|error| self.map(&error))?;
        *self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner) = connection;
        Ok(())
    }

    fn name(&self, key: &Key) -> String {
        match self.settings.prefix.as_str() {
            "" => key.to_string(),
            prefix => format!("{prefix}:{key}"),
        }
    }

    /// A command, within the time limit and watched by the breaker. All that are used may be sent twice.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, TierError> {
        let connection = || {
            self.connection
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        let send =
            async || -> Result<T, RedisError> { command.query_async(&mut connection()).await };
        let work = async {
            match send().await {
                // The connection broke since it was last used: the manager has made a new one.
                Err(error) if error.is_connection_dropped() && !error.is_timeout() => send().await,
                done => done,
            }
            .map_err(|error| self.map(&error))
        };
        self.gate.run(self.settings.timeout, work).await
    }

    fn map(&self, error: &RedisError) -> TierError {
        if let Some(why) = error.code().and_then(no_writes) {
            return self.gate.error(TierErrorKind::Refused, why);
        }
        let kind = match error.kind() {
            _ if error.is_timeout() => TierErrorKind::Timeout,
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Server(ServerErrorKind::NoPerm) => TierErrorKind::Refused,
            _ => match error.code() {
                Some("OOM") => TierErrorKind::Full,
                Some("NOAUTH" | "WRONGPASS" | "WRONGTYPE") => TierErrorKind::Refused,
                _ => TierErrorKind::Unavailable,
            },
        };
        self.gate.error(kind, error)
    }

    /// Moves a bad value out of the way.
    async fn quarantine(&self, key: &Key, name: &str) -> TierError {
        let error = self.gate.error(TierErrorKind::Corrupt, key);
        self.gate.note(Some(&error));
        tracing::error!(tier = %self.settings.name, %key, "SECURITY: bytes that are not what they should be; moved to quarantine");
        let aside = format!("{name}:quarantine");
        let moved: Result<(), TierError> = self.run(cmd("RENAME").arg(name).arg(&aside)).await;
        if moved.is_ok() {
            let mut expire = cmd("PEXPIRE");
            expire.arg(&aside).arg(millis(QUARANTINE));
            // If this fails the value stays for longer, that is all.
            let _: Result<(), TierError> = self.run(&expire).await;
        }
        error
    }
}

/// Why a Redis that answers takes nothing, by its own code.
fn no_writes(code: &str) -> Option<&'static str> {
    match code {
        "READONLY" => Some(
            "it is a copy of another Redis and takes no writes (READONLY): the address must lead to that one",
        ),
        "MOVED" | "CLUSTERDOWN" => Some(
            "it is a part of a Redis cluster, which is not supported: use a single Redis, or a proxy that makes one of it",
        ),
        "MISCONF" => {
            Some("it cannot save what it has, and takes no writes (MISCONF): look at its log")
        }
        _ => None,
    }
}

/// A client of the Redis at `url`, which for `rediss://` trusts the certificates of `extra_ca` beside the system's.
///
/// # Errors
/// An address that is not one, or certificates that cannot be read.
pub fn redis_client(url: &str, extra_ca: &[Vec<u8>]) -> Result<Client, RedisError> {
    let client = Client::open(url)?;
    let over_tls = matches!(
        client.get_connection_info().addr(),
        ConnectionAddr::TcpTls { .. }
    );
    if !over_tls || extra_ca.is_empty() {
        return Ok(client);
    }
    // What is given here is trusted instead of the system's, so those are given too.
    let mut trusted = Vec::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that cannot be read must not cost the others.
        if RootCertStore::empty().add(certificate.clone()).is_err() {
            continue;
        }
        trusted.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        trusted.extend_from_slice(BASE64.encode(&certificate).as_bytes());
        trusted.extend_from_slice(b"\n-----END CERTIFICATE-----\n");
    }
    for pem in extra_ca {
        trusted.extend_from_slice(pem);
        trusted.push(b'\n');
    }
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(trusted),
    };
    Client::build_with_tls(url, certificates)
}

fn connect(client: &Client, settings: &RedisSettings) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(20))
        .set_connection_timeout(Some(settings.timeout.max(Duration::from_millis(250))))
        .set_response_timeout(Some(settings.timeout));
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn value_of(bytes: &[u8], digest: &Digest) -> Vec<u8> {
    let text = digest.to_text();
    let mut value = Vec::with_capacity(MAX_HEADER + bytes.len());
    value.extend_from_slice(MAGIC);
    let len = u16::try_from(text.len()).unwrap_or_default();
    value.extend_from_slice(&len.to_be_bytes());
    value.extend_from_slice(text.as_bytes());
    value.extend_from_slice(bytes);
    value
}

/// Takes the header off the front of a value.
fn header_of(value: &mut Bytes) -> Option<Digest> {
    if value.len() < 6 || &value[..4] != MAGIC {
        return None;
    }
    value.advance(4);
    let len = usize::from(value.get_u16());
    if value.len() < len {
        return None;
    }
    let text = value.split_to(len);
    Digest::from_text(std::str::from_utf8(&text).ok()?)
}

/// The bytes of a value and their digest, if they agree.
async fn opened(mut value: Bytes) -> Option<(Bytes, Digest)> {
    let digest = header_of(&mut value)?;
    if value.len() as u64 != digest.size {
        return None;
    }
    let hashed = value.clone();
    let hash: std::pin::Pin<Box<dyn Future<Output = Option<Digest>> + Send>> =
        if value.len() <= HASH_INLINE {
            Box::pin(std::future::ready(Some(Digest::of(&hashed))))
        } else {
            Box::pin(async { spawn_blocking(move || Digest::of(&hashed)).await.ok() })
        };
    hash.await?.same_bytes(&digest).then_some((value, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_is_whole_or_nothing() {
        let bytes = vec![7; 100_000];
        let digest = Digest::of(&bytes).with_h1("h1:x=");
        let value = value_of(&bytes, &digest);
        let (read, stated) = opened(value.clone().into()).await.unwrap();
        assert_eq!((&read[..], stated), (&bytes[..], digest));
        for cut in [0, 3, 5, 20, value.len() - 1] {
            assert!(
                opened(value[..cut].to_vec().into()).await.is_none(),
                "cut at {cut}"
            );
        }
        for at in [0, 4, 8, 30, value.len() - 1] {
            let mut bad = value.clone();
            bad[at] ^= 1;
            assert!(opened(bad.into()).await.is_none(), "altered at {at}");
        }
    }
}
