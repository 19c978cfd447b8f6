//! HTTP clients, made on first use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::{Client, Proxy};
use tokio::sync::OnceCell;

use crate::credential::ClientCertificate;
use crate::error::{EgressError, EgressErrorKind, deepest};
use crate::guard::{Guarded, Lookup, Unguarded};
use crate::network::NetworkSettings;

/// Most clients kept. There are few: one per connect timeout, proxy and client certificate in use.
const MAX_CLIENTS: usize = 64;

/// What a client is made for: properties that the HTTP library ties to a client rather than to a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) connect_timeout: Duration,
    pub(crate) proxy: Option<String>,
    /// Whether each name's addresses must be public.
    pub(crate) guarded: bool,
    pub(crate) identity: Option<Identity>,
}

/// A client certificate's files as they were.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    files: [(PathBuf, Option<SystemTime>, u64); 2],
}

impl Identity {
    /// Looks at the files, so that renewed ones are noticed.
    pub(crate) async fn look(certificate: &ClientCertificate) -> Result<Self, EgressError> {
        let paths = [certificate.cert.clone(), certificate.key.clone()];
        let looked = tokio::task::spawn_blocking(move || {
            let [cert, key] = paths.map(|path| match std::fs::metadata(&path) {
                Ok(meta) => Ok((path, meta.modified().ok(), meta.len())),
                Err(error) => Err(format!("{}: {error}", path.display())),
            });
            Ok([cert?, key?])
        });
        let looked = looked
            .await
            .unwrap_or_else(|_| Err("the files cannot be read".to_owned()));
        looked.map(|files| Self { files }).map_err(|text| {
            EgressError::new(
                EgressErrorKind::Credential,
                format!("the client certificate cannot be read: {text}"),
            )
        })
    }

    /// Reads the certificate and its key; blocks.
    fn read(&self) -> Result<reqwest::Identity, String> {
        let mut pem = Vec::new();
        for (path, _, _) in &self.files {
            let text = std::fs::read(path).map_err(|error| {
                format!(
                    "the client certificate cannot be read: {}: {error}",
                    path.display()
                )
            })?;
            pem.extend(text);
            pem.push(b'\n');
        }
        let [(cert, ..), (key, ..)] = &self.files;
        let (cert, key) = (cert.display(), key.display());
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|_| format!("{cert} and {key} are not a PEM certificate and its key"))?;
        // Else what is wrong with it would be told in words that are about the server's.
        let alone = Client::builder().tls_certs_only([]).no_proxy();
        match alone.identity(identity.clone()).build() {
            Ok(_) => Ok(identity),
            Err(error) => {
                let why = match deepest(&error) {
                    old if old.contains("UnsupportedCertVersion") => {
                        "it is of X.509 version 1, as openssl signs without extensions, and 3 is needed"
                            .to_owned()
                    }
                    why => why,
                };
                Err(format!(
                    "the client certificate {cert} cannot be used with {key}: {why}"
                ))
            }
        }
    }
}

/// The clients made so far.
pub(crate) struct Clients {
    lookup: Option<Lookup>,
    made: Mutex<HashMap<Key, Arc<OnceCell<Client>>>>,
}

impl Clients {
    /// `lookup` in place of the system's resolver.
    pub(crate) fn new(lookup: Option<Lookup>) -> Self {
        Self {
            lookup,
            made: Mutex::new(HashMap::new()),
        }
    }

    /// The name service in use.
    pub(crate) fn lookup(&self) -> Lookup {
        self.lookup.clone().unwrap_or_else(crate::guard::system)
    }

    /// The client for a key. Reading the system's roots takes tens of milliseconds, so that is done once per client,
    /// off the runtime's own threads.
    pub(crate) async fn get(
        &self,
        network: &NetworkSettings,
        key: Key,
    ) -> Result<Client, EgressError> {
        let cell = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            // Renewed certificates leave clients behind. Those in use live on in their requests.
            if made.len() >= MAX_CLIENTS && !made.contains_key(&key) {
                made.clear();
            }
            Arc::clone(made.entry(key.clone()).or_default())
        };
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let client = cell
            .get_or_try_init(|| async {
                let network = network.clone();
                let lookup = self.lookup.clone();
                tokio::task::spawn_blocking(move || build(&network, &key, lookup))
                    .await
                    .map_err(|_| "the HTTP client could not be set up".to_owned())?
            })
            .await
            .map_err(|text| EgressError::new(EgressErrorKind::Connect, text))?;
        Ok(client.clone())
    }
}

fn build(network: &NetworkSettings, key: &Key, lookup: Option<Lookup>) -> Result<Client, String> {
    let builder = |only: bool| -> Result<reqwest::ClientBuilder, String> {
        let mut roots = Vec::new();
        if let Some(pem) = &network.ca_pem {
            roots = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|_| "the CA file is not PEM certificates".to_owned())?;
        }
        let mut builder = Client::builder()
            .user_agent(concat!("modgate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(key.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http2_initial_stream_window_size(2 * 1024 * 1024)
            .http2_initial_connection_window_size(8 * 1024 * 1024)
            .http2_max_header_list_size(64 * 1024)
            .no_proxy();
        // A connection that was kept to a machine that is gone by now fails as soon as a new one would.
        #[cfg(target_os = "linux")]
        {
            builder = builder.tcp_user_timeout(key.connect_timeout);
        }
        builder = if only {
            builder.tls_certs_only(roots)
        } else {
            builder.tls_certs_merge(roots)
        };
        if let Some(proxy) = &key.proxy {
            let proxy = Proxy::all(proxy).map_err(|_| "the proxy's URL is not valid".to_owned())?;
            builder = builder.proxy(proxy);
        }
        if let Some(identity) = &key.identity {
            builder = builder.identity(identity.read()?);
        }
        builder = match (key.guarded, &lookup) {
            (true, lookup) => builder.dns_resolver(Arc::new(Guarded(
                lookup.clone().unwrap_or_else(crate::guard::system),
            ))),
            (false, Some(lookup)) => builder.dns_resolver(Arc::new(Unguarded(Arc::clone(lookup)))),
            (false, None) => builder,
        };
        Ok(builder)
    };
    let first = match builder(network.ca_only)?.build() {
        Ok(client) => return Ok(client),
        Err(error) => deepest(&error),
    };
    if network.ca_only {
        return Err(first);
    }
    // A machine without any system roots (a bare container) can still use http and the configured roots.
    // What ends this one too lies not with them.
    let alone = builder(true)?.build().map_err(|error| deepest(&error))?;
    tracing::warn!(error = %first, "the system's certificates cannot be used");
    Ok(alone)
}
