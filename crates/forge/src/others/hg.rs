//! A Mercurial repository.

use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::{run, write};
use crate::Forge;
use crate::truth::Questions;

/// Makes a repository, and serves it over plain http.
pub(super) async fn start(forge: &Forge) -> (Vec<Child>, Vec<Questions>) {
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
    // Of a higher major, and with what an archive of hg would have too.
    write("go.mod", "module plain.golden.test/mercurial/v2\n");
    write(".hg_archival.txt", "repo: x\n");
    write("sub/.hg_archival.txt", "kept\n");
    hg(&["add", "-q"]);
    hg(&["commit", "-q", "-m", "four"]);
    hg(&["tag", "v2.0.0"]);
    let (plain, url) = serve(&folder).await;
    let root = "plain.golden.test/mercurial";
    forge.import(root, &format!("hg {url}"));
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
        (format!("{root}/v2"), queries(&["v2.0.0", "v2.1.0"])),
    ];
    let ask = |modules| Questions {
        modules,
        ..Questions::default()
    };
    (vec![plain], vec![ask(modules)])
}

/// Serves a repository. The URL has no slash at its end.
async fn serve(folder: &Path) -> (Child, String) {
    let mut server = tokio::process::Command::new("hg");
    server.args([
        "serve",
        "-p",
        "0",
        "-a",
        "127.0.0.1",
        "--print-url",
        "-A",
        "/dev/null",
    ]);
    server
        .current_dir(folder)
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
    (server, url.trim_end_matches('/').to_owned())
}
