//! From settings to a client of object storage.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, ObjectStore, RetryConfig,
    aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
    list::PaginatedListStore, signer::Signer,
};

use super::{Persist, Secret, TierError, TierErrorKind, listing::Sifting};

/// Which interface the storage speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3 and what is compatible with it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage: the bucket is the container, the access key the account.
    Azure,
}

/// What an [`ObjectTier`](super::ObjectTier) is made of.
#[derive(Clone, Debug)]
pub struct ObjectSettings {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Which interface it speaks.
    pub service: Service,
    /// The bucket or container.
    pub bucket: String,
    /// Stands before every key, with a slash between; may be empty.
    pub prefix: String,
    /// Its address, where it is not the service's own.
    pub endpoint: Option<String>,
    /// The region; S3 only.
    pub region: Option<String>,
    /// Access key (S3), account (Azure), or service account key as JSON (GCS); without it what the machine offers.
    pub access_key: Option<Secret>,
    /// Secret key (S3) or access key (Azure).
    pub secret_key: Option<Secret>,
    /// Token of temporary credentials; S3 only.
    pub session_token: Option<Secret>,
    /// More certificates to trust, as PEM.
    pub extra_ca: Vec<Vec<u8>>,
    /// Whether plain `http` is allowed; else an `http` endpoint is refused.
    pub allow_http: bool,
    /// When a write has to be done.
    pub persist: Persist,
    /// Longest until the first byte of an answer.
    pub timeout: Duration,
    /// Longest between two pieces of a body, and for a part of an upload.
    pub idle_timeout: Duration,
    /// Most requests at a time.
    pub concurrency: usize,
    /// Clients are sent to the storage itself for large objects, by addresses that hold for so long.
    pub redirect: Option<Duration>,
}

impl ObjectSettings {
    /// The defaults for a bucket.
    pub fn new(service: Service, bucket: impl Into<String>) -> Self {
        Self {
            name: match service {
                Service::S3 => "s3",
                Service::Gcs => "gcs",
                Service::Azure => "azure",
            }
            .into(),
            service,
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            extra_ca: Vec::new(),
            allow_http: false,
            persist: Persist::Through,
            timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            concurrency: 64,
            redirect: None,
        }
    }
}

impl ObjectSettings {
    /// Where it lies: stays the same when other buckets come and go, and its name or address changes.
    pub fn place(&self) -> String {
        let service = match self.service {
            Service::S3 => "s3",
            Service::Gcs => "gcs",
            Service::Azure => "azure",
        };
        let prefix = self.prefix.trim_matches('/');
        format!("{service}:{}/{prefix}", self.bucket)
    }

    /// The storage itself, for what is no object of a tier: leases, backups. Nothing is asked yet.
    pub fn storage(&self) -> Result<Arc<dyn ObjectStore>, TierError> {
        let refused = |error| TierError::new(&self.name, TierErrorKind::Refused, error);
        connect(self).map(|client| client.store).map_err(refused)
    }
}

/// The client, by all its sides.
pub(super) struct Client {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) pages: Arc<dyn PaginatedListStore>,
}

/// Whether the service says that there is no such object. That there is no such bucket says nothing of objects, nor does
/// somebody in between who cannot find the service: a balancer says so with a page of its own. A service that says no more
/// than 404 is believed. Not for answers to HEAD, which have no text.
pub fn is_absent(error: &Error) -> bool {
    let Error::NotFound { .. } = error else {
        return false;
    };
    let text = error.to_string();
    match code_in(&text) {
        Some(code) => !["NoSuchBucket", "ContainerNotFound"].contains(&code),
        None => match text.split_once("status code: 404 Not Found:") {
            Some((_, page)) => page.trim().is_empty(),
            None => true,
        },
    }
}

/// What the service itself calls an error, in the text of one.
pub(super) fn code_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// Makes the client; nothing is asked yet.
pub(super) fn connect(settings: &ObjectSettings) -> object_store::Result<Client> {
    let options = options(settings)?;
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.,
        },
        max_retries: 2,
        retry_timeout: settings.timeout,
    };
    let expose = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    // Without keys of ours the surroundings say who we are: a workload identity, the role of a container or machine.
    let own_keys = settings.access_key.is_some();
    match settings.service {
        Service::S3 => {
            let builder = own_keys.then(AmazonS3Builder::new);
            let mut builder = builder
                .unwrap_or_else(AmazonS3Builder::from_env)
                .with_bucket_name(&settings.bucket)
                .with_client_options(options)
                .with_http_connector(Sifting)
                .with_retry(retry);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(region) = &settings.region {
                builder = builder.with_region(region);
            }
            if let Some(key) = expose(&settings.access_key) {
                builder = builder.with_access_key_id(key);
            }
            if let Some(key) = expose(&settings.secret_key) {
                builder = builder.with_secret_access_key(key);
            }
            if let Some(token) = expose(&settings.session_token) {
                builder = builder.with_token(token);
            }
            client(builder.build()?)
        }
        Service::Gcs => {
            let builder = own_keys.then(GoogleCloudStorageBuilder::new);
            let mut builder = builder
                .unwrap_or_else(GoogleCloudStorageBuilder::from_env)
                .with_bucket_name(&settings.bucket)
                .with_client_options(options)
                .with_http_connector(Sifting)
                .with_retry(retry);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            if let Some(key) = expose(&settings.access_key) {
                builder = builder.with_service_account_key(key);
            }
            client(builder.build()?)
        }
        Service::Azure => {
            let builder = own_keys.then(MicrosoftAzureBuilder::new);
            let mut builder = builder
                .unwrap_or_else(MicrosoftAzureBuilder::from_env)
                .with_container_name(&settings.bucket)
                .with_client_options(options)
                .with_http_connector(Sifting)
                .with_retry(retry);
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            if let Some(account) = expose(&settings.access_key) {
                builder = builder.with_account(account);
            }
            if let Some(key) = expose(&settings.secret_key) {
                builder = builder.with_access_key(key);
            }
            client(builder.build()?)
        }
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the last step of three fallible ones"
)]
fn client<T: ObjectStore + Signer + PaginatedListStore>(store: T) -> object_store::Result<Client> {
    let store = Arc::new(store);
    Ok(Client {
        store: Arc::clone(&store) as Arc<dyn ObjectStore>,
        pages: Arc::clone(&store) as Arc<dyn PaginatedListStore>,
        signer: store,
    })
}

fn options(settings: &ObjectSettings) -> object_store::Result<ClientOptions> {
    let mut options = ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_connect_timeout(settings.timeout.min(Duration::from_secs(3)))
        .with_read_timeout(settings.idle_timeout)
        // A large body takes as long as it takes; every step of it has a limit.
        .with_timeout_disabled()
        .with_pool_idle_timeout(Duration::from_secs(30))
        .with_pool_max_idle_per_host(settings.concurrency);
    for pem in &settings.extra_ca {
        for certificate in Certificate::from_pem_bundle(pem)? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}
