//! A Mercurial and a Subversion repository. Their programs make them, so they are small.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::Forge;
use crate::truth::Questions;

/// Their servers, which end when it is dropped.
#[derive(Debug)]
pub struct Others {
    _hg: Child,
    _svn: JoinSet<()>,
    /// What to ask.
    pub questions: Vec<Questions>,
}

impl Others {
    /// Makes both, serves them over plain http and svn, and adds pages that name them.
    ///
    /// # Panics
    /// If `hg`, `svn` or `svnserve` is missing or fails.
    pub async fn start(forge: &Forge) -> Others {
        let (hg, hg_questions) = start_hg(forge).await;
        let (svn, svn_questions) = start_svn(forge).await;
        Others {
            _hg: hg,
            _svn: svn,
            questions: vec![hg_questions, svn_questions],
        }
    }
}

async fn start_hg(forge: &Forge) -> (Child, Questions) {
    let folder = forge.repository("mercurial").with_extension("hg");
    std::fs::create_dir(&folder).expect("a folder can be made");
    let mut hours = 0;
    let mut hg = |args: &[&str]| {
        hours += 1;
        let date = format!("{} 0", 1_704_067_200 + hours * 3600);
        let mut command = Command::new("hg");
        command
            .args(args)
            .current_dir(&folder)
            .env("HGRCPATH", "/dev/null");
        if matches!(args[0], "commit" | "tag") {
            command.args(["-u", "Ann <ann@golden.test>", "-d", &date]);
        }
        run(&mut command)
    };
    let write = |name: &str, text: &str| write(&folder.join(name), text);
    hg(&["init"]);
    write("go.mod", "module plain.golden.test/mercurial\n");
    write("a.go", "package a\n");
    write("crlf.txt", "one\r\ntwo\n");
    write(".hgignore", "x\n");
    write("lib/go.mod", "module plain.golden.test/mercurial/lib\n");
    write("lib/a.go", "package lib\n");
    hg(&["add", "-q"]);
    hg(&["commit", "-q", "-m", "one"]);
    let one = hg(&["log", "-r", ".", "--template", "{node}"]);
    hg(&["tag", "v1.0.0"]);
    hg(&["tag", "lib/v0.1.0"]);
    write("a.go", "package a // 2\n");
    hg(&["commit", "-q", "-m", "two"]);
    let two = hg(&["log", "-r", ".", "--template", "{node}"]);
    hg(&["branch", "-q", "stable"]);
    write("b.go", "package a // b\n");
    hg(&["add", "-q"]);
    hg(&["commit", "-q", "-m", "three"]);
    let three = hg(&["log", "-r", ".", "--template", "{node}"]);
    hg(&["tag", "v1.1.0"]);
    hg(&["bookmark", "mark"]);
    hg(&["update", "-q", "default"]);
    let mut server = tokio::process::Command::new("hg");
    server
        .args([
            "serve",
            "-p",
            "0",
            "-a",
            "127.0.0.1",
            "--print-url",
            "-A",
            "/dev/null",
        ])
        .current_dir(&folder)
        .env("HGRCPATH", "/dev/null")
        .env("PYTHONUNBUFFERED", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut server = server.spawn().expect("hg is installed");
    let stdout = server.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await.expect("hg serve says its address");
    let url = line
        .expect("hg serve starts")
        .replace("localhost", "127.0.0.1");
    let root = "plain.golden.test/mercurial";
    forge.import(root, &format!("hg {}", url.trim_end_matches('/')));
    let queries = |more: &[&str]| -> Vec<String> {
        let all = [
            "default",
            "stable",
            "tip",
            "mark",
            &one,
            &two[..12],
            &three[..7],
            "nothing",
            "latest",
        ];
        let all = all.iter().chain(more);
        all.map(|&query| query.to_owned()).collect()
    };
    let pseudo = format!("v1.0.1-0.20240101000000-{}", &two[..12]);
    let modules = vec![
        (
            root.to_owned(),
            queries(&["v1.0.0", "v1.1.0", "v1.2.0", &pseudo]),
        ),
        (format!("{root}/lib"), queries(&["v0.1.0", "v1.0.0"])),
    ];
    (
        server,
        Questions {
            modules,
            ..Questions::default()
        },
    )
}

async fn start_svn(forge: &Forge) -> (JoinSet<()>, Questions) {
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

fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("it has one");
    std::fs::create_dir_all(folder).expect("a folder can be made");
    std::fs::write(path, text).expect("a file can be written");
}

fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
