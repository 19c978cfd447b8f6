//! `modgate check` and `modgate completions`, by the real binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    process::{Command, Output},
};

/// The binary in an environment of its own.
fn modgate(home: &Path, args: &[&str], vars: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_modgate"))
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("GOROOT", home)
        .envs(vars.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A home with a configuration file.
fn home(toml: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("modgate.toml");
    std::fs::write(&file, toml).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (dir, file)
}

#[test]
fn a_good_configuration_is_printed_with_its_origins() {
    let (dir, file) = home(
        "chain = \"https://u:hunter2@up.example\"\n[upstream.\"https://up.example\"]\nheaders = { X-Key = \"hunter2\" }\n",
    );
    let args = ["check", "--config", &file, "--listen", "127.0.0.1:4000"];
    let output = modgate(dir.path(), &args, &[("MODGATE_LOG_LEVEL", "debug")]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for line in [
        "listen = \"127.0.0.1:4000\"  # flag --listen".to_owned(),
        "level = \"debug\"  # environment MODGATE_LOG_LEVEL".to_owned(),
        format!("chain = \"https://***@up.example\"  # {file}:1"),
        format!("headers = {{ x-key = \"***\" }}  # {file}:3"),
        "max_connections = 4096  # default".to_owned(),
        "# public_url is not set".to_owned(),
    ] {
        assert!(out.contains(&line), "{line}\n{out}");
    }
    assert!(!out.contains("hunter2") && !text(&output.stderr).contains("hunter2"));
    assert!(out.parse::<toml::Table>().is_ok(), "{out}");
}

#[test]
fn a_process_without_a_home_keeps_in_the_folder_of_the_system() {
    let output = Command::new(env!("CARGO_BIN_EXE_modgate"))
        .arg("check")
        .env_clear()
        .output()
        .unwrap();
    let line = "data = \"/var/lib/modgate\"  # default: the system's folder, since the process has no home";
    let out = text(&output.stdout);
    assert!(out.contains(line), "{out}");
}

#[test]
fn the_digest_is_of_what_replicas_have_in_common() {
    let digest = |toml: &str, vars: &[(&str, &str)]| {
        let (dir, file) = home(toml);
        let output = modgate(dir.path(), &["check", "--json", "--config", &file], vars);
        assert!(output.status.success(), "{}", text(&output.stdout));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["digest"].as_str().unwrap().to_owned()
    };
    let plain = "chain = \"https://up.example\"\nprivate = [\"corp.example\"]\n";
    let first = digest(plain, &[]);
    assert_eq!(first.len(), 32);
    let own = "listen = \"127.0.0.1:4000\"\ndata = \"/elsewhere\"\n".to_owned() + plain;
    assert_eq!(digest(&own, &[("MODGATE_LOG_LEVEL", "debug")]), first);
    for other in [
        plain.replace("corp", "core"),
        format!("{plain}[[route]]\nmatch = [\"a.example\"]\nchain = \"off\"\n"),
        format!("{plain}[limits]\nmax_connections = 7\n"),
    ] {
        assert_ne!(digest(&other, &[]), first, "{other}");
    }
    assert_ne!(digest(plain, &[("MODGATE_MODE", "none")]), first);
}

#[test]
fn mistakes_end_with_exit_code_1_and_all_of_them() {
    let (dir, file) = home("lisen = \"x\"\nmode = \"asinc\"\n");
    let output = modgate(dir.path(), &["check", "--config", &file], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let expected = format!(
        "error: unknown key `lisen` at the top of the file
 --> {file}:1:1
  |
1 | lisen = \"x\"
  | ^^^^^
  = hint: did you mean `listen`?

error: `asinc` is not possible here
 --> {file}:2:8
  |
2 | mode = \"asinc\"
  |        ^^^^^^^
  = hint: did you mean \"async\"?

2 mistakes in the configuration
"
    );
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn json_is_for_machines() {
    let (dir, file) = home("mode = \"none\"");
    let output = modgate(dir.path(), &["check", "--json", "--config", &file], &[]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], true);
    let settings = json["settings"].as_array().unwrap();
    let setting = |name: &str| settings.iter().find(|s| s["name"] == name).unwrap();
    assert_eq!(setting("mode")["value"], "none");
    assert_eq!(setting("mode")["origin"], "file");
    assert_eq!(setting("mode")["line"], 1);
    assert_eq!(setting("limits.max_connections")["value"], 4096);
    assert_eq!(setting("public_url")["value"], serde_json::Value::Null);
    assert_eq!(setting("chain")["origin"], "found");

    let args = ["check", "--json", "--config", &file, "--upstream", "drect"];
    let output = modgate(dir.path(), &args, &[]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["mistakes"][0]["place"], "flag --upstream");
    assert_eq!(json["mistakes"][0]["hint"], "did you mean `direct`?");
}

#[test]
fn flags_of_the_contract_are_taken() {
    let (dir, _) = home("");
    let data = dir.path().join("data");
    let args = [
        "check",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data.to_str().unwrap(),
        "--upstream",
        "https://goproxy.cn|https://goproxy.io,direct",
        "--sumdb",
        "off",
    ];
    let output = modgate(dir.path(), &args, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("name = \"off\"  # flag --sumdb"));
    assert!(!data.exists(), "check leaves nothing behind");
}

#[test]
fn completions_are_printed() {
    let (dir, _) = home("");
    for shell in ["bash", "zsh", "fish"] {
        let output = modgate(dir.path(), &["completions", shell], &[]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("unretire"), "{shell}");
    }
    let output = modgate(dir.path(), &["completions", "csh"], &[]);
    assert_eq!(output.status.code(), Some(2));
}
