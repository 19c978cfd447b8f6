//! Pages that say where a module is: `https://<path>?go-get=1`.

use std::time::Duration;

use egress::{Ask, Egress, EgressError, EgressErrorKind, Page};
use reqwest::Url;

use super::html::{self, Import};
use crate::{DirectError, ErrorKind};

/// Most of a page that is looked at.
const MAX_PAGE_BYTES: usize = 64 * 1024;
/// Longest wait for a page.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// Gets the tags of the page for a module path or a prefix of one. http is tried after https if `insecure`. Without
/// any tags, what the host answered is the error.
pub(crate) async fn imports(
    egress: &Egress,
    path: &str,
    insecure: bool,
) -> Result<Vec<Import>, DirectError> {
    let slash = if path.contains('/') { "" } else { "/" };
    let mut got = get(egress, &format!("https://{path}{slash}?go-get=1"), insecure).await;
    let refused = matches!(&got, Err(error) if error.kind == EgressErrorKind::Refused);
    if insecure && got.is_err() && !refused {
        got = get(egress, &format!("http://{path}{slash}?go-get=1"), insecure).await;
    }
    let page =
        got.map_err(|error| from_egress(&format!("unrecognized import path \"{path}\""), error))?;
    let read = html::imports(&page.body);
    if let Ok(found) = &read
        && !found.is_empty()
    {
        return Ok(read.unwrap_or_default());
    }
    let unknown = |kind, why: &str| DirectError {
        kind,
        text: format!("unrecognized import path \"{path}\": {why}"),
        hint: None,
    };
    if let Some(refusal) = unauthorized(&page) {
        return Err(DirectError {
            hint: refusal.hint,
            ..unknown(refusal.kind, &refusal.text)
        });
    }
    let host = page.url.host_str().unwrap_or("");
    Err(match (page.status, read) {
        (408 | 425 | 429 | 500.., _) => unknown(
            ErrorKind::Unavailable,
            &format!("{host} answered {}", page.status),
        ),
        (200, Err(charset)) => unknown(
            ErrorKind::NotFound,
            &format!("the page is in {}, not in UTF-8", charset.0),
        ),
        (200, Ok(_)) if page.cut => DirectError {
            hint: Some(format!(
                "the tags must stand near the beginning; where the repository is can be said in [[vcs]] prefix = \"{path}\" too"
            )),
            ..unknown(
                ErrorKind::NotFound,
                &format!(
                    "the first {} KiB of the page, which is longer, have no go-import meta tags",
                    MAX_PAGE_BYTES / 1024
                ),
            )
        },
        (200, Ok(_)) => unknown(ErrorKind::NotFound, "the page has no go-import meta tags"),
        (status, _) => unknown(ErrorKind::NotFound, &format!("{host} answered {status}")),
    })
}

async fn get(egress: &Egress, url: &str, plain_http: bool) -> Result<Page, EgressError> {
    let url: Url = url
        .parse()
        .map_err(|_| EgressError::broken("the module's path makes no URL"))?;
    let ask = Ask {
        url,
        timeout: WITHIN,
        plain_http,
        // The host is the one that the module's own name names.
        credentials: true,
    };
    egress.get_guarded(ask, MAX_PAGE_BYTES).await
}

/// 401 or 403, with the credential sent, or with what to do if none was.
pub(crate) fn unauthorized(page: &Page) -> Option<DirectError> {
    refused_with(
        page.status,
        page.url.host_str().unwrap_or(""),
        page.credential.as_deref(),
    )
}

/// What 401 or 403 of a host means, with the credential sent.
pub(crate) fn refused_with(
    status: u16,
    host: &str,
    credential: Option<&str>,
) -> Option<DirectError> {
    if !matches!(status, 401 | 403) {
        return None;
    }
    let (to, hint) = match credential {
        Some(name) => (
            format!(" to {name}"),
            "check that it is still valid and may read this repository".to_owned(),
        ),
        None => (
            " without a credential".to_owned(),
            format!("set a [[credential]] for `{host}`, or check the module's path"),
        ),
    };
    Some(DirectError {
        kind: ErrorKind::Unauthorized,
        text: format!("{host} answered {status}{to}"),
        hint: Some(hint),
    })
}

/// The import that a path is to be taken from: exactly one may fit, but `mod` entries, which come first, win.
pub(crate) fn choose<'a>(imports: &'a [Import], path: &str) -> Result<&'a Import, String> {
    let mut fitting = imports.iter().filter(|import| {
        path.strip_prefix(&*import.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let Some(first) = fitting.next() else {
        let prefixes: Vec<&str> = imports
            .iter()
            .map(|import| &*import.prefix)
            .take(5)
            .collect();
        let prefixes: String = prefixes
            .join(", ")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        return Err(format!(
            "the page's go-import meta tags are for {prefixes}, no prefix of it"
        ));
    };
    match fitting.next() {
        Some(second) if first.vcs != "mod" || second.vcs == "mod" => {
            Err("the page has several go-import meta tags that match".to_owned())
        }
        _ => Ok(first),
    }
}

/// An error on the way out, as one of ours.
pub(crate) fn from_egress(what: &str, error: EgressError) -> DirectError {
    DirectError {
        kind: match error.kind {
            EgressErrorKind::Connect | EgressErrorKind::Broken => ErrorKind::Unavailable,
            EgressErrorKind::Timeout => ErrorKind::Timeout,
            EgressErrorKind::Refused => ErrorKind::Refused,
            EgressErrorKind::Credential => ErrorKind::Unauthorized,
        },
        text: format!("{what}: {}", error.text),
        hint: error.hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        for (page, path, want) in [
            ("a.com/x git u", "a.com/x", Ok("u")),
            ("a.com/x git u", "a.com/x/v2", Ok("u")),
            ("a.com/x git u", "a.com/xy", Err("no prefix")),
            ("a.com/x git u", "a.com", Err("no prefix")),
            ("a.com/x git u|a.com/x/y git v", "a.com/x/y", Err("several")),
            ("a.com/x git u|a.com/x/y git v", "a.com/x/z", Ok("u")),
            ("a.com/x mod u|a.com git v", "a.com/x", Ok("u")),
            ("a.com/x mod u|a.com mod v", "a.com/x", Err("several")),
            ("a.com/x/y mod u|a.com/x git v", "a.com/x", Ok("v")),
        ] {
            let tags = page
                .split('|')
                .map(|tag| format!("<meta name=go-import content='{tag}'>"));
            let imports = html::imports(tags.collect::<String>().as_bytes()).unwrap();
            match (choose(&imports, path), want) {
                (Ok(got), Ok(want)) => assert_eq!(got.url, want, "{page} {path}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{page} {path}: {got}"),
                (got, _) => panic!("{page} {path}: {got:?}"),
            }
        }
    }
}
