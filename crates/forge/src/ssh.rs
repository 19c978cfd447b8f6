//! A real `sshd`, run once per connection on a socket that is accepted here, so that there is no port to wait for.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where the server is, and what a client needs.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The client's private key.
    pub(crate) client: PathBuf,
    /// Another key pair's private key, which the server does not know.
    pub(crate) stranger: PathBuf,
    /// A known_hosts file with the server's key.
    pub(crate) known_hosts: PathBuf,
    /// Who may log in: whoever runs the test.
    pub(crate) user: String,
    config: PathBuf,
}

/// Makes the keys and the configuration.
pub(crate) fn prepare(folder: &Path, addr: SocketAddr, repositories: &Path) -> Keys {
    let key = |name: &str| {
        let path = folder.join(name);
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path));
        path
    };
    let (host, client, stranger) = (key("host"), key("client"), key("stranger"));
    let public =
        |path: &Path| fs::read_to_string(path.with_extension("pub")).expect("ssh-keygen wrote it");
    let known_hosts = folder.join("known_hosts");
    let line = format!("[{}]:{} {}", addr.ip(), addr.port(), public(&host));
    fs::write(&known_hosts, line).expect("a file can be written");
    let allowed = folder.join("allowed");
    fs::write(&allowed, public(&client)).expect("a file can be written");
    // The paths that clients name are below the folder of the repositories.
    let command = folder.join("command");
    let script = format!(
        "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in\n\"git-upload-pack '\"*)\n\
         path=${{SSH_ORIGINAL_COMMAND#*\\'}}\nexec git-upload-pack \"{}/${{path%\\'}}\";;\nesac\nexit 1\n",
        repositories.display()
    );
    fs::write(&command, script).expect("a file can be written");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&command, mode).expect("our own file");
    // What many tell everybody before anything else.
    let banner = folder.join("banner");
    let text = "*** Authorised users only. ***\n\nWhat you do here is recorded.\n";
    fs::write(&banner, text).expect("a file can be written");
    let config = folder.join("sshd_config");
    let text = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nForceCommand {}\nBanner {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\n\
         PidFile none\nLogLevel ERROR\n",
        host.display(),
        allowed.display(),
        command.display(),
        banner.display()
    );
    fs::write(&config, text).expect("a file can be written");
    let user = run(Command::new("id").arg("-un"));
    if user == "root" {
        // Where sshd goes to be without rights; distributions make it when they start theirs.
        fs::create_dir_all("/run/sshd").expect("root may");
    }
    Keys {
        client,
        stranger,
        known_hosts,
        user,
        config,
    }
}

/// Accepts connections until it is dropped.
pub(crate) async fn serve(listener: TcpListener, config: PathBuf) {
    let mut children = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                if let Ok(mut child) = start(stream, &config) {
                    children.spawn(async move { child.wait().await });
                }
            }
            Some(_) = children.join_next() => {}
        }
    }
}

fn start(stream: TcpStream, config: &Path) -> std::io::Result<tokio::process::Child> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let output = stream.try_clone()?;
    // sshd wants to be called by its full name.
    tokio::process::Command::new("/usr/sbin/sshd")
        .args(["-i", "-e", "-f"])
        .arg(config)
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

impl Keys {
    pub(crate) fn config(&self) -> PathBuf {
        self.config.clone()
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
