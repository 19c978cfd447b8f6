//! A Bazaar branch.

use std::process::{Command, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::{run, write};
use crate::Forge;
use crate::truth::Questions;

/// Makes a branch, and serves it.
pub(super) async fn start(forge: &Forge) -> (Child, Questions) {
    let folder = forge.repository("bazaar").with_extension("bzr");
    std::fs::create_dir(&folder).expect("a folder can be made");
    let env = [
        ("BRZ_EMAIL", "Ann <ann@golden.test>"),
        ("BRZ_LOG", "/dev/null"),
        ("LC_ALL", "C.UTF-8"),
    ];
    let bzr = |args: &[&str]| {
        run(Command::new("bzr")
            .args(args)
            .current_dir(&folder)
            .env("BRZ_HOME", &folder)
            .envs(env))
    };
    let commit = |hour: u32| {
        let date = format!("2024-01-01 {hour:02}:00:00 +0000");
        bzr(&["commit", "-q", "-m", "x", "--commit-time", &date]);
    };
    let write = |name: &str, text: &str| write(&folder.join(name), text);
    bzr(&["init", "-q", "."]);
    write("go.mod", "module plain.golden.test/bazaar\n");
    write("a.go", "package a\n");
    write("lib/go.mod", "module plain.golden.test/bazaar/lib\n");
    write("lib/with space.txt", "x\n");
    bzr(&["add", "-q", "go.mod", "a.go", "lib"]);
    commit(0);
    bzr(&["tag", "-q", "v1.0.0"]);
    bzr(&["tag", "-q", "lib/v0.1.0"]);
    write("a.go", "package a // 2\n");
    commit(1);
    bzr(&["tag", "-q", "v1.1.0"]);
    write("a.go", "package a // 3\n");
    commit(2);
    let mut server = tokio::process::Command::new("bzr");
    server
        .args([
            "serve",
            "--bzr",
            "--listen=127.0.0.1",
            "--port=0",
            "--directory",
        ])
        .arg(&folder)
        .env("BRZ_HOME", &folder)
        .envs(env)
        .env("PYTHONUNBUFFERED", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut server = server.spawn().expect("bzr is installed");
    let stderr = server.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(stderr).lines();
    let port = loop {
        let line = lines.next_line().await.expect("bzr serve says its port");
        let line = line.expect("bzr serve starts");
        if let Some((_, port)) = line.split_once("listening on port: ") {
            break port.trim().to_owned();
        }
    };
    // What it says later must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let root = "plain.golden.test/bazaar";
    forge.import(root, &format!("bzr bzr://127.0.0.1:{port}/"));
    let queries = |more: &[&str]| -> Vec<String> {
        let all = ["1", "2", "3", "latest", "nothing"].iter().chain(more);
        all.map(|&query| query.to_owned()).collect()
    };
    let pseudo = "v0.0.0-20240101010000-000000000002";
    let modules = vec![
        (
            root.to_owned(),
            queries(&["v1.0.0", "v1.1.0", "v1.2.0", pseudo]),
        ),
        (format!("{root}/lib"), queries(&["v0.1.0"])),
    ];
    (
        server,
        Questions {
            modules,
            ..Questions::default()
        },
    )
}
