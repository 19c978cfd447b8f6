//! A Redis.

use tempfile::TempDir;

use crate::tls::Pem;

use super::INSTALL;
use super::process::{Ready, Recipe, Service, find, text};

/// A Redis server. It is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    service: Service,
    scheme: &'static str,
    _folder: TempDir,
}

impl Redis {
    /// Starts an empty one and waits until it is ready.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it does not start.
    pub async fn start() -> Redis {
        Redis::serving(None).await
    }

    /// The same, and it speaks TLS alone.
    ///
    /// # Panics
    /// As [`start`](Redis::start).
    pub async fn start_tls(pem: &Pem) -> Redis {
        Redis::serving(Some(pem)).await
    }

    async fn serving(pem: Option<&Pem>) -> Redis {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let program = find("redis-server", &[]);
        let program = program.unwrap_or_else(|| panic!("redis-server is missing: {INSTALL}"));
        let (program, dir) = (text(&program), text(folder.path()));
        // What it acknowledged is with the system, and so there again after `kill` and `restart`.
        let tls = match pem {
            None => String::new(),
            Some(pem) => {
                let (cert, key) = (format!("{dir}/cert.pem"), format!("{dir}/key.pem"));
                std::fs::write(&cert, &pem.cert).expect("the certificate can be written");
                std::fs::write(&key, &pem.key).expect("the key can be written");
                format!(
                    " --port 0 --tls-auth-clients no --tls-cert-file {cert} --tls-key-file {key}"
                )
            }
        };
        let options =
            format!("--bind 127.0.0.1 --save --appendonly yes --appendfsync no --dir {dir}{tls}");
        let port_option = if pem.is_some() {
            "--tls-port"
        } else {
            "--port"
        };
        let recipe = Recipe {
            name: "redis-server",
            command: Box::new(move |port| {
                let mut command = vec![program.clone(), port_option.to_owned(), port.to_string()];
                for option in options.split(' ') {
                    command.push(option.to_owned());
                    // An empty list of times to save at.
                    if option == "--save" {
                        command.push(String::new());
                    }
                }
                command
            }),
            env: Vec::new(),
            ready: Ready::Says("Ready to accept connections"),
        };
        Redis {
            service: Service::start(recipe).await,
            scheme: if pem.is_some() { "rediss" } else { "redis" },
            _folder: folder,
        }
    }

    /// `redis://127.0.0.1:<port>`, or `rediss://…`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr())
    }
}

service_methods!(Redis);
