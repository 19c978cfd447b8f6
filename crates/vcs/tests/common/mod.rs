//! A forge and the program under test in front of it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;

use egress::credential::SshKey;
use egress::{Credential, Credentials, Egress, Hidden, Kind, NetworkSettings, Secret};
use forge::{Built, Forge, History, change};
use gomod::pattern::Patterns;
use gomod::{ModulePath, Version};
use tempfile::TempDir;
use vcs::{Direct, DirectError, DirectSettings, Govcs, Revision};

/// A forge, and a folder for mirrors.
pub(crate) struct Lab {
    pub(crate) forge: Forge,
    pub(crate) folder: TempDir,
}

impl Lab {
    pub(crate) async fn start() -> Lab {
        Lab {
            forge: Forge::start().await,
            folder: TempDir::new().unwrap(),
        }
    }

    /// Where the mirrors are.
    pub(crate) fn mirrors(&self) -> PathBuf {
        self.folder.path().join("mirrors")
    }

    /// Everything is allowed; plain http for the modules that the real `go` is allowed it for too.
    pub(crate) fn settings(&self) -> DirectSettings {
        let mut settings = DirectSettings::new(self.mirrors());
        settings.govcs = Govcs::parse("*:all").unwrap();
        let insecure = "plain.golden.test/*,*.golden.test/plain/*";
        settings.insecure = Patterns::parse(insecure).unwrap();
        // Only what is ours may lead to hosts inside, and gets the credentials of another host than its page's.
        let private = "plain.golden.test/*,golden.test/over*,golden.test/private,corp.test/*";
        settings.private = Patterns::parse(private).unwrap();
        settings
    }

    /// The forge's proxy for all names, and its certificate authority alone.
    pub(crate) fn network(&self) -> NetworkSettings {
        NetworkSettings {
            proxy: Some(self.forge.proxy()),
            no_proxy: vec!["127.0.0.1".to_owned()],
            internal_hosts: vec!["127.0.0.1".to_owned()],
            ..self.without_proxy()
        }
    }

    /// No proxy, and no host that may be on loopback.
    pub(crate) fn without_proxy(&self) -> NetworkSettings {
        NetworkSettings {
            ca_pem: Some(self.forge.ca_pem().as_bytes().to_vec()),
            ca_only: true,
            ..NetworkSettings::default()
        }
    }

    /// The key that the forge's ssh server knows.
    pub(crate) fn ssh_credential(&self) -> Credential {
        Credential {
            matches: self.forge.ssh().parse().unwrap(),
            kind: Kind::Ssh(SshKey {
                key: self.forge.ssh_key().to_owned(),
                known_hosts: Some(self.forge.known_hosts().to_owned()),
                username: None,
            }),
        }
    }

    /// With [`settings`](Lab::settings), [`network`](Lab::network) and the ssh key.
    pub(crate) fn direct(&self) -> Arc<Direct> {
        let credentials = Credentials::new(vec![self.ssh_credential()]);
        Direct::new(self.settings(), Egress::new(self.network(), credentials))
    }
}

pub(crate) fn basic(matches: &str, username: &str, password: &str) -> Credential {
    Credential {
        matches: matches.parse().unwrap(),
        kind: Kind::Basic {
            username: username.to_owned(),
            password: Secret::Plain(Hidden::new(password)),
        },
    }
}

pub(crate) fn module(path: &str) -> ModulePath {
    ModulePath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn version(text: &str) -> Version {
    Version::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(crate) async fn list(direct: &Arc<Direct>, path: &str) -> Result<Vec<String>, DirectError> {
    let versions = direct.versions(&module(path)).await?;
    Ok(versions.iter().map(|v| v.as_str().to_owned()).collect())
}

pub(crate) async fn info(
    direct: &Arc<Direct>,
    path: &str,
    query: &str,
) -> Result<Revision, DirectError> {
    if query == "latest" {
        direct.latest(&module(path)).await
    } else {
        direct.revision(&module(path), query).await
    }
}

pub(crate) async fn go_mod(
    direct: &Arc<Direct>,
    path: &str,
    at: &str,
) -> Result<Vec<u8>, DirectError> {
    let bytes = direct.go_mod(&module(path), &version(at), None).await?;
    Ok(bytes.to_vec())
}

pub(crate) async fn zip(
    direct: &Arc<Direct>,
    path: &str,
    at: &str,
) -> Result<Vec<u8>, DirectError> {
    let mut stream = direct.zip(&module(path), &version(at), None).await?;
    let mut all = Vec::new();
    while let Some(part) = stream.next().await {
        all.extend_from_slice(&part?);
    }
    Ok(all)
}

/// The module that most faults happen to, and where its repository is.
pub(crate) const MODULE: &str = "golden.test/small";
pub(crate) const URL: &str = "git.golden.test/small.git";

/// Three commits, the first two of them tagged.
pub(crate) fn small() -> History {
    let mut history = History::new();
    history.commit("main", "one", [change::file("go.mod", "module x.test\n")]);
    history.tag("v1.0.0", "one");
    history.commit("main", "two", [change::file("a.go", "package a\n")]);
    history.tag("v1.1.0", "two");
    history.commit("main", "three", [change::file("a.go", "package a // 3\n")]);
    history
}

/// Serves a history as [`MODULE`].
pub(crate) fn add(lab: &Lab, history: &History) -> Built {
    lab.forge.import(MODULE, &format!("git https://{URL}"));
    lab.forge.add("small", history)
}
