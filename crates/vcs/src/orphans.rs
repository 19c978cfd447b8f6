//! Children that outlive us: whoever kills modgate outright leaves them running, and writing.

use std::path::Path;
use std::sync::OnceLock;

/// The variable that each child has, with the word of the process that started it.
pub(crate) const MARK: &str = "MODGATE_CHILD";

/// A word that no earlier process had.
pub(crate) fn run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        let mut random = [0; 8];
        // Without randomness the process id must do.
        if getrandom::fill(&mut random).is_err() {
            random = u64::from(std::process::id()).to_le_bytes();
        }
        hex::encode(random)
    })
}

/// Kills what an earlier process left running in `folder`, which is ours alone. Waits for the disk.
#[cfg(target_os = "linux")]
pub(crate) fn end(folder: &Path) {
    use rustix::process::{Pid, Signal, kill_process};

    let Ok(folder) = folder.canonicalize() else {
        return;
    };
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else {
            continue;
        };
        let place = process.path();
        let inside =
            std::fs::read_link(place.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
        // What is none of our business cannot be read.
        if inside && std::fs::read(place.join("environ")).is_ok_and(|vars| is_orphan(&vars)) {
            tracing::warn!(
                pid = id.as_raw_nonzero().get(),
                "a child of an earlier modgate is ended"
            );
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end(_: &Path) {}

/// Whether these variables are of a child, but of none of ours.
#[cfg(target_os = "linux")]
fn is_orphan(variables: &[u8]) -> bool {
    let marks = variables
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="));
    marks.into_iter().any(|mark| mark != run().as_bytes())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn orphans_end_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("m.git");
        std::fs::create_dir(&inside).unwrap();
        let sleeper = |place: &Path, mark: Option<&str>| {
            let mut command = Command::new("sleep");
            command.arg("1000").current_dir(place);
            command.envs(mark.map(|mark| (MARK, mark)));
            command.spawn().unwrap()
        };
        let mut orphan = sleeper(&inside, Some("earlier"));
        let mut spared = [
            sleeper(&inside, Some(run())),
            // Somebody who looks around there.
            sleeper(&inside, None),
            sleeper(Path::new("/"), Some("earlier")),
        ];
        end(folder.path());
        assert!(!orphan.wait().unwrap().success());
        for child in &mut spared {
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
