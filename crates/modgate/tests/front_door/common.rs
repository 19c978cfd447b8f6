//! What most tests begin with.

use std::{path::Path, time::Duration};

use testkit::{
    fixture::Module,
    gate::{Modgate, Options, Reply},
    lab::Lab,
    sumdb::LabSumDb,
};

/// The program under test.
pub(crate) fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_modgate"))
}

/// A command of it. The variable that leaves a test out is no setting, and would be refused as one.
pub(crate) fn command() -> std::process::Command {
    let mut command = std::process::Command::new(bin());
    command.env_remove("MODGATE_TEST_OFFLINE");
    command
}

/// A gateway with this lab as its only upstream.
pub(crate) async fn gate(lab: &Lab, sumdb: &str, config: &str) -> Modgate {
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.to_owned()),
        config: Some(config.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// A small module `lab.example/<name>` at v1.0.0.
pub(crate) fn module(name: &str) -> Module {
    Module::new(&format!("lab.example/{name}"), "v1.0.0").file("a.go", "package a\n".repeat(200))
}

/// A lab with these modules, which passes on a checksum database that knows them.
pub(crate) async fn verified_lab(modules: &[Module]) -> (Lab, LabSumDb) {
    let (lab, sumdb) = (
        Lab::start().await,
        LabSumDb::start("sum.lab.example").await.unwrap(),
    );
    for module in modules {
        record(&sumdb, module);
        lab.add(module.clone());
    }
    lab.pass_sumdb(&sumdb.url());
    (lab, sumdb)
}

/// Lets the database know a module.
pub(crate) fn record(sumdb: &LabSumDb, module: &Module) {
    sumdb.add(
        module.path(),
        module.version(),
        &module.h1(),
        &module.go_mod_h1(),
    );
}

/// Files below a folder, however deep.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Zips that are kept in this data folder.
pub(crate) fn kept_zips(folder: &Path) -> usize {
    let zip = |path: &std::path::PathBuf| path.extension().is_some_and(|ending| ending == "zip");
    files(&folder.join("go")).into_iter().filter(zip).count()
}

/// The stable code of a refusal: the end of its first line. Empty if it has none.
pub(crate) fn code(reply: &Reply) -> String {
    let text = reply.text();
    let first = text.lines().next().unwrap_or_default();
    assert!(first.len() < 200, "{first}");
    first
        .strip_suffix(']')
        .and_then(|line| line.rsplit_once("[modgate: "))
        .map_or_else(String::new, |(_, code)| code.to_owned())
}

/// Waits until no temporary file is left: what a request leaves behind is written and removed after its answer.
pub(crate) async fn no_temporary_files(gate: &Modgate) {
    let folder = gate.data_dir().join("tmp");
    eventually("temporary files go", async || files(&folder).is_empty()).await;
}

/// Waits until something is so that nothing announces, at most 30 s, as machines that build beside their tests are slow.
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    for _ in 0..1500 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within 30 s: {what}");
}
