//! A Fossil repository.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Child;

use super::{run, write};
use crate::Forge;
use crate::truth::Questions;

/// Makes a repository, and serves it.
pub(super) async fn start(forge: &Forge) -> (Child, Questions) {
    let base = forge.repository("fossil").with_extension("fsl");
    let work = base.join("work");
    std::fs::create_dir_all(&work).expect("a folder can be made");
    let fossil = |args: &[&str]| {
        run(Command::new("fossil")
            .args(args)
            .current_dir(&work)
            .env("FOSSIL_HOME", &base)
            .env("USER", "ann"))
    };
    let commit = |hour: u32, tag: &str| {
        let date = format!("2024-01-01T{hour:02}:00:00");
        fossil(&[
            "commit",
            "-m",
            "x",
            "--date-override",
            &date,
            "--tag",
            tag,
            "--no-warnings",
            "--nosign",
        ]);
    };
    let write = |name: &str, text: &str| write(&work.join(name), text);
    fossil(&[
        "init",
        "--sha1",
        "--date-override",
        "2023-12-31",
        "../repo.fossil",
    ]);
    fossil(&["open", "-f", "../repo.fossil"]);
    write("go.mod", "module plain.golden.test/fossil\n");
    write("a.go", "package a\n");
    write("lib/go.mod", "module plain.golden.test/fossil/lib\n");
    write("with space.txt", "x\n");
    fossil(&["add", "go.mod", "a.go", "lib", "with space.txt"]);
    commit(0, "v1.0.0");
    write("a.go", "package a // 2\n");
    commit(1, "v1.1.0");
    let said = fossil(&["info", "-R", "../repo.fossil", "--", "v1.0.0"]);
    let one = said.split_whitespace().nth(1).expect("a hash").to_owned();
    // It takes no port 0, so one that was free just now must do.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    drop(listener);
    let mut server = tokio::process::Command::new("fossil");
    server
        .args(["server", "--localhost", "--port", &addr.port().to_string()])
        .arg(base.join("repo.fossil"))
        .current_dir(&base)
        .env("FOSSIL_HOME", &base)
        .env("USER", "ann")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let server = server.spawn().expect("fossil is installed");
    // It tells nobody when it listens.
    let mut tries = 0;
    while TcpStream::connect(addr).await.is_err() {
        tries += 1;
        assert!(tries < 200, "fossil server does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let root = "plain.golden.test/fossil";
    forge.import(root, &format!("fossil http://{addr}/"));
    let queries = |more: &[&str]| -> Vec<String> {
        let all = ["trunk", "latest", "nothing", &one, &one[..12]];
        let all = all.iter().chain(more);
        all.map(|&query| query.to_owned()).collect()
    };
    let pseudo = format!("v0.0.0-20240101000000-{}", &one[..12]);
    let modules = vec![
        (
            root.to_owned(),
            queries(&["v1.0.0", "v1.1.0", "v1.2.0", &pseudo]),
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
