//! Credentials: which one goes where, and what it is at the moment.

mod helper;
mod netrc;
mod prefix;
mod run;
mod secret;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::Url;
use tokio::sync::Mutex;

pub use prefix::{PrefixError, UrlPrefix};
pub use secret::{Hidden, Secret};

use crate::network::host_port;
use secret::KeptFile;

/// A credential and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The URLs it is for.
    pub matches: UrlPrefix,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// HTTP Basic: a user and a password or token.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// HTTP Bearer: a token.
    Bearer(Secret),
    /// An HTTP header of its own, such as `Private-Token`.
    Header {
        /// The header's name.
        name: String,
        /// The header's value.
        value: Secret,
    },
    /// A TLS client certificate.
    ClientCertificate(ClientCertificate),
    /// An SSH key.
    Ssh(SshKey),
    /// Users and passwords in a `.netrc`, for the hosts that it names.
    Netrc(PathBuf),
    /// A git credential helper: its command, to which `get` is added.
    Helper(Vec<String>),
}

/// The files of a TLS client certificate, in PEM; looked at again for each request, so that renewed ones are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those between it and its root.
    pub cert: PathBuf,
    /// Its key, without a passphrase.
    pub key: PathBuf,
}

/// An SSH key and how the server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    /// The private key's file, without a passphrase.
    pub key: PathBuf,
    /// The file with the server's keys; else the system's and the user's own.
    pub known_hosts: Option<PathBuf>,
    /// The user to log in as, where the URL names none.
    pub username: Option<String>,
}

/// A credential that cannot be had. Says which, never what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} cannot be used: {text}")]
pub struct CredentialError {
    /// The credential's name, as [`Grant::name`].
    pub name: String,
    /// Why.
    pub text: String,
    /// What to do.
    pub hint: String,
}

/// What is to be presented for one URL: at most one header, one client certificate, one SSH key.
#[derive(Clone)]
pub struct Grant {
    name: String,
    basic: Option<(String, Hidden)>,
    header: Option<(HeaderName, HeaderValue)>,
    certificate: Option<ClientCertificate>,
    ssh: Option<SshKey>,
    /// Where the secret was kept.
    entry: usize,
}

impl Grant {
    /// What an error may say, such as `the credential for git.corp.example/team (user ci)`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The header for HTTP requests, marked as sensitive.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        self.header.clone()
    }

    /// User and password, where the header is made of these.
    pub fn basic(&self) -> Option<(&str, &Hidden)> {
        self.basic
            .as_ref()
            .map(|(user, password)| (user.as_str(), password))
    }

    /// The client certificate.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// The SSH key.
    pub fn ssh(&self) -> Option<&SshKey> {
        self.ssh.as_ref()
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grant").field(&self.name).finish()
    }
}

/// All credentials. Cheap to clone.
#[derive(Clone, Default)]
pub struct Credentials(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Narrow before wide.
    entries: Vec<Entry>,
    /// Environment variables that hold secrets, which no child needs to see.
    hide: Vec<String>,
}

struct Entry {
    credential: Credential,
    secret: Mutex<secret::Kept>,
    netrc: Mutex<KeptFile>,
    helper: Mutex<helper::Kept>,
}

impl Credentials {
    /// Of several that match a URL, the one with the longest prefix counts, and of equals the first.
    pub fn new(credentials: Vec<Credential>) -> Self {
        Self::hiding(credentials, Vec::new())
    }

    /// The same where these environment variables hold secrets of other kinds: their commands see them neither.
    pub fn hiding(mut credentials: Vec<Credential>, mut hide: Vec<String>) -> Self {
        credentials.sort_by_key(|credential| credential.matches.width());
        hide.extend(credentials.iter().filter_map(|c| match c.kind.secret() {
            Some(Secret::Env { name, .. }) => Some(name.clone()),
            _ => None,
        }));
        Self(Arc::new(Inner {
            hide,
            entries: credentials
                .into_iter()
                .map(|credential| Entry {
                    credential,
                    secret: Mutex::default(),
                    netrc: Mutex::default(),
                    helper: Mutex::default(),
                })
                .collect(),
        }))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// Names of the environment variables that hold secrets: no child process needs to see them.
    pub fn secret_variables(&self) -> &[String] {
        &self.0.hide
    }

    /// What to present for a URL: for http and https a header, a client certificate or both, for ssh a key. `None` if
    /// nothing is configured for it.
    pub async fn for_url(&self, url: &Url) -> Result<Option<Grant>, CredentialError> {
        let over_ssh = url.scheme() == "ssh" || url.scheme().ends_with("+ssh");
        let mut grant: Option<Grant> = None;
        for (index, entry) in self.0.entries.iter().enumerate() {
            let credential = &entry.credential;
            if matches!(credential.kind, Kind::Ssh(_)) != over_ssh
                || !credential.matches.matches(url)
            {
                continue;
            }
            let wanted = match (&grant, &credential.kind) {
                (None, _) => true,
                (Some(grant), Kind::ClientCertificate(_)) => grant.certificate.is_none(),
                (Some(_), Kind::Ssh(_)) => false,
                (Some(grant), _) => grant.header.is_none(),
            };
            if !wanted {
                continue;
            }
            let Some(found) = entry.grant(index, url, &self.0.hide).await? else {
                continue;
            };
            grant = Some(match grant {
                None => found,
                Some(first) => first.and(found),
            });
        }
        Ok(grant)
    }

    /// Says that a server refused what was presented, so that a command is asked again (though not at once). True if it
    /// would be asked now: what it says may be good.
    pub async fn refused(&self, grant: &Grant) -> bool {
        match self.0.entries.get(grant.entry) {
            Some(entry) => {
                let secret = entry.secret.lock().await.refused();
                entry.helper.lock().await.refused() || secret
            }
            None => false,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.entries.iter().map(|entry| &entry.credential);
        f.debug_list().entries(all).finish()
    }
}

impl Kind {
    /// The secret it holds, if any.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Basic {
                password: secret, ..
            }
            | Self::Bearer(secret)
            | Self::Header { value: secret, .. } => Some(secret),
            Self::ClientCertificate(_) | Self::Ssh(_) | Self::Netrc(_) | Self::Helper(_) => None,
        }
    }
}

impl Entry {
    /// What this credential gives for a URL that it matches; `None` if it has nothing for the host.
    async fn grant(
        &self,
        index: usize,
        url: &Url,
        hide: &[String],
    ) -> Result<Option<Grant>, CredentialError> {
        let matches = &self.credential.matches;
        let mut grant = Grant {
            name: format!("the credential for {matches}"),
            basic: None,
            header: None,
            certificate: None,
            ssh: None,
            entry: index,
        };
        let host = url.host_str().unwrap_or("");
        let name = grant.name.clone();
        let failed = |text: String| CredentialError {
            text,
            hint: format!("check the [[credential]] for `{matches}`"),
            name: name.clone(),
        };
        match &self.credential.kind {
            Kind::Basic { username, password } => {
                let password = password.get(&self.secret, hide).await.map_err(&failed)?;
                grant.set_basic(username.clone(), password);
            }
            Kind::Bearer(token) => {
                let token = token.get(&self.secret, hide).await.map_err(&failed)?;
                let value = Hidden::new(format!("Bearer {}", token.expose()));
                grant.set_header(AUTHORIZATION, &value).map_err(&failed)?;
            }
            Kind::Header { name, value } => {
                let value = value.get(&self.secret, hide).await.map_err(&failed)?;
                let header = HeaderName::try_from(name.as_str())
                    .map_err(|_| failed(format!("`{name}` is no name of a header")))?;
                grant.set_header(header, &value).map_err(&failed)?;
            }
            Kind::ClientCertificate(certificate) => {
                grant.name = format!("the client certificate for {matches}");
                grant.certificate = Some(certificate.clone());
            }
            Kind::Ssh(key) => {
                grant.name = format!("the SSH key {} for {matches}", key.key.display());
                grant.ssh = Some(key.clone());
            }
            Kind::Netrc(path) => {
                let mut kept = self.netrc.lock().await;
                let text = kept.read(path).await.map_err(&failed)?;
                // git looks for the host alone, go for it with the port.
                let with_port = url.port().map(|port| format!("{host}:{port}"));
                let exact = with_port.and_then(|name| netrc::find(text.expose(), &name));
                let Some((user, password)) = exact.or_else(|| netrc::find(text.expose(), host))
                else {
                    return Ok(None);
                };
                grant.name = format!("the .netrc entry for {host}");
                grant.set_basic(user.to_owned(), Hidden::new(password));
            }
            Kind::Helper(argv) => {
                let Some((host, port)) = host_port(url) else {
                    return Ok(None);
                };
                let host = match url.port() {
                    Some(_) => format!("{host}:{port}"),
                    None => host.to_owned(),
                };
                let question = (url.scheme(), host.as_str(), matches.path());
                let question = (question.0, question.1, question.2.as_str());
                let mut kept = self.helper.lock().await;
                let found = kept.get(argv, question, hide).await.map_err(&failed)?;
                let Some((user, password)) = found else {
                    return Ok(None);
                };
                grant.name = format!("the credential helper's answer for {host}");
                grant.set_basic(user, password);
            }
        }
        Ok(Some(grant))
    }
}

impl Grant {
    fn set_basic(&mut self, user: String, password: Hidden) {
        self.name = format!(
            "{} (user {})",
            self.name,
            user.replace(char::is_control, " ")
        );
        let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
        // Base64 is always a valid value.
        let _ = self.set_header(AUTHORIZATION, &Hidden::new(format!("Basic {pair}")));
        self.basic = Some((user, password));
    }

    fn set_header(&mut self, name: HeaderName, value: &Hidden) -> Result<(), String> {
        let mut value = HeaderValue::try_from(value.expose())
            .map_err(|_| "it has characters that no header may have".to_owned())?;
        value.set_sensitive(true);
        self.header = Some((name, value));
        Ok(())
    }

    /// A header and a client certificate together.
    fn and(self, other: Self) -> Self {
        let (header, certificate) = if self.header.is_some() {
            (self, other)
        } else {
            (other, self)
        };
        Self {
            name: format!("{} and {}", header.name, certificate.name),
            certificate: certificate.certificate,
            ..header
        }
    }
}
