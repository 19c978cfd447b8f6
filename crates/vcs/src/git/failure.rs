//! What a failure of git means. Its exit code says nothing, so its words are read; they are git's and curl's own, in
//! English by the environment it runs in. What is not known is the network's or the server's trouble, never absence.

use egress::{Ask, Egress};

use crate::process::Exit;
use crate::reach::Way;
use crate::words::bare;
use crate::{DirectError, ErrorKind, ssh};

/// Longest wait for what a URL answers.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// Words, and what they mean. The first that are found count. Names are taken out of the text before.
const MEANINGS: &[(&str, ErrorKind)] = &[
    ("could not read username for", ErrorKind::Unauthorized),
    ("could not read password for", ErrorKind::Unauthorized),
    ("could not read username", ErrorKind::Unauthorized),
    ("could not read password", ErrorKind::Unauthorized),
    ("fatal: authentication failed for", ErrorKind::Unauthorized),
    ("invalid credentials", ErrorKind::Unauthorized),
    (
        "the requested url returned error: 401",
        ErrorKind::Unauthorized,
    ),
    (
        "the requested url returned error: 403",
        ErrorKind::Unauthorized,
    ),
    ("permission denied (", ErrorKind::Unauthorized),
    ("host key verification failed.", ErrorKind::Unavailable),
    ("fatal: transport not allowed", ErrorKind::Refused),
    ("the requested url returned error: 404", ErrorKind::NotFound),
    ("the requested url returned error: 410", ErrorKind::NotFound),
    ("fatal: repository not found", ErrorKind::NotFound),
    ("error: repository not found.", ErrorKind::NotFound),
    // Of Gitea and Forgejo over ssh.
    ("error: cannot find repository:", ErrorKind::NotFound),
    (
        "fatal: does not appear to be a git repository",
        ErrorKind::NotFound,
    ),
    ("no space left on device", ErrorKind::DiskFull),
    ("disk quota exceeded", ErrorKind::DiskFull),
    ("operation timed out", ErrorKind::Timeout),
    ("operation too slow", ErrorKind::Timeout),
    ("connection timed out", ErrorKind::Timeout),
];

/// Words of forges over ssh to one who may not see a repository, or asks for one that is not there: most do not tell
/// these apart. No name has them, since names have no spaces.
const DENIALS: &[&str] = &[
    // Of GitLab, Bitbucket and Azure DevOps.
    "or you don't have permission",
    "or you do not have permission",
    // Of gitolite, below the rule that denied it.
    "(or you mis-spelled the reponame)",
    // Of Gitea and Forgejo.
    "is not authorized to read",
];

/// What it means that something answers, and is no git.
const PAGE: &str = "there is a page at this address, but no git repository";

/// What to do about a certificate that is not trusted.
pub(crate) const NOT_TRUSTED: &str =
    "add the authority of the server's certificate to network.ca_file";

/// Words about certificates that are not trusted, of OpenSSL and GnuTLS.
const CERTIFICATES: [&str; 3] = [
    "ssl certificate problem",
    "server certificate verification failed",
    "certificate verify failed",
];

/// Words of curl and of the server where a proxy wants another login.
const PROXY_REFUSES: [&str; 3] = [
    "connect tunnel failed, response 407",
    "http code 407 from proxy",
    "the requested url returned error: 407",
];

/// What to do about it.
const PROXY_LOGIN: &str = "the proxy wants another user or password: they belong in the URL of network.proxy, escaped as in every URL";

/// Words where a client certificate cannot be used, or the server does not take it, of GnuTLS, OpenSSL and curl.
const CLIENT_CERTIFICATES: [&str; 8] = [
    "fatal alert",
    "alert bad certificate",
    "alert certificate",
    "alert unknown ca",
    "error reading x.509 key",
    "could not load pem client certificate",
    "unable to set private key file",
    "problem with the local ssl certificate",
];

/// What to check of the client certificate in use.
fn client_certificate(way: &Way) -> Option<String> {
    let (cert, key) = (way.setting("http.sslCert")?, way.setting("http.sslKey")?);
    Some(format!(
        "the client certificate {cert} with the key {key} was used for {}: check that modgate can read both, that they belong \
         together and are PEM without passphrase, that it has not expired, and that the server trusts its authority",
        way.url
    ))
}

/// The error of a git that asked a repository and failed.
pub(crate) fn failed(what: &str, way: &Way, exit: &Exit) -> DirectError {
    // What the server itself says is no meaning, but for that it denies something: forges tell it that way.
    let mut ours = bare(&exit.stderr);
    let denies = |line: &String| DENIALS.iter().any(|words| line.contains(words));
    let denied = ours.iter().any(denies);
    ours.retain(|line| !line.starts_with("remote:"));
    let says = |words: &str| ours.iter().any(|line| line.contains(words));
    let meaning = MEANINGS.iter().find(|(words, _)| says(words));
    let kind = match meaning {
        Some((_, kind)) => *kind,
        None if denied => ErrorKind::Unauthorized,
        None => ErrorKind::Unavailable,
    };
    let said = masked(&exit.said());
    let error = DirectError::new(kind, format!("{what}: {said}"));
    if let Some(hint) = ssh::hint(way, &exit.stderr) {
        return error.hint(hint);
    }
    match kind {
        ErrorKind::Unauthorized => error.hint(way.advice()),
        ErrorKind::Unavailable if CERTIFICATES.iter().any(|words| says(words)) => {
            error.hint(NOT_TRUSTED)
        }
        ErrorKind::Unavailable if PROXY_REFUSES.iter().any(|words| says(words)) => {
            error.hint(PROXY_LOGIN)
        }
        ErrorKind::Unavailable if CLIENT_CERTIFICATES.iter().any(|words| says(words)) => {
            match client_certificate(way) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        ErrorKind::Unavailable if says("is this a git repository?") => error.hint(PAGE),
        ErrorKind::DiskFull => error.hint(
            "make room on the disk of the folder of mirrors (vcs/ in the data folder), or lower direct.max_mirror_bytes",
        ),
        _ => error,
    }
}

/// The page at a repository's own URL, which tells whether there is anything.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) egress: Egress,
    /// Whether it is asked with our credentials.
    pub(crate) credentials: bool,
}

impl Page {
    /// What it means that references were not to be had: over http that there is no repository, if its URL itself is
    /// answered 404 or 410, and else anything but that (protocol.md 8.2). Forges want a login for what they do not have,
    /// and then tell by the page.
    pub(crate) async fn judge(&self, error: DirectError, way: &Way) -> DirectError {
        let unclear = matches!(
            error.kind,
            ErrorKind::NotFound | ErrorKind::Unauthorized | ErrorKind::Unavailable
        );
        // A credential that is refused says nothing of what there is; it may be renewed, and asked with again.
        if error.kind == ErrorKind::Unauthorized && way.grant.is_some() {
            return error;
        }
        let Ok(url) = way.url.parse::<reqwest::Url>() else {
            return error;
        };
        if !unclear || !matches!(url.scheme(), "http" | "https") || is_redirect(&error) {
            return error;
        }
        let ask = Ask {
            plain_http: url.scheme() == "http",
            url,
            timeout: WITHIN,
            credentials: self.credentials,
        };
        let status = self.egress.open(ask).await.map(|answer| answer.status());
        match (status, error.kind) {
            (Ok(404 | 410), ErrorKind::NotFound) => error,
            (Ok(404 | 410), ErrorKind::Unavailable) if !is_denial(&error) => error,
            (Ok(status @ (404 | 410)), _) => DirectError {
                kind: ErrorKind::NotFound,
                text: format!("{} answered {status} ({})", way.url, error.text),
                hint: error.hint,
            },
            (Ok(status), ErrorKind::NotFound) => DirectError {
                kind: ErrorKind::Unavailable,
                text: format!("{}, though {} answered {status}", error.text, way.url),
                hint: Some(PAGE.to_owned()),
            },
            (Err(_), ErrorKind::NotFound) => DirectError {
                kind: ErrorKind::Unavailable,
                ..error
            },
            _ => error,
        }
    }
}

/// The error of an address that answers what git asks with something that git takes for an empty list.
pub(crate) fn page_only(way: &Way) -> DirectError {
    let text = format!(
        "the references of {}: what came is no list of references",
        way.url
    );
    DirectError::new(ErrorKind::Unavailable, text).hint(PAGE)
}

/// Whether git was redirected, which it does not follow.
pub(crate) fn is_redirect(error: &DirectError) -> bool {
    let is = |status: &&str| error.text.contains(&format!("returned error: {status}"));
    ["301", "302", "303", "307", "308"].iter().any(is)
}

/// Whether git was refused, or told something that is no repository's. A server in trouble, and one that broke off, says
/// nothing of what it has, though it may have no page at a repository's address.
fn is_denial(error: &DirectError) -> bool {
    let says = |words: &str| error.text.contains(words);
    let for_now = ["408", "425", "429"].iter();
    let mut for_now = for_now.map(|status| format!("returned error: {status}"));
    says("is this a git repository")
        || says("returned error: 4") && !for_now.any(|words| says(&words))
}

/// Whether a server said of a commit that it lists itself that it has it not: git's words and JGit's.
pub(crate) fn says_missing(error: &DirectError, hash: &str) -> bool {
    let text = &error.text;
    text.contains(&format!("not our ref {hash}"))
        || text.contains(&format!("want {hash} not valid"))
}

/// Whether a server did not send all that belongs to what was asked for, as git found out.
pub(crate) fn is_incomplete(error: &DirectError) -> bool {
    error.text.contains("did not send all necessary objects")
}

/// The error of a server that did so, though it was told of nothing that is not here.
pub(crate) fn incomplete(way: &Way, error: &DirectError) -> DirectError {
    let text = format!(
        "{}: the server did not send all objects of what was asked for ({})",
        way.url, error.text
    );
    DirectError::new(ErrorKind::Unavailable, text).hint(
        "the repository is damaged, or something on the way to it leaves objects out: `git clone` shows it too",
    )
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
    fn proxies_and_client_certificates_have_hints() {
        let plain = Way {
            url: "https://a.com/m".to_owned(),
            ..Way::default()
        };
        let files = [("http.sslCert", "/c.pem"), ("http.sslKey", "/k.pem")];
        let with = Way {
            config: files
                .map(|(key, file)| (key.to_owned(), file.to_owned()))
                .to_vec(),
            ..plain.clone()
        };
        let tunnel = "CONNECT tunnel failed, response 407";
        let alert = "GnuTLS recv error (-12): A TLS fatal alert has been received.";
        let unread = "error reading X.509 key or certificate file: Error while reading file.";
        for (way, why, want) in [
            (&plain, tunnel, Some("network.proxy")),
            (&with, tunnel, Some("network.proxy")),
            (
                &with,
                alert,
                Some("client certificate /c.pem with the key /k.pem"),
            ),
            (
                &with,
                unread,
                Some("client certificate /c.pem with the key /k.pem"),
            ),
            (&plain, alert, None),
        ] {
            let exit = Exit {
                code: Some(128),
                stderr: format!("fatal: unable to access 'https://a.com/m/': {why}"),
                ..Exit::default()
            };
            let error = failed("x", way, &exit);
            assert_eq!(error.kind, ErrorKind::Unavailable);
            match want {
                Some(want) => assert!(error.hint.as_ref().unwrap().contains(want), "{error:?}"),
                None => assert_eq!(error.hint, None),
            }
        }
    }

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
                "fatal: unable to access 'https://a.com/m/': The requested URL returned error: 404",
                ErrorKind::NotFound,
            ),
            (
                "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
                ErrorKind::NotFound,
            ),
            (
                "error:\nerror: Cannot find repository: team/m\nerror:\n\
                 fatal: Could not read from remote repository.",
                ErrorKind::NotFound,
            ),
            (
                "error:\nerror: User: 2:eve with Key: 2:k2 is not authorized to read team/m.\nerror:\n\
                 fatal: Could not read from remote repository.",
                ErrorKind::Unauthorized,
            ),
            (
                "FATAL: R any m bob DENIED by fallthru\n(or you mis-spelled the reponame)\n\
                 fatal: Could not read from remote repository.",
                ErrorKind::Unauthorized,
            ),
            (
                "remote: ERROR: The project you were looking for could not be found or you don't have permission \
                 to view it.\nremote: \nfatal: Could not read from remote repository.",
                ErrorKind::Unauthorized,
            ),
            // None of these says anything of what exists.
            ("sh: 1: ssh: not found", ErrorKind::Unavailable),
            (
                "ssh: Could not resolve hostname 'not found': Name or service not known",
                ErrorKind::Unavailable,
            ),
            (
                "fatal: unable to access 'https://a.com/not found/returned error: 404/': Recv failure: Connection reset by peer",
                ErrorKind::Unavailable,
            ),
            (
                "fatal: '/team/repository not found.git': the remote end hung up",
                ErrorKind::Unavailable,
            ),
            (
                "fatal: repository 'https://a.com/team/certificate.git/' not found",
                ErrorKind::NotFound,
            ),
            (
                "git@a.com: Permission denied (publickey).",
                ErrorKind::Unauthorized,
            ),
            // Not of the login: it did not come to that.
            (
                "No ED25519 host key is known for a.com and you have requested strict checking.\n\
                 Host key verification failed.\nfatal: Could not read from remote repository.",
                ErrorKind::Unavailable,
            ),
            (
                "fatal: write error: No space left on device",
                ErrorKind::DiskFull,
            ),
            ("", ErrorKind::Unavailable),
        ] {
            let exit = Exit {
                code: Some(128),
                stderr: stderr.to_owned(),
                ..Exit::default()
            };
            assert_eq!(failed("x", &way, &exit).kind, kind, "{stderr}");
        }
        let exit = Exit {
            code: Some(128),
            stderr: "fatal: unable to access 'https://u:secret@a.com/m/': x".to_owned(),
            ..Exit::default()
        };
        assert!(!failed("x", &way, &exit).text.contains("secret"));
    }
}
