//! A Subversion repository.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinSet;

use super::{run, write};
use crate::Forge;
use crate::truth::Questions;

/// Makes a repository, and serves it.
pub(super) async fn start(forge: &Forge) -> (JoinSet<()>, Questions) {
    let base = forge.repository("subversion").with_extension("svn");
    std::fs::create_dir(&base).expect("a folder can be made");
    let text = |path: PathBuf| path.to_str().expect("a plain name").to_owned();
    let (repository, work) = (text(base.join("repo")), text(base.join("work")));
    run(Command::new("svnadmin").args(["create", &repository]));
    let url = format!("file://{repository}");
    let svn = |args: &[&str]| {
        run(Command::new("svn")
            .args(["--non-interactive", "--no-auth-cache", "-q"])
            .args(args))
    };
    svn(&["checkout", &url, &work]);
    let write = |name: &str, text: &str| write(&Path::new(&work).join(name), text);
    write("go.mod", "module plain.golden.test/subversion\n");
    write("a.go", "package a\n");
    svn(&[
        "add",
        &text(Path::new(&work).join("go.mod")),
        &text(Path::new(&work).join("a.go")),
    ]);
    svn(&["commit", "-m", "one", &work]);
    write("a.go", "package a // 2\n");
    svn(&["commit", "-m", "two", &work]);
    // The name of a file is listed as a tag; that of a folder has a slash.
    write("lib/go.mod", "module plain.golden.test/subversion/lib\n");
    write("lib/with space.txt", "$Id$ & <more>\n");
    write("tags/v1.0.0/a.go", "package a\n");
    write("tags/v1.1.0", "x\n");
    let added = ["lib", "tags"].map(|name| text(Path::new(&work).join(name)));
    svn(&["add", &added[0], &added[1]]);
    svn(&["commit", "-m", "three", &work]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port is free");
    let addr: SocketAddr = listener.local_addr().expect("it is bound");
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        let mut children = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut child) = svnserve(stream, &base) {
                children.spawn(async move { child.wait().await });
            }
        }
    });
    let root = "plain.golden.test/subversion";
    forge.import(root, &format!("svn svn://{addr}/repo"));
    let queries = ["1", "2", "3", "latest", "v1.0.0", "HEAD", "trunk", "r2"];
    let queries = queries.map(str::to_owned).to_vec();
    let modules = vec![
        (root.to_owned(), queries.clone()),
        (format!("{root}/lib"), queries),
    ];
    (
        servers,
        Questions {
            modules,
            ..Questions::default()
        },
    )
}

fn svnserve(stream: TcpStream, root: &Path) -> io::Result<Child> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let output = stream.try_clone()?;
    tokio::process::Command::new("svnserve")
        .args(["-i", "-R", "-r"])
        .arg(root)
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}
