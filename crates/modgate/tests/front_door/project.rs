//! A real project through the machine's own upstream and the public checksum database: cold, warm, offline.
//!
//! Without an upstream this fails, unless the environment says `MODGATE_TEST_OFFLINE=1`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use testkit::{
    gate::{Modgate, Options},
    go::Go,
};

use crate::common::{bin, kept_zips};

/// The go.mod that is the project: its graph has many hundred modules.
const PROJECT: &str = "/github.com/prometheus/prometheus/@v/v0.305.0.mod";
const LEAST_MODULES: usize = 300;

/// What the machine's Go uses.
fn go_env(name: &str) -> String {
    let output = Command::new("go").args(["env", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Where a client unpacks: in memory where there is room, since a disk takes minutes for so many small files.
fn unpack_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
    if room > 4 << 30 {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

fn client(gate: &Modgate) -> Go {
    // Verification as a user has it, with the known key and nothing but the gateway to ask.
    Go::new_in(&unpack_folder())
        .proxy(&gate.url())
        .sumdb("sum.golang.org")
        .env("GOFLAGS", "-modcacherw -mod=mod")
        .limit(Duration::from_mins(8))
}

/// The go.mod of the project, from upstream through the gateway.
async fn project(gate: &Modgate) -> String {
    let reply = gate.get(PROJECT).await;
    assert_eq!(
        reply.status,
        200,
        "{PROJECT} cannot be had. This test needs an upstream, the one of `go env GOPROXY`; \
         MODGATE_TEST_OFFLINE=1 leaves it out.\n{}\n{}",
        reply.text(),
        gate.logs()
    );
    reply.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_300_modules_cold_warm_and_offline() {
    if std::env::var_os("MODGATE_TEST_OFFLINE").is_some_and(|value| value == "1") {
        println!("LEFT OUT: MODGATE_TEST_OFFLINE=1, a real project was not downloaded");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let options = |upstream: String| Options {
        upstream: Some(upstream),
        sumdb: Some("sum.golang.org".to_owned()),
        data: Some(data.path().to_owned()),
        ..Options::default()
    };
    let mut gate = Modgate::start(bin(), options(go_env("GOPROXY"))).await;
    let go_mod = project(&gate).await;
    for run in ["cold", "warm", "offline"] {
        if run == "offline" {
            // A start with no upstream at all: neither modules nor the checksum database can be asked.
            assert!(gate.terminate().await.success());
            gate = Modgate::start(bin(), options("off".to_owned())).await;
        }
        let begin = Instant::now();
        let go = client(&gate).module(&go_mod);
        let done = go.run(&["mod", "download", "all"]).await;
        assert!(done.ok, "{run}: {}\n{}", done.stderr, gate.logs());
        let sums = std::fs::read_to_string(go.work().join("go.sum")).unwrap();
        println!(
            "{run}: {} lines of go.sum, {:?}",
            sums.lines().count(),
            begin.elapsed()
        );
        drop(go);
        println!("{run}: removed after {:?}", begin.elapsed());
        let modules = sums.lines().filter(|line| !line.contains("/go.mod "));
        assert!(modules.count() >= LEAST_MODULES);
    }
    let kept = kept_zips(data.path());
    assert!(kept >= LEAST_MODULES, "{kept}");
    let requests = gate.metric("modgate_upstream_requests_total").await;
    assert!(requests.abs() < 0.1, "upstream was asked {requests} times");
}
