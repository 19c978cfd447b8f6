//! A service as a process of its own: started until it says that it is ready, paused, killed, started anew.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::family;

/// How long a service may take until it is ready. Machines that build beside their tests are slow.
const START_LIMIT: Duration = Duration::from_mins(1);

/// How soon a service that says nothing of itself is asked again.
const CONNECT_AGAIN: Duration = Duration::from_millis(10);

/// How often another port is tried where the service does not come up on one.
const ATTEMPTS: usize = 5;

/// Runs the command in place of the shell, beside a watcher that kills the group once the test program is gone, however
/// that came: the pipe to it then has an end. (`$0` is the shell's name.)
const WATCHED: &str =
    r#"exec 3<&0; (read -r _ <&3; kill -9 0) >/dev/null 2>&1 & exec "$@" 3<&- </dev/null 2>&1"#;

/// How a service is run on a port.
pub(super) struct Recipe {
    /// Its name in messages.
    pub(super) name: &'static str,
    /// Makes the command.
    pub(super) command: Box<dyn Fn(u16) -> Vec<String> + Send + Sync>,
    /// Variables of its environment.
    pub(super) env: Vec<(&'static str, String)>,
    /// How it is known to be ready.
    pub(super) ready: Ready,
}

/// How a service is known to be ready.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    /// It writes this.
    Says(&'static str),
    /// It accepts connections.
    Accepts,
}

/// A service that runs, or ran until it was killed. It is killed when it is dropped.
pub(super) struct Service {
    recipe: Recipe,
    port: u16,
    running: Option<Running>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.recipe.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

struct Running {
    child: Child,
    /// All it wrote so far; closed when it closes its output.
    said: watch::Receiver<String>,
}

impl Service {
    /// Starts it on a free port and waits until it is ready.
    pub(super) async fn start(recipe: Recipe) -> Service {
        let mut failed = String::new();
        for _ in 0..ATTEMPTS {
            // Another may take the port before the service does; then it ends and the next one is tried.
            let port = free_port();
            match run(&recipe, port).await {
                Ok(running) => {
                    return Service {
                        recipe,
                        port,
                        running: Some(running),
                    };
                }
                Err(said) => failed = said,
            }
        }
        panic!("{} did not start:\n{failed}", recipe.name);
    }

    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Stops it and all its processes in their tracks: connections stay open and are accepted by the system, and nothing
    /// answers.
    pub(super) fn pause(&self) {
        family::stop(self.pid());
    }

    /// Lets it go on after [`pause`](Service::pause).
    pub(super) fn resume(&self) {
        family::resume(self.pid());
    }

    /// Kills it. When this returns it is gone, and connecting is refused.
    pub(super) fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it anew on the same port, killed before if it still runs, and waits until it is ready.
    pub(super) async fn restart(&mut self) {
        self.kill();
        match run(&self.recipe, self.port).await {
            Ok(running) => self.running = Some(running),
            Err(said) => panic!("{} did not start again:\n{said}", self.recipe.name),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        let running = self.running.as_ref();
        let running = running.unwrap_or_else(|| panic!("{} was killed", self.recipe.name));
        running.child.id()
    }

    /// All it wrote since it was started last.
    pub(super) fn logs(&self) -> String {
        let running = self.running.as_ref();
        running.map_or_else(String::new, |running| running.said.borrow().clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        family::kill(self.child.id());
        let _ = self.child.wait();
    }
}

/// Runs it once; the error is all it wrote.
async fn run(recipe: &Recipe, port: u16) -> Result<Running, String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", WATCHED, "sh"])
        .args((recipe.command)(port))
        .envs(recipe.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{} could not be run: {error}", recipe.name));
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let (sender, said) = watch::channel(String::new());
    // A thread, not a task: a service may outlive the runtime it was started in, and blocks once its pipe is full.
    std::thread::spawn(move || read(stdout, &sender));
    let mut waiter = said.clone();
    let running = Running { child, said };
    let ready = async {
        match recipe.ready {
            Ready::Says(text) => waiter.wait_for(|said| said.contains(text)).await.is_ok(),
            Ready::Accepts => accepts(port, waiter).await,
        }
    };
    match tokio::time::timeout(START_LIMIT, ready).await {
        Ok(true) => Ok(running),
        Ok(false) => Err(running.said.borrow().clone()),
        Err(limit) => Err(format!("{}\n{limit}", *running.said.borrow())),
    }
}

/// Waits until the port accepts connections; `false` if the service ends before.
async fn accepts(port: u16, said: watch::Receiver<String>) -> bool {
    while said.has_changed().is_ok() {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_ok()
        {
            return true;
        }
        tokio::time::sleep(CONNECT_AGAIN).await;
    }
    false
}

fn read(stdout: ChildStdout, said: &watch::Sender<String>) {
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    while let Ok(1..) = lines.read_until(b'\n', &mut line) {
        said.send_modify(|said| said.push_str(&String::from_utf8_lossy(&line)));
        line.clear();
    }
}

/// A port that nobody listens on, below those that the system gives to outgoing connections: so that it is still free
/// when a service that was killed is started again.
fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    loop {
        // Each has other keys.
        let random = RandomState::new().hash_one(std::process::id());
        let offset = u16::try_from(random % u64::from(COUNT)).expect("it is below a u16");
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Looks for a program in these folders, then along the PATH.
pub(super) fn find(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.iter().cloned().chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> String {
    path.to_str()
        .unwrap_or_else(|| panic!("{} is not UTF-8", path.display()))
        .to_owned()
}
