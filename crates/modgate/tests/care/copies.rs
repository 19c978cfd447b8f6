//! `modgate copy`, from one storage to another while a server goes on and a real client builds.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    services::S3,
};

use crate::{DISK, LIMIT, Site, alter, bin, bucket, module};

/// Where an object lies in the bucket.
fn object(s3: &S3, prefix: &str, name: &str, part: &str) -> PathBuf {
    let path = module(name).url_path(part);
    let below = s3.bucket_dir().join(prefix).join("go");
    below.join(path.trim_start_matches('/'))
}

fn whole(path: &Path, module: &Module) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes == module.zip())
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let waited = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, waited).await;
    assert!(in_time.is_ok(), "not in time: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_disk_to_bucket_under_load_with_what_comes_meanwhile_and_again_after_a_kill() {
    let s3 = S3::start().await;
    let names: Vec<String> = (0..24).map(|number| format!("m{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let site = Site::start(&names, "").await;
    let there = site.folder.path().join("there.toml");
    let config = format!(
        "data = {:?}\n{}",
        site.folder.path().join("other"),
        bucket(&s3, "new")
    );
    std::fs::write(&there, config).unwrap();
    let to = ["--to-config", there.to_str().unwrap()];
    let copy = |more: &[&'static str]| [&["copy", "--json"][..], &to, more].concat();

    let plan = site.json(&copy(&["--dry-run"]));
    assert_eq!(plan["copied"], 3 * names.len(), "{plan}");
    assert!(
        !s3.bucket_dir().join("new").exists(),
        "nothing was to be done"
    );

    assert!(site.run(&["pin", "lab.example/m03"]).status.success());
    // Killed on its way.
    let mut slow = site
        .command(&copy(&["--rate", "4KiB"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("something is copied", || {
        object(&s3, "new", "m01", "zip").exists()
    })
    .await;
    slow.kill().unwrap();
    slow.wait().unwrap();
    assert!(
        !object(&s3, "new", "m23", "zip").exists(),
        "too fast for this test"
    );

    // Run again, with clients that build, and one that asks for a version whose turn was over.
    let mut slow = site
        .command(&copy(&["--rate", "16KiB"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it went on", || object(&s3, "new", "m12", "zip").exists()).await;
    site.lab.add(module("a-late"));
    let go = Go::new().proxy(&site.gate.url());
    let late = go
        .run(&["mod", "download", "lab.example/a-late@v1.0.0"])
        .await;
    assert!(late.ok, "{}", late.stderr);
    assert!(slow.try_wait().unwrap().is_none(), "too fast for this test");
    let all: Vec<String> = names
        .iter()
        .map(|name| format!("lab.example/{name}@v1.0.0"))
        .collect();
    let arguments: Vec<&str> = ["mod", "download"]
        .into_iter()
        .chain(all.iter().map(String::as_str))
        .collect();
    let load = go.run(&arguments).await;
    assert!(load.ok, "{}", load.stderr);
    let done = tokio::task::spawn_blocking(move || slow.wait_with_output()).await;
    let done = done.unwrap().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done.status.success(), "{report}");
    assert!(
        report["present"].as_u64() > Some(0),
        "it began from the start: {report}"
    );
    assert!(report["passes"].as_u64() > Some(1), "{report}");
    for name in names.iter().chain([&"a-late"]) {
        for part in ["info", "mod"] {
            assert!(object(&s3, "new", name, part).exists(), "{name}.{part}");
        }
        assert!(
            whole(&object(&s3, "new", name, "zip"), &module(name)),
            "{name}"
        );
    }
    let again = site.json(&copy(&[]));
    assert_eq!(
        (&again["copied"], &again["passes"]),
        (&0.into(), &1.into()),
        "{again}"
    );

    // The index there knows it all, with what was pinned.
    let beside = |arguments: &[&str]| {
        let mut command = std::process::Command::new(bin());
        command.args(arguments).arg("--config").arg(&there);
        command.args(["--upstream", "off", "--sumdb", "off"]);
        command.env_remove("MODGATE_TEST_OFFLINE");
        let env = site.env.iter().map(|(name, value)| (name, value));
        let done = command.envs(env).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        report
    };
    let checked = beside(&["fsck", "--json", "--rate", "off"]);
    assert_eq!(checked["checked"], 3 * (names.len() + 1), "{checked}");
    assert_eq!(checked["good"], true, "{checked}");
    let plan = beside(&["gc", "--max-size", "0B", "--json"]);
    let removed = plan["removed"].as_array().unwrap();
    assert_eq!(removed.len(), names.len(), "{plan}");
    assert_eq!(plan["pinned"], 1, "{plan}");

    // The bucket is as good as the disk was.
    let config = std::fs::read_to_string(&there).unwrap();
    let gate = Modgate::start(bin(), moved(&site, &config)).await;
    let go = Go::new().proxy(&gate.url());
    let done = go.run(&arguments).await;
    assert!(done.ok, "{}", done.stderr);
}

/// A server without an upstream over another configuration.
fn moved(site: &Site, config: &str) -> Options {
    Options {
        upstream: Some("off".to_owned()),
        sumdb: Some("off".to_owned()),
        config: Some(config.to_owned()),
        env: site.env.clone(),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_bucket_to_bucket_and_to_a_disk_and_nothing_that_is_altered() {
    let s3 = S3::start().await;
    let names = ["a", "b", "c"];
    let site = Site::start(&names, &bucket(&s3, "old")).await;
    let there = site.folder.path().join("there.toml");
    let disk = site.folder.path().join("disk");
    // The new place keeps in another bucket, with a disk above it that may be filled beforehand.
    let config = format!("data = {disk:?}\n{DISK}{}", bucket(&s3, "new"));
    std::fs::write(&there, &config).unwrap();
    let there = there.to_str().unwrap();
    alter(&object(&s3, "old", "b", "zip"));
    for (to, copied) in [("s3", 4 * 3 - 1), ("disk", 4 * 3 - 1)] {
        let done = site.run(&[
            "copy",
            "--from",
            "s3",
            "--to-config",
            there,
            "--to",
            to,
            "--json",
        ]);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)));
        assert_eq!(done.status.code(), Some(1), "{report}");
        assert_eq!(report["copied"], copied, "{report}");
        assert_eq!(report["refused"].as_array().unwrap().len(), 1, "{report}");
        let why = report["refused"][0]["why"].as_str().unwrap();
        assert!(why.contains("not what they should be"), "{report}");
    }
    let on_disk = |name: &str| {
        let path = module(name).url_path("zip");
        disk.join("go").join(path.trim_start_matches('/'))
    };
    for name in ["a", "c"] {
        assert!(
            whole(&object(&s3, "new", name, "zip"), &module(name)),
            "{name}"
        );
        assert!(whole(&on_disk(name), &module(name)), "{name}");
    }
    assert!(!object(&s3, "new", "b", "zip").exists() && !on_disk("b").exists());

    // Put right where it came from, it is copied too; what differs at the other place stays there and is told.
    let repaired = site.run(&["fsck", "--repair"]);
    assert!(repaired.status.success(), "{repaired:?}");
    std::fs::write(on_disk("b").with_extension("mod"), "module other\n").unwrap();
    // What says the same in other words does not differ.
    let info = on_disk("b").with_extension("info");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&info).unwrap()).unwrap();
    json["Origin"] = serde_json::json!({"VCS": "git"});
    std::fs::write(&info, serde_json::to_vec_pretty(&json).unwrap()).unwrap();
    for (to, status) in [("s3", 0), ("disk", 1)] {
        let done = site.run(&["copy", "--to-config", there, "--to", to]);
        assert_eq!(done.status.code(), Some(status), "{done:?}");
        let refused = String::from_utf8_lossy(&done.stdout);
        assert!(!refused.contains(".info:"), "{refused}");
    }
    assert_eq!(
        std::fs::read(on_disk("b").with_extension("mod")).unwrap(),
        b"module other\n"
    );
    assert!(whole(&on_disk("b"), &module("b")));

    // A server on the disk alone, without upstream: a real client has it from there, and its lists are true.
    let options = Options {
        data: Some(disk.clone()),
        ..moved(&site, "")
    };
    let gate = Modgate::start(bin(), options).await;
    let go = Go::new().proxy(&gate.url());
    let done = go
        .run(&[
            "mod",
            "download",
            "lab.example/a@v1.0.0",
            "lab.example/c@v1.0.0",
        ])
        .await;
    assert!(done.ok, "{}", done.stderr);
    let list = disk.join("go/lab.example/a/@v/list");
    until("lists are written", || {
        std::fs::read(&list).is_ok_and(|list| list == b"v1.0.0\n")
    })
    .await;

    let wrong = site.run(&["copy", "--to", "nowhere"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(
        !wrong.status.success() && said.contains("there are: s3"),
        "{said}"
    );
    assert!(
        !site.run(&["copy", "--to", "s3"]).status.success(),
        "onto itself"
    );
}
