//! Whether a repository answers at a URL, asked by its system's program: for schemes that HTTP cannot tell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::Url;

use crate::bzr::BzrRepository;
use crate::discover::{Kind, Probe, Root};
use crate::git::answers as git_answers;
use crate::hg::HgRepository;
use crate::places::Places;
use crate::reach::{Reach, Way};
use crate::svn::SvnRepository;
use crate::{DirectError, DirectSettings, ErrorKind};

/// Longest wait for an answer.
const WITHIN: Duration = Duration::from_secs(15);
/// Most probes at once: they have places of their own, since those who wait for them may hold one of the others.
const PLACES: usize = 4;

/// The probe by programs.
pub(crate) fn by_program(settings: &DirectSettings, reach: Reach) -> Probe {
    let places = Places::new(settings.max_processes.min(PLACES), WITHIN);
    let folder = settings.folder.clone();
    Arc::new(move |vcs, url| {
        let (places, folder, reach) = (places.clone(), folder.clone(), reach.clone());
        async move {
            let _place = places.enter(Some(url.as_str())).await?;
            let way = reach.way(&root(vcs, &url)).await?;
            match ask(vcs, &folder, way).await {
                Ok(()) => Ok(true),
                // Nobody speaks that there.
                Err(error) if error.kind == ErrorKind::NotFound || nobody(&error) => Ok(false),
                Err(error) => Err(error),
            }
        }
        .boxed()
    })
}

fn root(vcs: Kind, url: &Url) -> Root {
    Root {
        prefix: String::new(),
        vcs,
        url: url.to_string(),
        subdir: String::new(),
        credentials: true,
    }
}

async fn ask(vcs: Kind, folder: &Path, way: Way) -> Result<(), DirectError> {
    let made: PathBuf = folder.to_owned();
    crate::git::mirror::blocking(move || std::fs::create_dir_all(made)).await?;
    match vcs {
        Kind::Git => git_answers(folder, &way, WITHIN).await,
        Kind::Hg => HgRepository::answers(folder, way, WITHIN).await,
        Kind::Svn => SvnRepository::new(folder, way, WITHIN, 0)?.answers().await,
        Kind::Bzr => BzrRepository::answers(way, folder.to_owned(), WITHIN).await,
        // Neither can be asked whether it is there.
        Kind::Fossil | Kind::Mod => Ok(()),
    }
}

/// Whether the host answered that nobody listens at that port, which is no outage of a repository.
fn nobody(error: &DirectError) -> bool {
    error.kind == ErrorKind::Unavailable && error.text.to_lowercase().contains("connection refused")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_answers() {
        let dir = tempfile::tempdir().unwrap();
        let settings = DirectSettings::new(dir.path().join("mirrors"));
        let network = egress::NetworkSettings {
            internal_hosts: vec!["127.0.0.1".to_owned()],
            ..egress::NetworkSettings::default()
        };
        let egress = egress::Egress::new(network, egress::Credentials::default());
        let probe = by_program(&settings, Reach::new(egress, settings.folder.clone()));
        // A server for one connection at a time, as inetd would have it.
        let made = std::process::Command::new("svnadmin")
            .args(["create", "repo"])
            .current_dir(dir.path())
            .status();
        assert!(made.unwrap().success());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = dir.path().to_owned();
        let server = tokio::spawn(async move {
            let mut children = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                let output = stream.try_clone().unwrap();
                let child = tokio::process::Command::new("svnserve")
                    .args(["-i", "-r"])
                    .arg(&folder)
                    .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(
                        stream,
                    )))
                    .stdout(std::process::Stdio::from(std::os::fd::OwnedFd::from(
                        output,
                    )))
                    .kill_on_drop(true)
                    .spawn();
                children.push(child.unwrap());
            }
        });
        let url = |text: String| text.parse::<Url>().unwrap();
        let svn = |path: &str| url(format!("svn://127.0.0.1:{port}/{path}"));
        assert!(probe(Kind::Svn, svn("repo")).await.unwrap());
        assert!(!probe(Kind::Svn, svn("none")).await.unwrap());
        server.abort();
        let closed = |scheme: &str| url(format!("{scheme}://127.0.0.1:1/x"));
        assert!(!probe(Kind::Svn, closed("svn")).await.unwrap());
        assert!(!probe(Kind::Git, closed("git")).await.unwrap());
        assert!(!probe(Kind::Git, closed("ssh")).await.unwrap());
        assert!(!probe(Kind::Hg, closed("http")).await.unwrap());
        assert!(!probe(Kind::Bzr, closed("http")).await.unwrap());
    }
}
