//! How child processes reach a repository: checked addresses, certificates, proxies and credentials, by environment alone.
//!
//! A program that is told a name would ask the name service itself, perhaps for another answer than was checked. So git
//! gets the checked addresses with the URL, and ssh one of them in place of the name. The others (hg, svn, bzr, fossil)
//! cannot be told, and follow redirects too: over http these go by a [`Relay`] of ours that checks each connection.

mod certificates;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egress::credential::SshKey;
use egress::{Ask, Egress, Grant, Hidden};
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OnceCell};

use self::certificates::Certificates;
use crate::discover::page::from_egress;
use crate::discover::{Kind, Root};
use crate::relay::{Relay, Rights};
use crate::{DirectError, ErrorKind, ssh::is_ssh};

/// Longest wait for the name service, and for a server that redirects.
const WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for one of several addresses to take a connection, and how many are tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const MAX_ADDRESSES: usize = 8;
/// Longest wait of ssh for a connection, in seconds.
const SSH_CONNECT_SECONDS: u32 = 20;

/// The way out for child processes. Asked before each use of the network; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reach {
    egress: Egress,
    folder: PathBuf,
    /// The certificates for children as they were written, to see that they still are what they were.
    certificates: Arc<Mutex<Option<Certificates>>>,
    /// The proxy for programs that check nothing, once started.
    relay: Arc<OnceCell<Relay>>,
}

/// The way to one repository.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// Where the program asks, without userinfo that is secret.
    pub(crate) url: String,
    /// git's configuration for this use; may hold secrets.
    pub(crate) config: Vec<(String, String)>,
    /// Environment of the child; may hold secrets.
    pub(crate) env: Vec<(String, String)>,
    /// The configured certificates, for a program that is not given the file that git is.
    pub(crate) authorities: Option<Vec<u8>>,
    /// User and password, for programs that are not given a header.
    pub(crate) login: Option<(String, Hidden)>,
    /// The name of the credential that is used, for errors.
    pub(crate) credential: Option<String>,
    /// The credential itself, to be told where it is refused.
    pub(crate) grant: Option<Grant>,
    /// Whether credentials are withheld: another host named the repository, for a module that is not ours.
    pub(crate) withheld: bool,
}

impl Way {
    /// What to do where the repository wants other credentials.
    pub(crate) fn advice(&self) -> String {
        let url = &self.url;
        match &self.credential {
            Some(used) => format!(
                "{used} was used for {url}: check that it is right and may read the repository, or add a [[credential]]"
            ),
            None if self.withheld => format!(
                "no credential was used for {url}: it is withheld where another host named the repository; if the module is \
                 yours, name this address in [[vcs]] repo, or the module in private"
            ),
            None => format!(
                "no credential was used for {url}: none matches it; if it is there and may be read, add a [[credential]] for it"
            ),
        }
    }

    /// One of git's settings for this use, which other programs are told in their own ways.
    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        let found = self.config.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// The command that stands for ssh.
    pub(crate) fn ssh(&self) -> Option<&str> {
        let found = self.env.iter().find(|(name, _)| name == "GIT_SSH_COMMAND");
        found.map(|(_, value)| value.as_str())
    }
}

impl Reach {
    /// Files that children need are written into `folder`.
    pub(crate) fn new(egress: Egress, folder: PathBuf) -> Self {
        Self {
            egress,
            folder,
            certificates: Arc::default(),
            relay: Arc::default(),
        }
    }

    /// The way out that it was made with.
    pub(crate) fn egress(&self) -> &Egress {
        &self.egress
    }

    /// The way to the repository of `root`.
    pub(crate) async fn way(&self, root: &Root) -> Result<Way, DirectError> {
        if cfg!(test) && root.url.starts_with("file://") {
            return Ok(Way {
                url: root.url.clone(),
                ..Way::default()
            });
        }
        let what = format!("the repository {}", root.url);
        let url: Url = root
            .url
            .parse()
            .map_err(|_| refused(format!("{what} has no URL")))?;
        // Where the administrator says that a host is inside, its addresses are his affair. Over ssh its name may be known
        // to the host alone that a ProxyJump goes by.
        let inside = self.egress.is_internal(&url);
        let pinned = if inside && is_ssh(url.scheme()) {
            None
        } else {
            tokio::time::timeout(WITHIN, self.egress.pin(&url))
                .await
                .map_err(|_| DirectError {
                    kind: ErrorKind::Timeout,
                    text: format!("{what}: the name service did not answer"),
                    hint: None,
                })?
                .map_err(|error| from_egress(&what, error))?
                .filter(|_| !inside)
        };
        let grant = if root.credentials {
            let grant = self.egress.credentials().for_url(&url).await;
            grant.map_err(|error| from_egress(&what, error.into()))?
        } else {
            None
        };
        let mut way = Way {
            url: root.url.clone(),
            withheld: !root.credentials,
            credential: grant.as_ref().map(|grant| grant.name().to_owned()),
            login: grant
                .as_ref()
                .and_then(Grant::basic)
                .map(|(user, password)| (user.to_owned(), password.clone())),
            ..Way::default()
        };
        match url.scheme() {
            "http" | "https" => {
                let proxy = if root.vcs == Kind::Git {
                    self.egress.guarded_proxy_for(&url).unwrap_or_default()
                } else {
                    // They follow redirects: each hop is checked there, whatever way it goes from there on.
                    let plain = url.scheme() == "http";
                    let mut rights = Rights::new(inside, plain);
                    if root.vcs == Kind::Fossil {
                        rights = rights.carried();
                    }
                    self.relay().await?.url(rights)
                };
                self.over_http(&mut way, &url, proxy, pinned, grant.as_ref())
                    .await?;
            }
            scheme if is_ssh(scheme) => {
                let key = grant.as_ref().and_then(Grant::ssh);
                let address = answering(&url, pinned.as_deref()).await;
                let command = ssh_command(&url, address, key, root.credentials);
                way.env.push(("GIT_SSH_COMMAND".to_owned(), command));
            }
            // Nothing but the address itself can be told to these programs.
            _ => {
                if let Some(address) = answering(&url, pinned.as_deref()).await {
                    way.url = with_address(&url, address);
                }
            }
        }
        way.grant = grant;
        Ok(way)
    }

    async fn over_http(
        &self,
        way: &mut Way,
        url: &Url,
        proxy: String,
        pinned: Option<Vec<IpAddr>>,
        grant: Option<&Grant>,
    ) -> Result<(), DirectError> {
        way.authorities.clone_from(&self.egress.network().ca_pem);
        let mut config = |key: &str, value: String| way.config.push((key.to_owned(), value));
        config("http.proxy", proxy);
        let host = url.host_str().unwrap_or("");
        let port = url.port_or_known_default().unwrap_or(443);
        if let Some(addresses) = pinned
            && !is_literal(host)
        {
            let addresses: Vec<String> = addresses.iter().map(bracketed).collect();
            config(
                "http.curloptResolve",
                format!("{host}:{port}:{}", addresses.join(",")),
            );
        }
        if let Some(file) = self.certificates().await? {
            config("http.sslCAInfo", file.display().to_string());
            config("http.proxySSLCAInfo", file.display().to_string());
            if self.egress.network().ca_only {
                // Else the system's folder of certificates would count beside the file.
                let none = file.with_file_name("no-certificates");
                config("http.sslCAPath", none.display().to_string());
            }
        }
        let Some(grant) = grant else {
            return Ok(());
        };
        if let Some((name, value)) = grant.header() {
            // For this origin alone, though no redirect is followed either.
            let key = format!("http.{}://{host}:{port}/.extraHeader", url.scheme());
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            config(&key, format!("{name}: {value}"));
        }
        if let Some(files) = grant.client_certificate() {
            config("http.sslCert", files.cert.display().to_string());
            config("http.sslKey", files.key.display().to_string());
        }
        Ok(())
    }

    /// The proxy that checks each connection.
    async fn relay(&self) -> Result<&Relay, DirectError> {
        let start = || Relay::start(self.egress.clone());
        let relay = self.relay.get_or_try_init(start).await;
        relay.map_err(|error| DirectError {
            kind: ErrorKind::Overloaded,
            text: format!("the proxy for version control cannot be started: {error}"),
            hint: None,
        })
    }

    /// The file of certificates that children trust; none if the system's own will do.
    async fn certificates(&self) -> Result<Option<PathBuf>, DirectError> {
        let Some(pem) = &self.egress.network().ca_pem else {
            return Ok(None);
        };
        let mut kept = self.certificates.lock().await;
        let (folder, pem, known) = (self.folder.clone(), pem.clone(), kept.clone());
        let only = self.egress.network().ca_only;
        // The folder is one that an administrator may empty, or a disk damage, at any time.
        let written = tokio::task::spawn_blocking(move || match known {
            Some(known) if known.is_unchanged() => Ok(known),
            _ => Certificates::write(&folder, &pem, only),
        });
        let failed = |error: String| DirectError {
            kind: ErrorKind::Disk,
            text: format!("the certificates for version control: {error}"),
            hint: Some("check the data folder: free space, permissions".to_owned()),
        };
        match written.await {
            Ok(Ok(written)) => Ok(Some(kept.insert(written).path.clone())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Where a git server that redirects wants to be asked; `None` if it does not redirect. Programs follow no redirect,
    /// since nobody would check the next address. Another host gets the credential that is its own, if the module is
    /// `ours`: anybody could have our repositories there read to him by a redirect else.
    pub(crate) async fn moved(&self, root: &Root, ours: bool) -> Result<Option<Root>, DirectError> {
        const REFS: &str = "/info/refs";
        let what = format!("the repository {}", root.url);
        let Ok(old) = root.url.parse::<Url>() else {
            return Ok(None);
        };
        if !matches!(old.scheme(), "http" | "https") {
            return Ok(None);
        }
        let mut url = old.clone();
        url.set_path(&format!("{}{REFS}", old.path().trim_end_matches('/')));
        url.set_query(Some("service=git-upload-pack"));
        let asked = url.clone();
        let ask = Ask {
            url,
            timeout: WITHIN,
            plain_http: old.scheme() == "http",
            credentials: root.credentials,
        };
        let answer = self
            .egress
            .open(ask)
            .await
            .map_err(|error| from_egress(&what, error))?;
        let mut new = answer.url().clone();
        let base = match new.path().strip_suffix(REFS) {
            // What it says there is found out there.
            Some(base) if new != asked => base.to_owned(),
            _ => return Ok(None),
        };
        if self.egress.is_internal(&new) && !self.egress.is_internal(&old) {
            return Err(refused(format!("{what} redirects to an internal host")));
        }
        new.set_path(&base);
        new.set_query(None);
        Ok(Some(Root {
            credentials: root.credentials && (ours || new.origin() == old.origin()),
            url: new.to_string(),
            ..root.clone()
        }))
    }
}

/// The first of several checked addresses that takes a connection, for programs that can be told one only; the first of
/// all if none does, whose failure they then tell.
async fn answering(url: &Url, checked: Option<&[IpAddr]>) -> Option<IpAddr> {
    let checked = checked?;
    let port = egress::port_of(url);
    if checked.len() > 1 {
        for address in checked.iter().take(MAX_ADDRESSES) {
            let connected = TcpStream::connect((*address, port));
            if let Ok(Ok(_)) = tokio::time::timeout(CONNECT_WITHIN, connected).await {
                return Some(*address);
            }
        }
    }
    checked.first().copied()
}

/// One command for ssh: no questions, no other hosts, only the key that is meant.
fn ssh_command(url: &Url, pinned: Option<IpAddr>, key: Option<&SshKey>, own_keys: bool) -> String {
    let mut options = vec![
        "BatchMode=yes".to_owned(),
        "ControlMaster=no".to_owned(),
        "ControlPath=none".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "ForwardAgent=no".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        "PermitLocalCommand=no".to_owned(),
        format!("ConnectTimeout={SSH_CONNECT_SECONDS}"),
        "ServerAliveInterval=15".to_owned(),
    ];
    let host = url.host_str().unwrap_or("");
    if let Some(address) = pinned
        && !is_literal(host)
    {
        options.push(format!("HostName={address}"));
        // The server's key is still that of the name.
        let alias = match url.port().filter(|port| *port != 22) {
            Some(port) => format!("[{host}]:{port}"),
            None => host.to_owned(),
        };
        options.push(format!("HostKeyAlias={alias}"));
        // Whatever the user's own settings would do with the name.
        options.push("ProxyCommand=none".to_owned());
        options.push("ProxyJump=none".to_owned());
    }
    match key {
        Some(key) => {
            options.push(format!("IdentityFile={}", escaped(&key.key)));
            options.push("IdentitiesOnly=yes".to_owned());
            options.push("IdentityAgent=none".to_owned());
            if let Some(known) = &key.known_hosts {
                options.push(format!("UserKnownHostsFile={}", escaped(known)));
                options.push("GlobalKnownHostsFile=/dev/null".to_owned());
            }
            if let (Some(user), "") = (&key.username, url.username()) {
                options.push(format!("User={user}"));
            }
        }
        // A repository that is not to be asked with our name.
        None if !own_keys => {
            options.push("IdentityFile=none".to_owned());
            options.push("IdentitiesOnly=yes".to_owned());
            options.push("IdentityAgent=none".to_owned());
        }
        None => {}
    }
    let options: Vec<String> = options
        .iter()
        .map(|option| format!("-o {}", quoted(option)))
        .collect();
    format!("ssh {}", options.join(" "))
}

/// A path in one of ssh's options: in quotes, with `%` as it stands.
fn escaped(path: &Path) -> String {
    let path = path.display().to_string();
    format!("\"{}\"", path.replace('%', "%%"))
}

/// A word for the shell that runs `GIT_SSH_COMMAND`.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A URL with an address in place of its host.
fn with_address(url: &Url, address: IpAddr) -> String {
    let mut url = url.clone();
    // Fails only for URLs that have no host.
    let _ = url.set_host(Some(&bracketed(&address)));
    url.to_string()
}

fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn is_literal(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

fn refused(text: String) -> DirectError {
    DirectError {
        kind: ErrorKind::Refused,
        text,
        hint: None,
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach")
            .field("egress", &self.egress)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way")
            .field("url", &self.url)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
