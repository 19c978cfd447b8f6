//! What a failed walk along a chain means for the client.

use std::{sync::Arc, time::Duration};

use upstream::{Attempt, Cause, Failure, FailureKind, Trouble};
use vcs::{DirectError, ErrorKind};

use crate::refusal::{Code, Refusal};

/// What to do where all upstreams say that there is no such module.
const NO_MODULE: &str = "check the path; a private module is found once the owner of this gateway names it in `private`";

/// An outage is never absence: only what every upstream denied is "not found".
pub(crate) fn refusal(what: &str, absent: Code, failure: &Failure) -> Refusal {
    let tried = || tried(&failure.attempts);
    let mut refusal = match &failure.kind {
        FailureKind::Absent { gone: true } => Refusal::new(Code::ResourceGone, what, format!("gone upstream ({})", tried())),
        FailureKind::Absent { gone: false } => {
            let refusal = Refusal::new(absent, what, format!("not found ({})", tried()));
            match absent {
                Code::ModuleNotFound => refusal.hint(NO_MODULE),
                _ => refusal,
            }
        }
        FailureKind::Off => Refusal::new(Code::LookupDisabled, what, "not kept here, and its chain is `off`")
            .hint("the configuration of this gateway allows no upstream for this module: see `chain` and `[[route]]`"),
        FailureKind::Direct { earlier: None } => Refusal::new(absent, what, "not found"),
        FailureKind::Direct { earlier: Some(trouble) } | FailureKind::Trouble(trouble) => self::trouble(what, trouble),
    };
    if refusal.upstream.is_none() {
        refusal.upstream = failure
            .attempts
            .last()
            .map(|last| Arc::clone(&last.upstream));
    }
    refusal.looped = failure.looped;
    refusal.definite = matches!(failure.kind, FailureKind::Absent { .. }) && !failure.looped;
    refusal
}

/// What a failure of direct fetch means for the client.
pub(crate) fn direct(what: String, absent: Code, error: DirectError) -> Refusal {
    let code = match error.kind {
        ErrorKind::NotFound => absent,
        ErrorKind::Refused => Code::DirectRefused,
        ErrorKind::Unauthorized => Code::RepositoryUnauthorized,
        ErrorKind::Unavailable => Code::UpstreamUnavailable,
        ErrorKind::Timeout => Code::UpstreamTimeout,
        ErrorKind::Overloaded => Code::Overloaded,
        ErrorKind::MissingProgram => Code::ProgramMissing,
        ErrorKind::Invalid => Code::ModuleInvalid,
        ErrorKind::TooLarge => Code::TooLarge,
        ErrorKind::Disk => Code::StorageError,
        ErrorKind::DiskFull => Code::StorageFull,
    };
    let mut refusal = Refusal::new(code, what, format!("direct: {}", error.text));
    refusal.hint = error.hint.map(Into::into);
    refusal
}

/// The same refusal, with those who were asked before.
pub(crate) fn after(mut refusal: Refusal, attempts: &[Attempt]) -> Refusal {
    if !attempts.is_empty() {
        refusal.why = format!("{} (before that: {})", refusal.why, tried(attempts));
    }
    refusal
}

fn tried(attempts: &[Attempt]) -> String {
    attempts
        .iter()
        .map(|attempt| format!("{}: {}", attempt.upstream, attempt.outcome))
        .collect::<Vec<_>>()
        .join("; ")
}

fn trouble(what: &str, trouble: &Trouble) -> Refusal {
    let code = match (trouble.cause, trouble.status) {
        (Cause::Timeout, _) => Code::UpstreamTimeout,
        (Cause::Overloaded, _) => Code::Overloaded,
        (Cause::Loop, _) => Code::LoopDetected,
        (Cause::Content, _) => Code::UpstreamInvalid,
        (Cause::Status, Some(status)) if status < 500 => Code::UpstreamRefused,
        _ => Code::UpstreamUnavailable,
    };
    let mut refusal = Refusal::new(
        code,
        what,
        format!("{}: {}", trouble.upstream, trouble.text),
    )
    .sent_by(&trouble.upstream);
    refusal.hint = match (code, trouble.status) {
        (Code::UpstreamRefused, Some(401 | 403)) if trouble.with_credential => {
            Some("check that this credential is still right and may read the module; an upstream that answers 403 for what it does not have needs `status_map = { 403 = 404 }`".into())
        }
        (Code::UpstreamRefused, Some(403)) => Some("an upstream that answers 403 for what it does not have needs `status_map = { 403 = 404 }`; one that wants a login, a [[credential]]".into()),
        (Code::UpstreamRefused, Some(401)) => Some("the upstream wants a login: add a [[credential]] for it, or a user to its URL".into()),
        (Code::UpstreamRefused, Some(407)) => Some("a proxy on the way wants a user and a password: see `network.proxy`".into()),
        (Code::UpstreamRefused, Some(429)) => Some("the upstream is asked more than it allows: try again later; `max_concurrent` bounds how much it is asked at once".into()),
        _ if trouble.hint.is_some() => trouble.hint.clone().map(Into::into),
        (Code::UpstreamUnavailable | Code::UpstreamTimeout, _) => {
            Some("the upstream is in trouble, not your request: try again, or ask the owner of this gateway".into())
        }
        (Code::LoopDetected, _) => Some("that upstream and this gateway name each other: give one of them another upstream, or `direct`".into()),
        _ => None,
    };
    if trouble.cause == Cause::BreakerOpen {
        refusal.retry_after = Some(Duration::from_secs(1));
    }
    // Sooner it would be asked in vain, and perhaps held against everybody here.
    if refusal.retry_after.is_some() {
        refusal.retry_after = refusal.retry_after.max(trouble.retry_after);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_can_do_is_said() {
        let told = |cause, status, hint: Option<&str>| {
            let failure = Failure {
                kind: FailureKind::Trouble(Trouble {
                    cause,
                    status,
                    upstream: "https://up.example".into(),
                    text: "redirected, but store.corp.example has the address 10.20.30.40, which is not public".to_owned(),
                    hint: hint.map(str::to_owned),
                    retry_after: None,
                    with_credential: false,
                }),
                attempts: Vec::new(),
                looped: false,
            };
            refusal("example.com/m@v1.2.3", Code::VersionNotFound, &failure).text()
        };
        let list = "if `store.corp.example` is a host of yours, list it in network.internal_hosts";
        let text = told(Cause::Broken, None, Some(list));
        assert!(text.ends_with(&format!("{list}\n")), "{text}");
        assert!(!text.contains("try again"), "{text}");
        for (status, want) in [(407, "`network.proxy`"), (429, "`max_concurrent`")] {
            let text = told(Cause::Status, Some(status), None);
            assert!(text.contains(want), "{text}");
        }
    }
    #[test]
    fn what_the_upstream_asks_for_is_passed_on() {
        let wait = |cause, status, asked: Option<u64>| {
            let trouble = Trouble {
                cause,
                status,
                upstream: "https://up.example".into(),
                text: "answered".to_owned(),
                hint: None,
                retry_after: asked.map(Duration::from_secs),
                with_credential: false,
            };
            let refusal = self::trouble("example.com/m@v1.2.3", &trouble);
            refusal.retry_after.map(|after| after.as_secs())
        };
        assert_eq!(wait(Cause::Status, Some(429), Some(7)), Some(7));
        assert_eq!(wait(Cause::Status, Some(503), Some(1)), Some(2));
        assert_eq!(wait(Cause::Status, Some(429), None), Some(2));
        assert_eq!(wait(Cause::Loop, Some(508), Some(7)), None);
    }
}
