//! The real `go` command against the lab's checksum database: it accepts an honest one, reached directly and through a
//! proxy, and refuses each lie. So the database is true to the protocol, and its lies are lies a client would notice.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use testkit::sumdb::{LabSumDb, Lie};

const MODULE: &str = "lab.example/Upper/m";
const ESCAPED: &str = "lab.example/!upper/m";
const VERSION: &str = "v1.0.0-RC.1";
const ESCAPED_VERSION: &str = "v1.0.0-!r!c.1";

/// `h1:` of named contents, sorted by name.
fn h1(files: &[(&str, &[u8])]) -> String {
    let lines: String = files.iter().fold(String::new(), |lines, (name, content)| {
        let digest: [u8; 32] = Sha256::digest(content).into();
        let hex = digest
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        format!("{lines}{hex}  {name}\n")
    });
    format!("h1:{}", STANDARD.encode(Sha256::digest(lines)))
}

/// One module in a `file://` GOPROXY tree, and the hashes of its zip and go.mod.
struct Module {
    tree: TempDir,
    zip_h1: String,
    go_mod_h1: String,
}

impl Module {
    fn new() -> Module {
        let go_mod = format!("module {MODULE}\n");
        let prefix = format!("{MODULE}@{VERSION}");
        let names = [format!("{prefix}/go.mod"), format!("{prefix}/m.go")];
        let files = [
            (names[0].as_str(), go_mod.as_bytes()),
            (names[1].as_str(), &b"package m\n"[..]),
        ];
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(content).unwrap();
        }
        let zip = zip.finish().unwrap().into_inner();

        let tree = TempDir::new().unwrap();
        let folder = tree.path().join(ESCAPED).join("@v");
        fs::create_dir_all(&folder).unwrap();
        let write = |kind: &str, content: &[u8]| {
            fs::write(folder.join(format!("{ESCAPED_VERSION}.{kind}")), content).unwrap();
        };
        write("info", format!(r#"{{"Version":"{VERSION}"}}"#).as_bytes());
        write("mod", go_mod.as_bytes());
        write("zip", &zip);
        Module {
            tree,
            zip_h1: h1(&files),
            go_mod_h1: h1(&[("go.mod", go_mod.as_bytes())]),
        }
    }

    fn file_url(&self) -> String {
        format!("file://{}", self.tree.path().display())
    }
}

/// A database with the module in the midst of others.
async fn database(module: &Module) -> LabSumDb {
    let database = LabSumDb::start("sum.lab.example").await.unwrap();
    database.add_others(300);
    database.add(MODULE, VERSION, &module.zip_h1, &module.go_mod_h1);
    database.add_others(300);
    database
}

/// `go mod download` of the module, with no state but what is in `home`.
async fn download(home: &Path, proxy: &str, sumdb: &str) -> Output {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")])
        .current_dir(home)
        .env("GOPROXY", proxy)
        .env("GOSUMDB", sumdb)
        .env("GOPATH", home.join("gopath"))
        .env("GOMODCACHE", home.join("gopath/pkg/mod"))
        .env("GOCACHE", home.join("cache"))
        .env("GOENV", "off")
        .env("GOFLAGS", "-modcacherw")
        .env("GOTOOLCHAIN", "local")
        .env("GO111MODULE", "on")
        .env_remove("GOPRIVATE")
        .env_remove("GONOSUMDB")
        .env_remove("GONOPROXY");
    tokio::task::spawn_blocking(move || go.output())
        .await
        .unwrap()
        .unwrap()
}

/// What go wrote, both streams: with `-json` an error is on standard output.
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn go_accepts_the_honest_database_asked_directly() {
    let module = Module::new();
    let database = database(&module).await;
    let home = TempDir::new().unwrap();
    let output = download(home.path(), &module.file_url(), &database.gosumdb()).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(&module.zip_h1));
    assert_eq!(
        database.count(&format!("/lookup/{ESCAPED}@{ESCAPED_VERSION}")),
        1
    );
    assert_eq!(
        database.count("/supported"),
        0,
        "with a URL there is no proxy to ask"
    );
    assert!(
        database
            .requests()
            .keys()
            .any(|path| path.starts_with("/tile/8/0/001")),
        "{:?}",
        database.requests()
    );

    // The same client comes back when the log has grown: the database must continue its own past.
    database.add_others(500);
    fs::remove_dir_all(home.path().join("gopath/pkg/mod")).unwrap();
    let output = download(home.path(), &module.file_url(), &database.gosumdb()).await;
    assert!(output.status.success(), "{}", said(&output));
}

#[tokio::test]
async fn go_accepts_the_honest_database_behind_a_proxy() {
    let module = Module::new();
    let database = database(&module).await;
    let home = TempDir::new().unwrap();
    // The database answers 404 for modules, so the chain goes on to the folder for those.
    let chain = format!("{},{}", database.url(), module.file_url());
    let output = download(home.path(), &chain, &database.key().to_string()).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(database.count("/supported"), 1);
    assert_eq!(
        database.count(&format!("/lookup/{ESCAPED}@{ESCAPED_VERSION}")),
        1
    );
}

#[tokio::test]
async fn go_refuses_each_lie() {
    let module = Module::new();
    let cases = [
        (Lie::ForgedTiles, "inconsistent tile"),
        (Lie::NarrowTiles, "bad result slice"),
        (Lie::TruncatedTiles, "bad result slice"),
        (Lie::OldHead { size: 200 }, "cannot validate record"),
        (Lie::WrongKey, "no verifiable signatures"),
        (
            Lie::OtherModulesRecord,
            "checksum missing from sumdb response",
        ),
        (Lie::OtherModulesHashes, "cannot authenticate record data"),
        (Lie::ExtraLines, "cannot authenticate record data"),
        (Lie::IdOutsideTree, "cannot validate record"),
        (Lie::LookupNotFound, "404 Not Found"),
        (Lie::ServerError, "500 Internal Server Error"),
        (Lie::Unreachable, "connection refused"),
    ];
    for (lie, expected) in cases {
        let database = database(&module).await;
        database.lie(lie.clone()).await;
        let home = TempDir::new().unwrap();
        let output = download(home.path(), &module.file_url(), &database.gosumdb()).await;
        assert!(!output.status.success(), "{lie:?}: {}", said(&output));
        assert!(
            said(&output).contains(expected),
            "{lie:?}: {}",
            said(&output)
        );

        // A client without a past: go keeps a lookup whose proof held, also that of another module.
        let home = TempDir::new().unwrap();
        database.be_honest().await;
        let output = download(home.path(), &module.file_url(), &database.gosumdb()).await;
        assert!(
            output.status.success(),
            "honest again after {lie:?}: {}",
            said(&output)
        );
    }
}

#[tokio::test]
async fn go_sees_a_fork_only_with_a_past() {
    let module = Module::new();
    let database = database(&module).await;
    let home = TempDir::new().unwrap();
    let output = download(home.path(), &module.file_url(), &database.gosumdb()).await;
    assert!(output.status.success(), "{}", said(&output));

    // The client forgets the module and its lookup, but neither the head it has seen nor the tiles of that tree. By
    // 300 records the log outgrows all those tiles: one that the client had would not fit the forked root, and go
    // would call that a bad tile, not a fork.
    let kept = home.path().join("gopath/pkg/mod/cache/download");
    fs::remove_dir_all(kept.join("lab.example")).unwrap();
    fs::remove_dir_all(kept.join("sumdb/sum.lab.example/lookup")).unwrap();
    database.add_others(300);
    database.lie(Lie::ForkedTree { at: 5 }).await;
    let output = download(home.path(), &module.file_url(), &database.gosumdb()).await;
    assert!(!output.status.success());
    assert!(
        said(&output).contains("SECURITY ERROR"),
        "{}",
        said(&output)
    );
}
