//! Signals for a process and all that descend from it. A process group is not enough: the backends of PostgreSQL are
//! sessions of their own.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, kill_process};

/// Stops a process and all its descendants.
pub(super) fn stop(root: u32) {
    let mut stopped = Vec::new();
    // What is stopped makes no more children, so this ends.
    loop {
        let new: Vec<u32> = family(root)
            .into_iter()
            .filter(|pid| !stopped.contains(pid))
            .collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            send(pid, Signal::STOP);
            stopped.push(pid);
        }
    }
}

/// Lets a process and all its descendants go on.
pub(super) fn resume(root: u32) {
    for pid in family(root) {
        send(pid, Signal::CONT);
    }
}

/// Kills a process and all its descendants.
pub(super) fn kill(root: u32) {
    stop(root);
    for pid in family(root) {
        send(pid, Signal::KILL);
    }
}

/// A process and all its descendants, it first.
fn family(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        // It may have ended since.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.remove(pid).into_iter().flatten());
        next += 1;
    }
    family
}

/// The parent's id in a line of `/proc/<pid>/stat`. The name before it is in parentheses and may have any character.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The only error that matters to nobody is that it has ended.
fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_is_found_behind_any_name() {
        for (stat, expected) in [
            ("12 (redis-server) S 7 12 12 0", Some(7)),
            ("12 (a) S 9 (b)) R 8 12", Some(8)),
            ("", None),
            ("12 (x) S", None),
        ] {
            assert_eq!(parent(stat), expected, "{stat}");
        }
    }
}
