//! A PostgreSQL.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::INSTALL;
use super::process::{Ready, Recipe, Service, find, text};

/// Where Debian has a folder with the programs of each version, which are not on the PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The role, a superuser without a password, and the database.
const NAME: &str = "modgate";

/// The server refuses to be root's.
const SERVER_USER: &str = "postgres";

/// A PostgreSQL server with an empty database. It is killed when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    service: Service,
    _folder: TempDir,
    bin: PathBuf,
}

impl Postgres {
    /// Starts an empty one and waits until it is ready.
    ///
    /// # Panics
    /// If its programs are missing, or it does not start.
    pub async fn start() -> Postgres {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let bin = programs();
        let data = folder.path().join("data");
        let mut as_user = Vec::new();
        if is_root(folder.path()) {
            as_user = [
                "setpriv",
                &format!("--reuid={SERVER_USER}"),
                &format!("--regid={SERVER_USER}"),
                "--clear-groups",
            ]
            .map(str::to_owned)
            .to_vec();
            let id = user_id();
            chown(folder.path(), Some(id), None).expect("root gives a folder to whom it likes");
        }
        let mut initdb = as_user.clone();
        initdb.push(text(&bin.join("initdb")));
        initdb.extend(
            ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"].map(str::to_owned),
        );
        initdb.extend([
            format!("--username={NAME}"),
            format!("--pgdata={}", text(&data)),
        ]);
        execute(initdb).await;

        let pid_file = data.join("postmaster.pid");
        let mut command = as_user;
        command.push(text(&bin.join("postgres")));
        command.extend(["-D".to_owned(), text(&data)]);
        // A process that is killed loses nothing without fsync; only a machine would. Sockets have too short paths.
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "max_connections=200",
        ] {
            command.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let recipe = Recipe {
            name: "postgres",
            command: Box::new(move |port| {
                // The number in it may be another process' by now, and then the server would not start again.
                let _ = std::fs::remove_file(&pid_file);
                let mut command = command.clone();
                command.extend(["-p".to_owned(), port.to_string()]);
                command
            }),
            env: vec![("LC_ALL", "C".to_owned())],
            ready: Ready::Says("database system is ready to accept connections"),
        };
        let postgres = Postgres {
            service: Service::start(recipe).await,
            _folder: folder,
            bin,
        };
        postgres.create_database(NAME).await;
        postgres
    }

    /// `postgres://modgate@127.0.0.1:<port>/modgate`.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The URL of another database of this server; see [`create_database`](Postgres::create_database).
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}@{}/{database}", self.addr())
    }

    /// Makes one more empty database, which is quicker than another server.
    ///
    /// # Panics
    /// If there is one of that name.
    pub async fn create_database(&self, name: &str) {
        let addr = self.addr();
        let createdb = [
            text(&self.bin.join("createdb")),
            format!("--host={}", addr.ip()),
            format!("--port={}", addr.port()),
            format!("--username={NAME}"),
            name.to_owned(),
        ];
        execute(createdb.to_vec()).await;
    }
}

impl Postgres {
    /// Runs statements as the owner of the server, each by itself.
    ///
    /// # Panics
    /// If one fails.
    pub async fn run_sql(&self, statements: &[&str]) {
        let mut psql = vec![
            text(&self.bin.join("psql")),
            format!("--dbname={}", self.url()),
        ];
        psql.extend(
            statements
                .iter()
                .map(|statement| format!("--command={statement}")),
        );
        execute(psql).await;
    }
}

service_methods!(Postgres);

/// The folder with the programs of the server.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    // The newest first.
    folders.sort_unstable_by(|a, b| b.cmp(a));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let postgres = find("postgres", &folders);
    let postgres = postgres.unwrap_or_else(|| panic!("postgres is missing: {INSTALL}"));
    let folder = postgres.parent().expect("a program lies in a folder");
    folder.to_owned()
}

/// Whether the test is root's, and so is what it makes.
fn is_root(made: &Path) -> bool {
    made.metadata().expect("it was just made").uid() == 0
}

fn user_id() -> u32 {
    let output = Command::new("id").args(["-u", SERVER_USER]).output();
    let output = output.expect("id can be run");
    let id = String::from_utf8_lossy(&output.stdout);
    let id = id.trim().parse();
    id.unwrap_or_else(|_| panic!("there is no user {SERVER_USER}: {INSTALL}"))
}

/// Runs a command to its end.
async fn execute(command: Vec<String>) {
    let output = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .env("LC_ALL", "C")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
