//! A Redis.

use tempfile::TempDir;

use super::INSTALL;
use super::process::{Ready, Recipe, Service, find, text};

/// A Redis server. It is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    service: Service,
    _folder: TempDir,
}

impl Redis {
    /// Starts an empty one and waits until it is ready.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it does not start.
    pub async fn start() -> Redis {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let program = find("redis-server", &[]);
        let program = program.unwrap_or_else(|| panic!("redis-server is missing: {INSTALL}"));
        let (program, dir) = (text(&program), text(folder.path()));
        // What it acknowledged is with the system, and so there again after `kill` and `restart`.
        let options =
            format!("--bind 127.0.0.1 --save --appendonly yes --appendfsync no --dir {dir}");
        let recipe = Recipe {
            name: "redis-server",
            command: Box::new(move |port| {
                let mut command = vec![program.clone(), "--port".to_owned(), port.to_string()];
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
            _folder: folder,
        }
    }

    /// `redis://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }
}

service_methods!(Redis);
