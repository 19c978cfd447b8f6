//! A forge: repositories, pages and servers, gone when it is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::history::{Built, History};
use crate::proxy::Proxy;
use crate::site::{Fault, Pages, Site};
use crate::socks::Socks;
use crate::{http, proxy, socks, ssh, tls};

/// How the proxy or a part of the forge is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: &'static str,
    /// The secret.
    pub secret: &'static str,
}

impl Login {
    fn text(self) -> String {
        format!("{}:{}", self.user, self.secret)
    }
}

/// The servers, and the folder of their repositories.
///
/// A repository `name` is at `https://git.golden.test/name.git` behind the proxy, and at `127.0.0.1/name.git` on the
/// ports; at any other address by [`alias`](Forge::alias).
#[derive(Debug)]
pub struct Forge {
    folder: TempDir,
    site: Arc<Site>,
    https: SocketAddr,
    http: SocketAddr,
    proxy: SocketAddr,
    guarded: SocketAddr,
    socks: SocketAddr,
    strict: SocketAddr,
    ssh: SocketAddr,
    keys: ssh::Keys,
    ca_pem: String,
    /// Ends the servers when it is dropped.
    _servers: JoinSet<()>,
}

impl Forge {
    /// The login of the guarded proxy.
    pub const PROXY_LOGIN: Login = Login {
        user: "outbound",
        secret: "pr0xy-secret",
    };

    /// Starts all servers.
    ///
    /// # Panics
    /// If something it needs is missing: a port, git, an ssh server.
    pub async fn start() -> Forge {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let repositories = folder.path().join("repositories");
        std::fs::create_dir(&repositories).expect("a folder can be made");
        let site = Arc::new(Site::new());
        let made = tls::make().expect("certificates can be made");
        let ca = folder.path().join("ca.pem");
        // What hg is told in place of its configuration.
        let hgrc = format!("[web]\ncacerts = {}\n", ca.display());
        for (name, text) in [
            ("ca.pem", &made.ca_pem),
            ("hgrc", &hgrc),
            ("client.pem", &made.client_pem),
            ("client-key.pem", &made.client_key_pem),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file can be written");
        }
        let mut servers = JoinSet::new();

        let mut secure = Vec::new();
        for acceptor in [made.acceptor, made.strict] {
            let (listener, addr) = listen().await;
            secure.push(addr);
            let site = Arc::clone(&site);
            servers.spawn(accept(listener, move |stream| {
                let (site, acceptor) = (Arc::clone(&site), acceptor.clone());
                async move {
                    // A client that does not trust the certificate, or has none, ends here; it says so itself.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        http::serve(stream, "https", site).await;
                    }
                }
            }));
        }
        let https = secure[0];
        let (listener, plain) = listen().await;
        servers.spawn(accept(listener, {
            let site = Arc::clone(&site);
            move |stream| http::serve(stream, "http", Arc::clone(&site))
        }));
        let mut proxies = Vec::new();
        for login in [None, Some(Forge::PROXY_LOGIN.text())] {
            let (listener, addr) = listen().await;
            proxies.push(addr);
            let site = Arc::clone(&site);
            let shared = Arc::new(Proxy { site, https, login });
            servers.spawn(accept(listener, move |stream| {
                proxy::serve(stream, Arc::clone(&shared))
            }));
        }
        let (listener, socks) = listen().await;
        let shared = Arc::new(Socks {
            site: Arc::clone(&site),
            https,
            http: plain,
            login: Forge::PROXY_LOGIN.text(),
        });
        servers.spawn(accept(listener, move |stream| {
            socks::serve(stream, Arc::clone(&shared))
        }));
        let (listener, addr) = listen().await;
        let keys = ssh::prepare(folder.path(), addr, &repositories);
        servers.spawn(ssh::serve(listener, keys.config()));
        Forge {
            folder,
            site,
            https,
            http: plain,
            proxy: proxies[0],
            guarded: proxies[1],
            socks,
            strict: secure[1],
            ssh: addr,
            keys,
            ca_pem: made.ca_pem,
            _servers: servers,
        }
    }

    /// Makes a repository, and serves it.
    ///
    /// # Panics
    /// If git does not make it.
    pub fn add(&self, name: &str, history: &History) -> Built {
        let built = history.build(&self.repository(name));
        self.serve(name);
        built
    }

    /// Serves the repository of this name, which exists or will.
    pub fn serve(&self, name: &str) {
        for host in ["git.golden.test", "127.0.0.1", "localhost"] {
            self.alias(&format!("{host}/{name}.git"), name);
        }
    }

    /// The folder of a repository.
    pub fn repository(&self, name: &str) -> PathBuf {
        self.folder
            .path()
            .join("repositories")
            .join(format!("{name}.git"))
    }

    /// Serves a repository at another address, `host/path` without a scheme.
    pub fn alias(&self, address: &str, name: &str) {
        self.site.repository(address, &self.repository(name));
    }

    /// Ends [`alias`](Forge::alias), and what [`add`](Forge::add) did of it.
    pub fn forget(&self, address: &str) {
        self.site.forget(address);
    }

    /// A go-import page at `prefix` and below: `prefix vcs url`, and what comes after it.
    pub fn import(&self, prefix: &str, rest: &str) {
        let body = format!(
            "<!DOCTYPE html>\n<html><head><title>x</title>\n<meta name=\"go-import\" content=\"{prefix} {rest}\">\n\
             </head><body>Nothing to see.</body></html>\n"
        );
        self.page(
            prefix,
            Pages {
                body,
                status: 200,
                below: true,
            },
        );
    }

    /// Any page, at `host/path`.
    pub fn page(&self, address: &str, pages: Pages) {
        self.site.page(address, pages);
    }

    /// Any file, at `host/path`.
    pub fn file(&self, address: &str, content: impl Into<Vec<u8>>) {
        self.site.file(address, content.into());
    }

    /// Asks for a Basic login at `host/path` and below.
    pub fn guard(&self, address: &str, login: Login) {
        self.site.login(address, &login.text());
    }

    /// Asks for this at `host/path` and below: the value of the header `Authorization`, or `private-token: VALUE`.
    pub fn guard_by_header(&self, address: &str, header: &str) {
        self.site.login(address, header);
    }

    /// Sets or ends the fault of `host/path` and below. It holds for requests that come after.
    pub fn fault(&self, address: &str, fault: Option<Fault>) {
        self.site.fault(address, fault);
    }

    /// A line for each request so far: method, URL, and who asked.
    pub fn requests(&self) -> Vec<String> {
        self.site.requests()
    }

    /// Waits for a request whose line has this text. One that was there already counts.
    pub async fn asked(&self, text: &str) {
        self.site.asked(text).await;
    }

    /// `https://127.0.0.1:PORT`.
    pub fn https(&self) -> String {
        format!("https://{}", self.https)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// `ssh://USER@127.0.0.1:PORT`; a repository is below it.
    pub fn ssh(&self) -> String {
        format!("ssh://{}@{}", self.keys.user, self.ssh)
    }

    /// The forward proxy that everybody may use.
    pub fn proxy(&self) -> String {
        format!("http://{}", self.proxy)
    }

    /// The forward proxy that wants [`PROXY_LOGIN`](Forge::PROXY_LOGIN), without it.
    pub fn guarded_proxy(&self) -> String {
        format!("http://{}", self.guarded)
    }

    /// The SOCKS5 proxy, which wants [`PROXY_LOGIN`](Forge::PROXY_LOGIN), without scheme and login: `HOST:PORT`.
    pub fn socks(&self) -> String {
        self.socks.to_string()
    }

    /// `https://127.0.0.1:PORT` of the server that wants a certificate of its clients.
    pub fn strict_https(&self) -> String {
        format!("https://{}", self.strict)
    }

    /// The files of a certificate that it knows, and of its key.
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        let file = |name: &str| self.folder.path().join(name);
        (file("client.pem"), file("client-key.pem"))
    }

    /// The certificate of the authority, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A file with [`ca_pem`](Forge::ca_pem).
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A configuration file of hg that trusts the authority alone.
    pub fn hgrc(&self) -> PathBuf {
        self.folder.path().join("hgrc")
    }

    /// The private key that the ssh server knows.
    pub fn ssh_key(&self) -> &Path {
        &self.keys.client
    }

    /// A private key that it does not know.
    pub fn ssh_stranger(&self) -> &Path {
        &self.keys.stranger
    }

    /// The ssh server's host key, as known_hosts has it.
    pub fn known_hosts(&self) -> &Path {
        &self.keys.known_hosts
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

/// Accepts connections until it is dropped; they end with it.
async fn accept<Served>(listener: TcpListener, serve: impl Fn(tokio::net::TcpStream) -> Served)
where
    Served: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
