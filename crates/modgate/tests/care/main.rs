//! `modgate fsck`, `gc`, `backup` and `restore`, beside a server that goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod buckets;
mod copies;
mod full;
mod heads;
mod repairs;
mod rewound;
mod tiers;

use std::{
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    lab::Lab,
    services::S3,
};

/// How long what is to come may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Asks for what is kept only.
const CACHED: &[(&str, &str)] = &[("Disable-Module-Fetch", "true")];

/// A server with a lab of modules above it, and its configuration for commands.
struct Site {
    lab: Lab,
    gate: Modgate,
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
}

fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_modgate"))
}

fn module(name: &str) -> Module {
    Module::new(&format!("lab.example/{name}"), "v1.0.0").file("a.go", "package a\n".repeat(300))
}

impl Site {
    async fn start(names: &[&str], storage: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::start_with(folder, data, names, storage).await
    }

    /// The same with a data folder that is elsewhere.
    async fn start_in(data: PathBuf, names: &[&str], storage: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_with(folder, data, names, storage).await
    }

    async fn start_with(
        folder: tempfile::TempDir,
        data: PathBuf,
        names: &[&str],
        storage: &str,
    ) -> Self {
        let lab = Lab::start().await;
        for name in names {
            lab.add(module(name));
        }
        let env = vec![
            ("S3_KEY".to_owned(), "testkey".to_owned()),
            ("S3_SECRET".to_owned(), "testsecret".to_owned()),
        ];
        std::fs::write(folder.path().join("modgate.toml"), storage).unwrap();
        let options = Options {
            upstream: Some(lab.url()),
            sumdb: Some("off".to_owned()),
            config: Some(storage.to_owned()),
            data: Some(data),
            env: env.clone(),
            ..Options::default()
        };
        let gate = Modgate::start(bin(), options).await;
        let site = Self {
            lab,
            gate,
            folder,
            env,
        };
        for name in names {
            for part in ["info", "mod", "zip"] {
                site.serves(name, part).await;
            }
        }
        // Noted after the answer.
        if !names.is_empty() {
            site.indexed(3 * names.len() as u64).await;
        }
        site
    }

    /// Waits until so many files are in the index.
    async fn indexed(&self, wanted: u64) {
        for _ in 0..200 {
            if self.json(&["fsck", "--json"])["checked"] == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not all of {wanted} files are in the index");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bin());
        command
            .args(arguments)
            .args(["--sumdb", "off", "--upstream", &self.lab.url()])
            .arg("--config")
            .arg(self.folder.path().join("modgate.toml"))
            .arg("--data")
            .arg(self.gate.data_dir())
            .env_remove("MODGATE_TEST_OFFLINE")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.run(arguments);
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
    }

    fn kept(&self, name: &str, part: &str) -> PathBuf {
        let path = module(name).url_path(part);
        let path = path.trim_start_matches('/');
        self.gate.data_dir().join("go").join(path)
    }

    /// The server has the very bytes of the module, as soon as it is told of what commands did.
    async fn serves(&self, name: &str, part: &str) {
        let module = module(name);
        let good = async || {
            let reply = self.gate.get(&module.url_path(part)).await;
            reply.status == 200 && (part != "zip" || reply.body == module.zip())
        };
        let waited = async {
            while !good().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, waited).await;
        assert!(in_time.is_ok(), "{name}.{part} is not served in time");
    }

    /// Waits until what is kept is answered so.
    async fn serves_again(&self, name: &str, part: &str, status: u16) {
        let path = module(name).url_path(part);
        let waited = async {
            while self.gate.get_with(&path, CACHED).await.status != status {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, waited).await;
        assert!(
            in_time.is_ok(),
            "{name}.{part} is not answered {status} in time"
        );
    }
}

const DISK: &str = "[[storage]]\ntier = \"disk\"\n";

/// The table of a bucket, with a prefix in it.
fn bucket(s3: &S3, prefix: &str) -> String {
    format!(
        "[[storage]]\ntier = \"s3\"\nbucket = \"{}\"\nprefix = {prefix:?}\nendpoint = \"{}\"\nregion = \"{}\"\n\
         access_key = {{ env = \"S3_KEY\" }}\nsecret_key = {{ env = \"S3_SECRET\" }}\n",
        S3::BUCKET,
        s3.endpoint(),
        S3::REGION,
    )
}

/// Changes a byte in the middle of a file where it lies, as a bad disk or a hand would.
fn alter(path: &Path) {
    let at = std::fs::metadata(path).unwrap().len() / 2;
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}

fn kinds(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    let kind = |finding: &Value| {
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("kind"), text("place"))
    };
    findings.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_or_lost_is_fetched_anew_beside_a_running_server() {
    let site = Site::start(&["a", "b", "c"], "").await;
    let bad = site.kept("a", "zip");
    alter(&bad);
    std::fs::remove_file(site.kept("b", "mod")).unwrap();
    let partial = site.gate.data_dir().join("tmp/left");
    std::fs::write(&partial, "half").unwrap();
    let old = SystemTime::now() - Duration::from_hours(2);
    let file = std::fs::File::options().write(true).open(&partial).unwrap();
    file.set_modified(old).unwrap();

    let report = site.json(&["fsck", "--json"]);
    let mut found = kinds(&report);
    found.sort();
    assert_eq!(
        found,
        ["altered disk", "lost index", "partial disk"],
        "{report}"
    );
    assert_eq!(report["good"], false);
    assert_eq!(report["repaired"], 0);

    let done = site.run(&["fsck", "--repair", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done.status.success(), "{report}");
    assert_eq!(report["repaired"], 3, "{report}");
    assert_eq!(std::fs::read(&bad).unwrap(), module("a").zip());
    assert!(!partial.exists());
    let aside = bad.strip_prefix(site.gate.data_dir()).unwrap();
    assert!(
        site.gate
            .data_dir()
            .join("quarantine")
            .join(aside)
            .is_file()
    );
    site.serves("a", "zip").await;
    site.serves_again("b", "mod", 200).await;
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(kinds(&report), Vec::<String>::new(), "{report}");

    // Where upstream has it no more, what is bad is not served, and that is told.
    site.lab.remove("lab.example/c", "v1.0.0");
    alter(&site.kept("c", "zip"));
    let done = site.run(&["fsck", "--repair"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(!site.kept("c", "zip").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_in_one_tier_is_put_back_from_the_other() {
    let s3 = S3::start().await;
    let storage = format!("{DISK}{}", bucket(&s3, "p"));
    let site = Site::start(&["a", "b", "c"], &storage).await;
    site.lab.stop().await;
    let object = |name: &str| {
        let path = module(name).url_path("zip");
        s3.bucket_dir()
            .join("p/go")
            .join(path.trim_start_matches('/'))
    };
    alter(&site.kept("a", "zip"));
    alter(&object("b"));
    let done = site.run(&["fsck", "--repair", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done.status.success(), "{report}");
    assert_eq!(kinds(&report), ["altered disk", "altered s3"], "{report}");
    for name in ["a", "b", "c"] {
        assert_eq!(
            std::fs::read(site.kept(name, "zip")).unwrap(),
            module(name).zip()
        );
        assert_eq!(std::fs::read(object(name)).unwrap(), module(name).zip());
        site.serves(name, "zip").await;
    }
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(kinds(&report), Vec::<String>::new(), "{report}");

    // A backup goes into the bucket too, and comes back from there.
    let backups = format!("s3://{}/backups", S3::BUCKET);
    assert!(site.run(&["backup", &backups]).status.success());
    let again = site.json(&["backup", "--incremental", "--json", &backups]);
    assert!(again["base"].is_string(), "{again}");
    assert_eq!(
        site.json(&["restore", "--json", &backups])["id"],
        again["id"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_goes_on_where_it_was() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let site = Site::start(&names, "").await;
    alter(&site.kept("a", "mod"));
    let state = site.gate.data_dir().join("care/fsck.json");
    let mut slow = site
        .command(&["fsck", "--rate", "512B"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let came = || {
        let state: Value = serde_json::from_slice(&std::fs::read(&state).ok()?).ok()?;
        state["report"]["checked"]
            .as_u64()
            .filter(|checked| *checked > 3)
    };
    let waited = async {
        while came().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, waited).await;
    assert!(
        slow.try_wait().unwrap().is_none(),
        "it is too fast for this test"
    );
    // Two at a time would undo each other.
    let second = site.run(&["fsck"]);
    slow.kill().unwrap();
    slow.wait().unwrap();
    assert!(in_time.is_ok());
    assert_eq!(second.status.code(), Some(1), "{second:?}");

    let report = site.json(&["fsck", "--resume", "--json"]);
    assert!(report["resumed_after"].is_string(), "{report}");
    assert_eq!(report["checked"], 3 * names.len(), "each once: {report}");
    assert_eq!(
        kinds(&report),
        ["altered disk"],
        "what was found before is told: {report}"
    );
    assert!(!state.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_told_goes_and_nothing_that_is_pinned() {
    let site = Site::start(&["a", "b", "c"], "").await;
    assert!(site.run(&["pin", "lab.example/b"]).status.success());
    assert!(!site.run(&["pin", "lab.example/none"]).status.success());
    let pinned = site.json(&["pinned", "--json"]);
    assert_eq!(pinned["pinned"].as_array().unwrap().len(), 1, "{pinned}");
    let first = &pinned["pinned"][0];
    assert_eq!(
        (&first["module"], &first["version"]),
        (&"lab.example/b".into(), &"v1.0.0".into())
    );
    let table = site.run(&["pinned"]).stdout;
    assert!(
        String::from_utf8(table)
            .unwrap()
            .contains("lab.example/b@v1.0.0")
    );
    assert_eq!(
        site.run(&["gc"]).status.code(),
        Some(2),
        "it must be told what"
    );

    let plan = site.json(&["gc", "--match", "lab.example/a,lab.example/b", "--json"]);
    assert_eq!(plan["removed"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(
        (&plan["done"], &plan["pinned"]),
        (&false.into(), &1.into()),
        "{plan}"
    );
    assert!(site.kept("a", "zip").is_file(), "nothing was to be done");
    let none = site.json(&["gc", "--older-than", "1d", "--yes", "--json"]);
    assert_eq!(none["removed"].as_array().unwrap().len(), 0, "{none}");

    let done = site.json(&["gc", "--max-size", "0B", "--yes", "--json"]);
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
    for name in ["a", "c"] {
        assert!(!site.kept(name, "zip").exists());
        site.serves_again(name, "zip", 404).await;
    }
    site.serves("b", "zip").await;
    assert_eq!(site.json(&["fsck", "--json"])["checked"], 3);

    assert!(
        site.run(&["unpin", "lab.example/b@v1.0.0"])
            .status
            .success()
    );
    let done = site.json(&["gc", "--max-size", "0B", "--yes", "--json"]);
    assert_eq!(done["removed"].as_array().unwrap().len(), 1, "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_comes_back_and_what_was_altered_does_not() {
    let backups = tempfile::tempdir().unwrap();
    let to = backups.path().to_str().unwrap();
    let site = Site::start(&["a", "b"], "").await;
    let retire = |name: &str| {
        let version = format!("lab.example/{name}@v1.0.0");
        assert!(
            site.run(&["retire", &version, "--reason", "test"])
                .status
                .success()
        );
    };
    retire("a");
    let first = site.json(&["backup", "--json", to]);
    assert!(first["base"].is_null(), "{first}");
    retire("b");
    let second = site.json(&["backup", "--incremental", "--json", to]);
    assert_eq!(second["base"], first["id"], "{second}");
    assert!(second["bytes"].as_u64() < first["bytes"].as_u64());
    let unretired = site.run(&["unretire", "lab.example/a@v1.0.0"]);
    assert!(unretired.status.success(), "{unretired:?}");
    site.serves_again("a", "mod", 200).await;

    // The last one, then the moment of the first; the server takes both over.
    let restored = site.json(&["restore", "--json", to]);
    assert_eq!(restored["id"], second["id"], "{restored}");
    site.serves_again("a", "mod", 410).await;
    site.serves_again("b", "mod", 410).await;
    let between = second["at_ms"].as_i64().unwrap() - 1;
    let at = care::backup::format_time(between);
    let restored = site.json(&["restore", "--json", "--at", &at, to]);
    assert_eq!(restored["id"], first["id"], "{restored}");
    site.serves_again("b", "mod", 200).await;
    site.serves_again("a", "mod", 410).await;
    let early = site.run(&["restore", "--at", "2001-01-01T00:00:00Z", to]);
    assert!(!early.status.success());

    let id = first["id"].as_str().unwrap();
    alter(&backups.path().join(id).join("records.jsonl"));
    let refused = site.run(&["restore", to]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("was altered"),
        "{why}"
    );
    site.serves_again("b", "mod", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_writes_backups_by_itself() {
    let backups = tempfile::tempdir().unwrap();
    let storage = format!(
        "[backup]\nto = {:?}\nevery = \"1h\"\nkeep = 1\n",
        backups.path()
    );
    let site = Site::start(&["a"], &storage).await;
    site.gate.logged("backup written", 1).await;
    let count = site
        .gate
        .metric("modgate_backups_total{result=\"written\"}");
    assert!((count.await - 1.0).abs() < 1e-9);
    let restored = site.json(&["restore", "--json"]);
    assert_eq!(restored["verified"], true, "{restored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_is_counted() {
    let storage = "[backup]\nto = \"/proc/nowhere\"\nevery = \"1h\"\n";
    let site = Site::start(&["a"], storage).await;
    site.gate.logged("the backup failed", 1).await;
    let count = site.gate.metric("modgate_backups_total{result=\"failed\"}");
    assert!((count.await - 1.0).abs() < 1e-9);
}
