//! The data folder as clients use it by itself: `GOPROXY=file://…/go`, with its lists true at any moment.

use std::path::Path;

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    lab::Lab,
};

use crate::common::{bin, eventually};

const MODULE: &str = "lab.example/listed";

fn list(data: &Path) -> String {
    let list = data.join("go").join(MODULE).join("@v/list");
    std::fs::read_to_string(list).unwrap_or_default()
}

async fn listed(data: &Path, wanted: &str) {
    let what = format!("the list is {wanted:?}");
    eventually(&what, async || list(data) == wanted).await;
}

fn command(data: &Path, arguments: &[&str]) {
    let mut command = crate::common::command();
    let done = command
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_list_has_what_can_be_used_and_no_kill_or_retirement_makes_it_wrong() {
    let lab = Lab::start().await;
    let versions: Vec<Module> = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"]
        .map(|version| Module::new(MODULE, version))
        .into();
    for version in &versions {
        lab.add(version.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let start = async || {
        let options = Options {
            upstream: Some(lab.url()),
            sumdb: Some("off".to_owned()),
            data: Some(data.to_owned()),
            ..Options::default()
        };
        Modgate::start(bin(), options).await
    };
    let mut gate = start().await;
    let get = async |gate: &Modgate, version: &Module, ending: &str| {
        let reply = gate.get(&version.url_path(ending)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    // A version of which only the info is kept cannot be used without an upstream.
    get(&gate, &versions[0], "info").await;
    get(&gate, &versions[1], "mod").await;
    listed(data, "v1.1.0\n").await;
    eventually("all is written", async || {
        !data.join("lists.unwritten").exists()
    })
    .await;

    // Killed when the file is kept and the list is not.
    get(&gate, &versions[2], "mod").await;
    let kept = data.join("go").join(&versions[2].url_path("mod")[1..]);
    eventually("it is kept", async || kept.exists()).await;
    gate.kill9().await;
    assert!(
        data.join("lists.unwritten").exists() || list(data) == "v1.1.0\nv1.2.0\n",
        "nothing says that the list is not true"
    );
    let mut gate = start().await;
    listed(data, "v1.1.0\nv1.2.0\n").await;

    // Retired while it runs, and while it does not.
    command(
        data,
        &["retire", &format!("{MODULE}@v1.1.0"), "--reason", "x"],
    );
    listed(data, "v1.2.0\n").await;
    assert!(gate.terminate().await.success());
    command(
        data,
        &["retire", &format!("{MODULE}@v1.2.0"), "--reason", "x"],
    );
    let gate = start().await;
    listed(data, "").await;
    command(data, &["unretire", &format!("{MODULE}@v1.2.0")]);
    listed(data, "v1.2.0\n").await;
    drop(gate);
}
