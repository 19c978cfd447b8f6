//! The command git, with nothing of the machine's or a repository's own configuration.

use std::path::Path;

use tokio::process::Command;

use crate::process;
use crate::reach::Way;

/// What holds for every git. None of it is a repository's to decide.
const CONFIG: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("core.logAllRefUpdates", "false"),
    // A mirror that a crash damages is made anew; waiting for the disk buys nothing.
    ("core.fsync", "none"),
    ("core.autocrlf", "input"),
    ("core.eol", "lf"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.unpackLimit", "1"),
    ("transfer.bundleURI", "false"),
    ("protocol.version", "2"),
    ("http.followRedirects", "false"),
    // As our own client does: some proxies hang up on who asks first without the password.
    ("http.proxyAuthMethod", "basic"),
    // Servers say something every few seconds while they work.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
];

/// A git that works on a mirror and does not touch the network.
pub(crate) fn local(mirror: &Path) -> Command {
    let mut command = process::command("git", mirror);
    environment(&mut command, mirror);
    configure(&mut command, &[]);
    command
}

/// A git that asks a repository. `mirror` is where its objects go, which need not exist if there are none.
pub(crate) fn remote(mirror: &Path, home: &Path, way: &Way) -> Command {
    let mut command = process::command("git", home);
    environment(&mut command, mirror);
    configure(&mut command, &way.config);
    let scheme = way.url.split("://").next().unwrap_or_default();
    let protocol = if scheme == "git+ssh" { "ssh" } else { scheme };
    command.env("GIT_ALLOW_PROTOCOL", protocol);
    command.env("GIT_SSH_VARIANT", "ssh");
    for (key, value) in &way.env {
        command.env(key, value);
    }
    command
}

fn environment(command: &mut Command, mirror: &Path) {
    command
        .env("GIT_DIR", mirror)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "")
        .env("SSH_ASKPASS_REQUIRE", "never")
        .env("GCM_INTERACTIVE", "never")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_ALLOW_PROTOCOL", "none");
}

/// Configuration by environment: it may hold secrets, and a command line can be read by everybody.
fn configure(command: &mut Command, more: &[(String, String)]) {
    let fixed = CONFIG.iter().copied();
    let more = more
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let mut count = 0;
    for (key, value) in fixed.chain(more) {
        command.env(format!("GIT_CONFIG_KEY_{count}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string());
}
