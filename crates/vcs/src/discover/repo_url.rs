//! URLs of repositories: which ones are asked at all.

use reqwest::Url;

use super::root::Kind;
use crate::{DirectError, ErrorKind};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Reads a repository's URL as a stranger or an administrator wrote it. `insecure` allows schemes without encryption.
pub(crate) fn check(vcs: Kind, text: &str, insecure: bool) -> Result<Url, DirectError> {
    let shown = show(text);
    let refused = |why: &str| DirectError {
        kind: ErrorKind::Refused,
        text: format!("the repository {shown} is not asked: {why}"),
        hint: None,
    };
    if text.len() > MAX_URL || !text.chars().all(|c| c.is_ascii_graphic() && c != '\\') {
        return Err(refused("no URL has these characters, or is that long"));
    }
    // Escaped, but programs decode it.
    let control = |escape: &str| {
        escape
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .is_some_and(|byte| byte.is_ascii_control())
    };
    if text.split('%').skip(1).any(control) {
        return Err(refused("it has a control character in it"));
    }
    if !text.contains("://") {
        return Err(refused("it has no scheme"));
    }
    let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
    let Some((_, encrypted)) = vcs
        .schemes()
        .iter()
        .find(|(scheme, _)| *scheme == url.scheme())
    else {
        return Err(refused(&format!(
            "{vcs} is not spoken over {}",
            url.scheme()
        )));
    };
    if !encrypted && !insecure {
        return Err(DirectError {
            hint: Some(
                "list the module or the host in network.insecure_hosts to allow it".to_owned(),
            ),
            ..refused(&format!("{} is not encrypted", url.scheme()))
        });
    }
    let host = url.host_str().unwrap_or("");
    let option = |part: &str| part.starts_with('-') || part.to_ascii_lowercase().starts_with("%2d");
    if host.is_empty() || option(host) || option(url.username()) || option(url.path()) {
        return Err(refused("a program could take part of it for an option"));
    }
    // Other schemes than http keep hosts as they are written.
    if !host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c))
    {
        return Err(refused("its host is no name"));
    }
    if has_control(url.path()) || has_control(url.username()) {
        return Err(refused("it has an encoded control character in it"));
    }
    if url.password().is_some() {
        return Err(refused("it has a password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it has a query or a fragment"));
    }
    Ok(url)
}

/// Whether a program that decodes it finds a newline or the like, which ends a field of more than one protocol.
fn has_control(part: &str) -> bool {
    part.split('%').skip(1).any(|code| {
        let byte = code
            .get(..2)
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_control())
    })
}

/// The short form of ssh URLs, `git@host:path`, in full; others as they are.
pub(crate) fn from_scp(text: &str) -> String {
    match text.split_once(':') {
        Some((host, path))
            if !text.contains("://") && host.contains('@') && !host.contains('/') =>
        {
            format!("ssh://{host}/{}", path.trim_start_matches('/'))
        }
        _ => text.to_owned(),
    }
}

/// A URL fit for an error: userinfo masked, control characters out, shortened.
pub(crate) fn show(text: &str) -> String {
    let masked = match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((user, host))) if user.matches(':').count() > 1 => {
            format!("{scheme}://***@{host}")
        }
        _ => text.to_owned(),
    };
    masked
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        use Kind::{Bzr, Fossil, Git, Hg, Mod, Svn};
        for (vcs, url, insecure, want) in [
            (Git, "https://h.example/x", false, ""),
            (Git, "https://h.example:8443/x.git", false, ""),
            (Git, "ssh://git@h.example/x", false, ""),
            (Git, "git+ssh://git@h.example:2222/~u/x", false, ""),
            (Hg, "ssh://hg@h.example//abs/x", false, ""),
            (Svn, "svn+ssh://h.example/x", false, ""),
            (Bzr, "bzr+ssh://h.example/x", false, ""),
            (Fossil, "https://h.example/x", false, ""),
            (Mod, "https://h.example/x", false, ""),
            (Git, "http://h.example/x", false, "not encrypted"),
            (Git, "https://h.example/a%20b%2Fc", false, ""),
            (Git, "https://h.example/a%0ab", false, "control"),
            (Git, "ssh://u%0D@h.example/a", false, "control"),
            (Git, "https://h.example/a%7f", false, "control"),
            (Git, "http://h.example/x", true, ""),
            (Git, "git://h.example/x", false, "not encrypted"),
            (Svn, "svn://h.example/x", true, ""),
            (Git, "file:///etc", true, "not spoken over file"),
            (Git, "ext::sh -c id", true, "characters"),
            (Git, "ext::sh", true, "no scheme"),
            (Git, "fd::17", true, "no scheme"),
            (Git, "--upload-pack=x", true, "no scheme"),
            (Git, "h.example/x", true, "no scheme"),
            (Git, "git@h.example:x", true, "no scheme"),
            (Git, "ssh://-oProxyCommand=id/x", true, "option"),
            (Git, "ssh://-oProxyCommand@h/x", true, "option"),
            (Git, "ssh://%2doProxyCommand@h/x", true, "option"),
            (Git, "https:///x", true, "no name"),
            (Git, "ssh://h$(id)/x", true, "refused"),
            (Git, "https://u:pw@h/x", false, "password"),
            (Git, "https://h/x?y=1", false, "query"),
            (Git, "https://h/x#y", false, "query"),
            (Git, "https://h/x\ny", false, "characters"),
            (Git, "https://h/é", false, "characters"),
            (Git, "https://h\\x", false, "characters"),
            (Mod, "ssh://h/x", true, "not spoken over ssh"),
            (Fossil, "ftp://h/x", true, "not spoken over ftp"),
        ] {
            match check(vcs, url, insecure) {
                Ok(_) => assert!(want.is_empty() || want == "no name", "{url}: accepted"),
                Err(error) => {
                    let fits = want == "refused" || error.text.contains(want);
                    assert!(!want.is_empty() && fits, "{url}: {}", error.text);
                    assert!(!error.text.contains("pw"), "{}", error.text);
                }
            }
        }
    }

    #[test]
    fn short_ssh_urls() {
        for (text, want) in [
            ("git@h.example:team/x.git", "ssh://git@h.example/team/x.git"),
            ("git@h.example:/abs/x.git", "ssh://git@h.example/abs/x.git"),
            ("ssh://git@h:22/x", "ssh://git@h:22/x"),
            ("https://h/a@b:c", "https://h/a@b:c"),
        ] {
            assert_eq!(from_scp(text), want);
        }
    }
}
