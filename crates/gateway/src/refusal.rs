//! Why a request is not answered with what it asked for: one stable code each.
//!
//! Nothing here knows HTTP but [`Code::status`], which only `http/respond.rs` reads. `docs/errors.md` has a
//! section per code; a test keeps the two together.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// Whose matter a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for cannot be, or is not there.
    Client,
    /// A rule of this gateway's owner.
    Policy,
    /// An upstream or the checksum database.
    Upstream,
    /// This gateway, its disk or its load.
    Gateway,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $fault:ident;)*) => {
        /// The stable codes: the same in text answers (`[modgate: …]`), JSON (`"error"`), logs and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status by the client's rules (protocol.md section 3): 404 and 410 let a client walk on
            /// to its next proxy, everything else stops it.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Whose matter it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read: bad escapes, control characters, not one Host.
    BadRequest = "bad_request", 400, Client;
    /// Anything but GET and HEAD.
    MethodNotAllowed = "method_not_allowed", 405, Client;
    /// The path is longer than the limit.
    PathTooLong = "path_too_long", 414, Client;
    /// The part that was asked for is beyond the end.
    RangeNotSatisfiable = "range_not_satisfiable", 416, Client;
    /// `If-Match` names another file than there is.
    PreconditionFailed = "precondition_failed", 412, Client;
    /// No endpoint of the protocol.
    EndpointNotFound = "endpoint_not_found", 404, Client;
    /// Not a module path or version, so there can be no such module.
    InvalidName = "invalid_name", 404, Client;
    /// `.mod` or `.zip` of something that is no canonical version.
    NotCanonical = "not_canonical", 404, Client;
    /// No upstream has the module.
    ModuleNotFound = "module_not_found", 404, Client;
    /// No upstream has the version.
    VersionNotFound = "version_not_found", 404, Client;
    /// Not kept, and the request or the route forbids fetching.
    NotCached = "not_cached", 404, Client;
    /// Being fetched in the background (download mode `async`).
    FetchQueued = "fetch_queued", 404, Client;
    /// The repository has it, but it breaks a rule of modules: no zip can be made of it.
    ModuleInvalid = "module_invalid", 404, Client;
    /// A checksum database that is not served here.
    DatabaseNotServed = "database_not_served", 404, Client;
    /// The checksum database has no such record.
    RecordNotFound = "record_not_found", 404, Client;
    /// Retired here by a tombstone, or gone upstream.
    ResourceGone = "resource_gone", 410, Policy;
    /// The route's chain is `off`.
    LookupDisabled = "lookup_disabled", 403, Policy;
    /// Direct fetch is not allowed there: by GOVCS rules, or since the address is not public.
    DirectRefused = "direct_refused", 403, Policy;
    /// It is more than this gateway takes, by a limit of its own.
    TooLarge = "too_large", 403, Policy;
    /// The checksum database does not know the version, and unknown ones are refused.
    ChecksumUnknown = "checksum_unknown", 403, Policy;
    /// What upstream sent is not what the checksum database says.
    ChecksumMismatch = "checksum_mismatch", 502, Upstream;
    /// The checksum database cannot be reached.
    ChecksumDatabaseUnreachable = "checksum_database_unreachable", 503, Upstream;
    /// An answer of the checksum database does not verify.
    ChecksumDatabaseInvalid = "checksum_database_invalid", 502, Upstream;
    /// The checksum database has shown two histories.
    ChecksumDatabaseFork = "checksum_database_fork", 503, Upstream;
    /// What upstream sent is not a valid answer.
    UpstreamInvalid = "upstream_invalid", 502, Upstream;
    /// Upstream answered with an error that does not mean "absent".
    UpstreamRefused = "upstream_refused", 502, Upstream;
    /// A repository wants other credentials than it got.
    RepositoryUnauthorized = "repository_unauthorized", 502, Upstream;
    /// Upstream cannot be reached, or broke off.
    UpstreamUnavailable = "upstream_unavailable", 502, Upstream;
    /// Upstream did not answer in time.
    UpstreamTimeout = "upstream_timeout", 504, Upstream;
    /// Too much at once, here or towards an upstream.
    Overloaded = "overloaded", 503, Gateway;
    /// The data folder's disk is full.
    StorageFull = "storage_full", 507, Gateway;
    /// A storage tier that must keep new versions cannot be reached.
    StorageUnavailable = "storage_unavailable", 503, Gateway;
    /// The data folder's disk fails.
    StorageError = "storage_error", 500, Gateway;
    /// The program of a version control system is not installed here.
    ProgramMissing = "program_missing", 501, Gateway;
    /// The request has been through this gateway already.
    LoopDetected = "loop_detected", 508, Gateway;
    /// A defect of modgate.
    InternalError = "internal_error", 500, Gateway;
}

/// A request that is not answered with what it asked for.
///
/// `what` and `why` are shown to people: no secrets. What is not printable in them is replaced when shown.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is known by itself")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What was asked for: `example.com/m@v1.2.3`.
    pub what: String,
    /// What is wrong, and where.
    pub why: String,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// When asking again may help.
    pub retry_after: Option<Duration>,
    /// Whose answer it comes from, without secrets.
    pub upstream: Option<Arc<str>>,
    /// Whether it holds only for who came by the same proxies: an upstream that asks one of them was left out.
    pub looped: bool,
    /// Whether every upstream said that there is no such thing, and only version control could not be asked.
    pub denied: bool,
    /// Whether the whole chain was asked, and all of it said that there is no such thing.
    pub definite: bool,
    /// Whether it was said before and is said again, since nobody can be asked: told in a `Warning` header.
    pub stale: bool,
}

impl Refusal {
    /// A refusal without hint.
    pub fn new(code: Code, what: impl Into<String>, why: impl Into<String>) -> Self {
        let retry_after = matches!(code.fault(), Fault::Upstream | Fault::Gateway)
            .then_some(Duration::from_secs(2));
        let retry_after = retry_after.filter(|_| {
            code.status() >= 502 && code != Code::ChecksumDatabaseFork && code != Code::LoopDetected
        });
        Self {
            code,
            what: what.into(),
            why: why.into(),
            hint: None,
            retry_after,
            upstream: None,
            looped: false,
            denied: false,
            definite: false,
            stale: false,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whose answer it comes from.
    #[must_use]
    pub(crate) fn sent_by(mut self, upstream: &Arc<str>) -> Self {
        self.upstream = Some(Arc::clone(upstream));
        self
    }

    /// The text for people: a first line under 200 bytes that ends in the code, then perhaps a hint. At most
    /// 8 lines and 640 bytes, without control characters: the Go client prints it as it is (protocol.md 3).
    pub fn text(&self) -> String {
        const FIRST_LINE_BYTES: usize = 195;
        const HINT_BYTES: usize = 400;
        let tail = format!(" [modgate: {}]", self.code.as_str());
        let head = if self.what.is_empty() {
            clean(&self.why)
        } else {
            format!("{}: {}", clean(&self.what), clean(&self.why))
        };
        let mut text = cut(&head, FIRST_LINE_BYTES - tail.len());
        let whole = text.len() == head.len();
        text += &tail;
        text.push('\n');
        if !whole {
            text += &cut(&clean(&self.why), HINT_BYTES / 2);
            text.push('\n');
        }
        if let Some(hint) = self.hint.as_ref().filter(|hint| !hint.is_empty()) {
            text += &cut(&clean(hint), HINT_BYTES / 2);
            text.push('\n');
        }
        text
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.what, self.why, self.code.as_str())
    }
}

/// One line of printable text.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// At most `max` bytes of `text`, with an ellipsis where it was cut.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_what_the_client_prints() {
        for code in Code::ALL {
            for len in [0, 10, 150, 1000] {
                let refusal = Refusal::new(*code, "é".repeat(len), "x\u{1b}[1m\n".repeat(len))
                    .hint("h".repeat(len));
                let text = refusal.text();
                let first = text.lines().next().unwrap();
                assert!(first.len() < 200, "{} bytes", first.len());
                assert!(
                    first.ends_with(&format!("[modgate: {}]", code.as_str())),
                    "{first}"
                );
                assert!(text.len() <= 648 && text.lines().count() <= 8 && !text.contains("\n\n"));
                assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            }
        }
    }

    #[test]
    fn an_outage_is_never_absence() {
        for code in Code::ALL {
            if matches!(code.fault(), Fault::Upstream | Fault::Gateway) {
                assert!(code.status() >= 500, "{}", code.as_str());
            } else {
                assert!(code.status() < 500, "{}", code.as_str());
            }
        }
    }

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../docs/errors.md");
        for code in Code::ALL {
            assert!(
                page.contains(&format!("## {}\n", code.as_str())),
                "docs/errors.md has no section {}",
                code.as_str()
            );
            assert!(
                page.contains(&format!("| `{}` | {} |", code.as_str(), code.status())),
                "the table misses {}",
                code.as_str()
            );
        }
    }
}
