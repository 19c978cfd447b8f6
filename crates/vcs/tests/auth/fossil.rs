//! Fossil, whose server refuses within an answer that is fine to HTTP, and whose program ends well then.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use gomod::pattern::Patterns;
use tokio::net::TcpStream;
use vcs::ErrorKind;
use vcs::discover::{Kind, Mapping};

use crate::common::{Lab, info, list};
use crate::{direct, inside};

fn fossil(folder: &Path, args: &[&str]) {
    let output = Command::new("fossil")
        .args(args)
        .current_dir(folder)
        .env("FOSSIL_HOME", folder)
        .env("USER", "ann")
        .output()
        .expect("fossil is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "fossil {args:?}: {said}");
}

/// A commit on the trunk with a tag.
fn commit(work: &Path, text: &str, tag: &str) {
    std::fs::write(work.join("a.go"), text).unwrap();
    fossil(work, &["add", "a.go", "go.mod"]);
    let commit = ["commit", "-m", "x", "--tag", tag, "--nosign"];
    fossil(work, &[&commit[..], &["--no-warnings"]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_no_absence() {
    let lab = Lab::start().await;
    let base = lab.folder.path().join("fossil");
    let work = base.join("work");
    std::fs::create_dir_all(&work).unwrap();
    fossil(&base, &["init", "--sha1", "x.fossil"]);
    fossil(&work, &["open", "-f", "../x.fossil"]);
    std::fs::write(work.join("go.mod"), "module corp.test/x\n").unwrap();
    commit(&work, "package a\n", "v1.0.0");
    let may = |rights: &str| {
        let set = ["user", "capabilities", "nobody", rights, "-R", "x.fossil"];
        fossil(&base, &set);
    };
    // It takes no port 0, so one that was free just now must do.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let _server = tokio::process::Command::new("fossil")
        .args(["server", "--localhost", "--port", &addr.port().to_string()])
        .arg(base.join("x.fossil"))
        .env("FOSSIL_HOME", &base)
        .env("USER", "ann")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if TcpStream::connect(addr).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut settings = lab.settings();
    settings.mappings = vec![Mapping {
        prefix: "corp.test/x".to_owned(),
        repo: format!("http://{addr}/"),
        vcs: Kind::Fossil,
        subdir: String::new(),
    }];
    settings.insecure = Patterns::parse("corp.test").unwrap();
    let direct = direct(settings, inside(&lab), vec![]);
    let refused = |error: vcs::DirectError| {
        assert_eq!(error.kind, ErrorKind::Unauthorized, "{error:?}");
        assert!(error.text.contains("not authorized"), "{error:?}");
        assert!(error.hint.is_some_and(|hint| hint.contains("nobody")));
    };

    may("");
    refused(list(&direct, "corp.test/x").await.unwrap_err());
    may("gox");
    info(&direct, "corp.test/x", "v1.0.0").await.unwrap();
    // What is new is there, and nobody may see it: neither is it unknown, nor what was seen before the newest.
    commit(&work, "package a // 2\n", "v1.1.0");
    may("");
    refused(info(&direct, "corp.test/x", "v1.1.0").await.unwrap_err());
    refused(info(&direct, "corp.test/x", "trunk").await.unwrap_err());
    may("gox");
    info(&direct, "corp.test/x", "v1.1.0").await.unwrap();
}
