//! How child processes reach a repository: what the network and its credentials ask for, by environment alone.

use crate::DirectError;
use crate::discover::Root;

/// What is the same for all repositories.
///
/// This is where network settings and credentials come in: [`Reach::way`] is asked before each use of the network.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Certificates of authorities that are trusted instead of the system's, as a PEM file.
    pub ca_file: Option<std::path::PathBuf>,
    /// The command for ssh, as `GIT_SSH_COMMAND` has it.
    pub ssh_command: Option<String>,
    /// The forward proxy for http and https.
    pub proxy: Option<String>,
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
    /// The name of the credential that is used, for errors.
    pub(crate) credential: Option<String>,
}

impl Reach {
    /// The way to the repository of `root`.
    #[expect(
        clippy::unused_async,
        reason = "credentials and addresses are looked up here"
    )]
    pub(crate) async fn way(&self, root: &Root) -> Result<Way, DirectError> {
        let mut way = Way {
            url: root.url.clone(),
            ..Way::default()
        };
        let mut config = |key: &str, value: String| way.config.push((key.to_owned(), value));
        if let Some(file) = &self.ca_file {
            config("http.sslCAInfo", file.display().to_string());
        }
        if let Some(proxy) = &self.proxy {
            config("http.proxy", proxy.clone());
        }
        let ssh = self.ssh_command.as_deref().unwrap_or("ssh");
        let ssh = format!("{ssh} -o ControlMaster=no -o BatchMode=yes");
        way.env.push(("GIT_SSH_COMMAND".to_owned(), ssh));
        Ok(way)
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way")
            .field("url", &self.url)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}
