//! What a failure of git means. Its exit code says nothing, so its words are read; they are git's and curl's own, in
//! English by the environment it runs in. What is not known is the network's or the server's trouble, never absence.

use crate::process::Exit;
use crate::reach::Way;
use crate::{DirectError, ErrorKind};

/// Words, and what they mean. The first that are found count.
const MEANINGS: &[(&str, ErrorKind)] = &[
    ("could not read username", ErrorKind::Unauthorized),
    ("could not read password", ErrorKind::Unauthorized),
    ("authentication failed", ErrorKind::Unauthorized),
    ("invalid credentials", ErrorKind::Unauthorized),
    ("returned error: 401", ErrorKind::Unauthorized),
    ("returned error: 403", ErrorKind::Unauthorized),
    ("permission denied (", ErrorKind::Unauthorized),
    ("host key verification failed", ErrorKind::Unauthorized),
    ("certificate", ErrorKind::Unavailable),
    ("transport 'file' not allowed", ErrorKind::Refused),
    ("not allowed", ErrorKind::Refused),
    ("returned error: 404", ErrorKind::NotFound),
    ("returned error: 410", ErrorKind::NotFound),
    ("' not found", ErrorKind::NotFound),
    ("repository not found", ErrorKind::NotFound),
    (
        "does not appear to be a git repository",
        ErrorKind::NotFound,
    ),
    ("no space left on device", ErrorKind::Disk),
    ("operation timed out", ErrorKind::Timeout),
    ("operation too slow", ErrorKind::Timeout),
    ("connection timed out", ErrorKind::Timeout),
];

/// The error of a git that asked a repository and failed.
pub(crate) fn failed(what: &str, way: &Way, exit: &Exit) -> DirectError {
    // What the server itself says is no meaning.
    let ours = exit
        .stderr
        .lines()
        .filter(|line| !line.starts_with("remote:"));
    let lower = ours.collect::<Vec<_>>().join("\n").to_lowercase();
    let meaning = MEANINGS.iter().find(|(words, _)| lower.contains(words));
    let kind = meaning.map_or(ErrorKind::Unavailable, |(_, kind)| *kind);
    let said = exit
        .stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let said = said.collect::<Vec<_>>().join("; ");
    let said = if said.is_empty() {
        format!("{:?}", exit.code)
    } else {
        masked(&said)
    };
    let error = DirectError::new(kind, format!("{what}: {said}"));
    match kind {
        ErrorKind::Unauthorized => {
            let used = way.credential.as_deref().unwrap_or("no credential");
            error.hint(format!(
                "{used} was used for {}: check that it is right and may read the repository, or add a [[credential]]",
                way.url
            ))
        }
        ErrorKind::Unavailable if lower.contains("certificate") => {
            error.hint("add the authority of the server's certificate to network.ca_file")
        }
        _ => error,
    }
}

/// Without userinfo of URLs.
fn masked(text: &str) -> String {
    let words = text
        .split(' ')
        .map(|word| match (word.find("://"), word.rfind('@')) {
            (Some(scheme), Some(at)) if scheme < at => {
                format!("{}***{}", &word[..scheme + 3], &word[at..])
            }
            _ => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        let way = Way {
            url: "https://a.com/m".to_owned(),
            ..Way::default()
        };
        for (stderr, kind) in [
            (
                "fatal: could not read Username for 'https://a.com': terminal prompts disabled",
                ErrorKind::Unauthorized,
            ),
            (
                "fatal: repository 'https://a.com/m/' not found",
                ErrorKind::NotFound,
            ),
            (
                "fatal: unable to access 'https://a.com/m/': Failed to connect to a.com port 443: Connection refused",
                ErrorKind::Unavailable,
            ),
            (
                "fatal: unable to access 'https://a.com/m/': The requested URL returned error: 503",
                ErrorKind::Unavailable,
            ),
            (
                "git@a.com: Permission denied (publickey).",
                ErrorKind::Unauthorized,
            ),
            ("", ErrorKind::Unavailable),
        ] {
            let exit = Exit {
                code: Some(128),
                stderr: stderr.to_owned(),
            };
            assert_eq!(failed("x", &way, &exit).kind, kind, "{stderr}");
        }
        let exit = Exit {
            code: Some(128),
            stderr: "fatal: unable to access 'https://u:secret@a.com/m/': x".to_owned(),
        };
        assert!(!failed("x", &way, &exit).text.contains("secret"));
    }
}
