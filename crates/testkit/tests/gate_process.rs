//! Starting, ending and killing a gateway's process, with a shell script in the gateway's place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use tempfile::TempDir;
use testkit::gate::{Modgate, Options};
use tokio::sync::Mutex;

/// One test at a time: a process forked by another test while a script is written has it open for a moment, and a file
/// that is open for writing cannot be run.
static TURN: Mutex<()> = Mutex::const_new(());

/// A program with this text after the shell's name.
fn script(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("modgate");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[tokio::test]
async fn arguments_and_logs_are_passed() {
    let _turn = TURN.lock().await;
    let folder = TempDir::new().expect("a folder");
    let bin = script(
        &folder,
        "echo \"$@\" \"env=$MODGATE_X\" >&2\necho listening on 127.0.0.1:9 >&2\nexec sleep 1000",
    );
    let options = Options {
        upstream: Some("http://up.example".to_owned()),
        sumdb: Some("off".to_owned()),
        config: Some("a = 1\n".to_owned()),
        env: vec![("MODGATE_X".to_owned(), "set".to_owned())],
        ..Options::default()
    };
    let mut modgate = Modgate::start(&bin, options).await;
    assert_eq!(modgate.url(), "http://127.0.0.1:9");
    let logs = modgate.logs();
    for part in [
        "serve --listen 127.0.0.1:0 --data ",
        "--upstream http://up.example --sumdb off --config ",
        "env=set",
    ] {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    assert!(modgate.rss_kib() > 0);
    let status = modgate.terminate().await;
    assert_eq!(status.signal(), Some(15));
    modgate.kill9().await;
    assert_eq!(modgate.rss_kib(), 0);
}

#[tokio::test]
async fn failure_to_start_has_status_and_logs() {
    let _turn = TURN.lock().await;
    let folder = TempDir::new().expect("a folder");
    let bin = script(&folder, "echo no such key >&2\nexit 2");
    let error = Modgate::try_start(&bin, Options::default())
        .await
        .expect_err("it ended");
    assert_eq!(error.status.and_then(|status| status.code()), Some(2));
    assert_eq!(error.logs, "no such key\n");
}
