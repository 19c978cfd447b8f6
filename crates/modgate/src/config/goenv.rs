//! What Go on this machine is set to: the default of the chain and of the
//! checksum database.
//!
//! Go looks at its environment, then at the file `go env -w` writes, then at
//! `go.env` of its installation (cmd/go: internal/cfg). The `go` program is only
//! run when none of them answers, for start-up must not wait for it.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{env::Env, source::read_limited};

/// Largest env file of Go's, in bytes.
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// Longest output of `go env NAME` that is looked at, in bytes.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;

/// How long `go env` may take.
const GO_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is looked at meanwhile.
const GO_POLL: Duration = Duration::from_millis(5);

/// A value Go would use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoSetting {
    pub(super) value: String,
    /// Where it is set, in words.
    pub(super) from: String,
}

/// The values of one of Go's variables, in the order in which Go prefers them.
/// Files are read as they are reached.
pub(super) fn settings<'e>(env: &'e Env, name: &'e str) -> impl Iterator<Item = GoSetting> + 'e {
    let in_environment = env.get(name).map(|value| GoSetting {
        value: value.to_owned(),
        from: format!("{name} in the environment"),
    });
    let files: [fn(&Env) -> Option<PathBuf>; 2] = [Env::go_env_file, Env::go_root_file];
    in_environment.into_iter().chain(
        files
            .into_iter()
            .filter_map(move |file| in_file(&file(env)?, name)),
    )
}

/// A variable in an env file: `NAME=value` lines, the last one counts, an empty
/// one does not.
fn in_file(path: &Path, name: &str) -> Option<GoSetting> {
    let bytes = read_limited(path, MAX_ENV_FILE_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let value = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
        .next_back()?;
    if value.is_empty() {
        return None;
    }
    Some(GoSetting {
        value: value.to_owned(),
        from: format!("{name} in {}", path.display()),
    })
}

/// What the `go` program itself has built in, if there is one and it answers in time.
pub(super) fn ask_go(env: &Env, name: &str) -> Option<GoSetting> {
    let program = env.go_program()?;
    let mut child = Command::new(&program)
        .args(["env", name])
        .env_clear()
        .envs(&env.vars)
        .env_remove(name)
        // The user's file was read already, and another toolchain must not be fetched.
        .env("GOENV", "off")
        .env("GOTOOLCHAIN", "local")
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let output = child.stdout.take()?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output
            .take(MAX_OUTPUT_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        Some(text)
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < GO_TIMEOUT => thread::sleep(GO_POLL),
            _ => {
                // Its reader may hang on a grandchild: it is left to itself.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    if !status.success() {
        return None;
    }
    let text = reader.join().ok()??;
    let value = text.trim();
    if value.is_empty() {
        return None;
    }
    Some(GoSetting {
        value: value.to_owned(),
        from: format!("`go env {name}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(user: &str, root: &str) -> (tempfile::TempDir, Env) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config/go");
        let goroot = dir.path().join("goroot");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::create_dir_all(&goroot).unwrap();
        std::fs::write(config.join("env"), user).unwrap();
        std::fs::write(goroot.join("go.env"), root).unwrap();
        let folder = dir.path().join("config");
        let env = Env::of([
            ("XDG_CONFIG_HOME", folder.to_str().unwrap()),
            ("GOROOT", goroot.to_str().unwrap()),
        ]);
        (dir, env)
    }

    fn values(env: &Env) -> Vec<String> {
        settings(env, "GOPROXY")
            .map(|setting| setting.value)
            .collect()
    }

    #[test]
    fn the_environment_comes_before_the_files() {
        let (_dir, mut env) = files(
            "GOFLAGS=-v\r\nGOPROXY=https://a.example\r\n",
            "# GOPROXY=x\nGOPROXY=https://b.example,direct\n",
        );
        assert_eq!(
            values(&env),
            ["https://a.example", "https://b.example,direct"]
        );
        env.vars.insert("GOPROXY".to_owned(), "off".to_owned());
        assert_eq!(values(&env)[0], "off");
        env.vars.insert("GOPROXY".to_owned(), String::new());
        assert_eq!(values(&env)[0], "https://a.example");
        env.vars.insert("GOENV".to_owned(), "off".to_owned());
        assert_eq!(values(&env), ["https://b.example,direct"]);
    }

    #[test]
    fn odd_files_say_nothing() {
        let (_dir, env) = files("GOPROXY=\nGOPROXY\nGOPROXYX=y\n\u{0}", "");
        assert_eq!(values(&env), Vec::<String>::new());
    }

    #[cfg(unix)]
    #[test]
    fn the_program_is_asked_with_a_limit() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("go");
        let env = Env::of([
            ("PATH", dir.path().to_str().unwrap()),
            ("GOPROXY", "https://ignored.example"),
        ]);
        for (script, expected) in [
            ("echo \"$1-$2-$GOENV-$GOPROXY\"", Some("env-GOPROXY-off-")),
            ("exit 1", None),
            ("while :; do :; done", None),
        ] {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let start = Instant::now();
            let answer = ask_go(&env, "GOPROXY").map(|setting| setting.value);
            assert_eq!(answer.as_deref(), expected, "{script}");
            assert!(start.elapsed() < GO_TIMEOUT * 2, "{script}");
        }
    }
}
