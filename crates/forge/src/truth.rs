//! What the real `go` says in direct mode: the truth that direct fetch is measured against.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Semaphore;
use zip::ZipArchive;

use crate::{Fault, Forge, Pages};

/// How long one run of `go` may take.
const LIMIT: Duration = Duration::from_mins(10);

/// What a query resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The canonical version.
    pub version: String,
    /// As RFC 3339.
    pub time: Option<String>,
    /// As JSON.
    pub origin: Option<serde_json::Value>,
}

/// What can be downloaded of a canonical version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifact {
    /// The bytes of `.mod`.
    pub go_mod: Option<Vec<u8>>,
    /// The `h1:` of the zip.
    pub sum: Option<String>,
    /// Why something is missing.
    pub error: String,
}

/// The answers for a set of questions.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// By module.
    pub versions: BTreeMap<String, Result<Vec<String>, String>>,
    /// By module and query.
    pub revisions: BTreeMap<(String, String), Result<Revision, String>>,
    /// Whether a refused revision is one that `go` takes for absent, and so goes on to the next prefix, or an error that
    /// ends its search. Only where it can be told.
    pub absent: BTreeMap<(String, String), bool>,
    /// By module and canonical version.
    pub artifacts: BTreeMap<(String, String), Artifact>,
}

/// The `h1:` of a zip, worked out here once more so that the program under test is not asked about itself.
///
/// # Panics
/// If it is no zip.
pub fn h1(bytes: Vec<u8>) -> String {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    let mut lines = BTreeMap::new();
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).expect("an entry that can be read");
        let name = entry.name().expect("a plain name").into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("it can be unpacked");
        let line = format!("{}  {name}\n", hex::encode(Sha256::digest(&content)));
        let before = lines.insert(name, line);
        assert!(before.is_none(), "an entry is there twice: {before:?}");
    }
    let text: String = lines.into_values().collect();
    let hash = Sha256::digest(text.as_bytes());
    format!("h1:{}", BASE64_STANDARD.encode(hash))
}

/// The questions about the modules of one repository.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    /// The module, and what is asked of it. `latest` is a query like others.
    pub modules: Vec<(String, Vec<String>)>,
    /// Whether the lists are not asked for.
    pub no_lists: bool,
}

/// The `go` of the PATH in direct mode, with the forge as the whole network.
#[derive(Debug, Clone)]
pub struct Go {
    env: BTreeMap<&'static str, OsString>,
    /// How many run at once.
    slots: Arc<Semaphore>,
    /// Hosts whose root is an error.
    judged: Vec<String>,
}

/// The name of a repository that is out of order.
const JUDGE: &str = "out-of-order";

impl Go {
    /// With the proxy and the certificate authority of a forge.
    pub fn new(forge: &Forge) -> Go {
        let mut go = Go {
            env: BTreeMap::new(),
            slots: Arc::new(Semaphore::new(4)),
            judged: Vec::new(),
        };
        for (key, value) in [
            ("GOENV", "off"),
            ("GOPROXY", "direct"),
            ("GOSUMDB", "off"),
            ("GOVCS", "*:all"),
            ("GOWORK", "off"),
            ("GOFLAGS", "-modcacherw"),
            ("GOTOOLCHAIN", "local"),
            ("GOTELEMETRY", "off"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            // Plain http is for what is asked for so.
            ("GOINSECURE", "plain.golden.test/*,*.golden.test/plain/*"),
        ] {
            go.set(key, value);
        }
        for key in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
            go.set(key, forge.proxy());
        }
        for key in ["NO_PROXY", "no_proxy"] {
            go.set(key, "127.0.0.1");
        }
        go.set("SSL_CERT_FILE", forge.ca_file());
        go.set("GIT_SSL_CAINFO", forge.ca_file());
        go.set("HGRCPATH", forge.hgrc());
        // Neither does anything without somebody to be.
        go.set("USER", "ann");
        go.set("BRZ_LOG", "/dev/null");
        let ssh = format!(
            "ssh -i {} -o UserKnownHostsFile={} -o BatchMode=yes -o IdentitiesOnly=yes",
            forge.ssh_key().display(),
            forge.known_hosts().display()
        );
        go.set("GIT_SSH_COMMAND", ssh);
        if let Some(path) = std::env::var_os("PATH") {
            go.set("PATH", path);
        }
        go
    }

    /// Sets a variable, in place of the one this type sets if it does.
    pub fn set(&mut self, key: &'static str, value: impl Into<OsString>) {
        self.env.insert(key, value.into());
    }

    /// Asks everything with a module cache that is empty at first.
    ///
    /// # Panics
    /// If `go` cannot be run.
    pub async fn ask(&self, questions: &Questions) -> Truth {
        let _slot = self.slots.acquire().await.expect("it is never closed");
        let home = TempDir::new().expect("a temporary folder can be made");
        let mut truth = Truth::default();
        let pairs: Vec<(String, String)> = questions
            .modules
            .iter()
            .flat_map(|(module, queries)| queries.iter().map(|q| (module.clone(), q.clone())))
            .collect();
        let asked: Vec<String> = pairs.iter().map(|(m, q)| format!("{m}@{q}")).collect();
        let args = ["list", "-m", "-e", "-json"];
        for (pair, said) in pairs.into_iter().zip(self.each(&home, &args, &asked).await) {
            truth.revisions.insert(pair, said.and_then(Said::revision));
        }
        let refused = truth.revisions.iter().filter(|(_, said)| said.is_err());
        for (pair, _) in refused {
            if let Some(absent) = self.absent(&home, &pair.0, &pair.1).await {
                truth.absent.insert(pair.clone(), absent);
            }
        }
        let versions: BTreeSet<(String, String)> = truth
            .revisions
            .iter()
            .filter_map(|((module, _), said)| {
                Some((module.clone(), said.as_ref().ok()?.version.clone()))
            })
            .collect();
        let asked: Vec<String> = versions.iter().map(|(m, v)| format!("{m}@{v}")).collect();
        let args = ["mod", "download", "-json"];
        for (pair, said) in versions
            .into_iter()
            .zip(self.each(&home, &args, &asked).await)
        {
            let artifact = match said {
                Ok(said) => Artifact {
                    go_mod: said.go_mod.and_then(|path| std::fs::read(path).ok()),
                    sum: said.sum,
                    error: said.error.map(|error| error.0).unwrap_or_default(),
                },
                Err(error) => Artifact {
                    error,
                    ..Artifact::default()
                },
            };
            truth.artifacts.insert(pair, artifact);
        }
        // Last, since it makes `go` fetch tags at times, and a commit that it has is given without the reference by
        // which it would be found.
        let modules: Vec<String> = questions.modules.iter().map(|(m, _)| m.clone()).collect();
        let args = ["list", "-m", "-e", "-json", "-versions", "-retracted"];
        let listed: &[String] = if questions.no_lists { &[] } else { &modules };
        for (module, said) in listed.iter().zip(self.each(&home, &args, listed).await) {
            let said = said.and_then(|said| match said.error {
                Some(error) => Err(error.0),
                None => Ok(said.versions),
            });
            truth.versions.insert(module.clone(), said);
        }
        truth
    }

    /// Whether `go` goes on after a refusal. It looks for a package in all prefixes of its path; the shortest of them, by
    /// [`Go::judge`], is an error that is told if all longer ones are absent.
    async fn absent(&self, home: &TempDir, module: &str, query: &str) -> Option<bool> {
        let (host, rest) = module.split_once('/')?;
        if !self.judged.iter().any(|judged| judged == host) || rest.is_empty() {
            return None;
        }
        std::fs::create_dir_all(home.path().join("work")).ok()?;
        let go_mod = home.path().join("work/go.mod");
        std::fs::write(&go_mod, "module judge.test/judge\n\ngo 1.21\n").ok()?;
        let asked = [format!("{module}@{query}")];
        let (_, error) = self.run(home, &["get"], &asked).await;
        std::fs::remove_file(go_mod).ok()?;
        let _ = std::fs::remove_file(home.path().join("work/go.sum"));
        Some(error.contains(JUDGE) || error.contains("does not contain package"))
    }

    /// Makes the roots of these hosts be repositories that are out of order, by which [`Truth::absent`] is told.
    pub fn judge(&mut self, forge: &Forge, hosts: &[&str]) {
        let path = format!("git.golden.test/{JUDGE}.git");
        forge.fault(&path, Some(Fault::Status(500)));
        for host in hosts {
            let tag = format!("<meta name=\"go-import\" content=\"{host} git https://{path}\">");
            let page = Pages {
                body: tag,
                status: 200,
                below: false,
            };
            forge.page(&format!("{host}/"), page);
            self.judged.push((*host).to_owned());
        }
    }

    /// Runs `go` with all arguments at once. Where it refuses the whole command line because of one, each gets a run of
    /// its own. The answers are in the order of the arguments.
    async fn each(
        &self,
        home: &TempDir,
        args: &[&str],
        asked: &[String],
    ) -> Vec<Result<Said, String>> {
        if asked.is_empty() {
            return Vec::new();
        }
        let (said, error) = self.run(home, args, asked).await;
        if said.len() == asked.len() {
            return said.into_iter().map(Ok).collect();
        }
        if asked.len() == 1 {
            return vec![Err(error)];
        }
        let mut all = Vec::new();
        for one in asked {
            let (said, error) = self.run(home, args, std::slice::from_ref(one)).await;
            all.push(said.into_iter().next().ok_or(error));
        }
        all
    }

    async fn run(&self, home: &TempDir, args: &[&str], asked: &[String]) -> (Vec<Said>, String) {
        let work = home.path().join("work");
        std::fs::create_dir_all(&work).expect("a folder can be made");
        let mut command = Command::new("go");
        command
            .args(args)
            .args(asked)
            .current_dir(&work)
            .env_clear();
        for (key, folder) in [
            ("HOME", "home"),
            ("GOPATH", "gopath"),
            ("GOMODCACHE", "modcache"),
            ("GOCACHE", "cache"),
        ] {
            command.env(key, home.path().join(folder));
        }
        let running = command
            .envs(&self.env)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(LIMIT, running).await;
        let output = output.unwrap_or_else(|_| panic!("go {args:?} {asked:?} hangs"));
        let output = output.expect("go is installed");
        let said = serde_json::Deserializer::from_slice(&output.stdout)
            .into_iter::<Said>()
            .map(|said| said.unwrap_or_else(|error| panic!("go {args:?} {asked:?}: {error}")))
            .collect();
        (said, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What `go list -m -json` and `go mod download -json` say of one module.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    #[serde(default)]
    version: String,
    #[serde(default)]
    versions: Vec<String>,
    time: Option<String>,
    origin: Option<serde_json::Value>,
    go_mod: Option<PathBuf>,
    sum: Option<String>,
    error: Option<Failed>,
}

impl Said {
    fn revision(self) -> Result<Revision, String> {
        match self.error {
            // The version was found, and its go.mod or what else was looked at was not; only the latter is an error.
            Some(error) if self.time.is_none() => Err(error.0),
            _ => Ok(Revision {
                version: self.version,
                time: self.time,
                origin: self.origin,
            }),
        }
    }
}

/// The two commands write errors in different ways.
#[derive(Debug)]
struct Failed(String);

impl<'de> Deserialize<'de> for Failed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Failed, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Object {
                #[serde(rename = "Err")]
                err: String,
            },
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) | Either::Object { err: text } => Failed(text),
        })
    }
}
