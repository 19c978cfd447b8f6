//! What a failed walk along a chain means for the client.

use std::time::Duration;

use upstream::{Cause, Failure, FailureKind, Trouble};

use crate::refusal::{Code, Refusal};

/// An outage is never absence: only what every upstream denied is "not found".
pub(crate) fn refusal(what: &str, absent: Code, failure: &Failure) -> Refusal {
    let tried = || {
        failure
            .attempts
            .iter()
            .map(|attempt| format!("{}: {}", attempt.upstream, attempt.outcome))
            .collect::<Vec<_>>()
            .join("; ")
    };
    match &failure.kind {
        FailureKind::Absent { gone: true } => Refusal::new(Code::ResourceGone, what, format!("gone upstream ({})", tried())),
        FailureKind::Absent { gone: false } => Refusal::new(absent, what, format!("not found ({})", tried())),
        FailureKind::Off => Refusal::new(Code::LookupDisabled, what, "not kept here, and its chain is `off`")
            .hint("the configuration of this gateway allows no upstream for this module: see `chain` and `[[route]]`"),
        FailureKind::Direct { earlier: None } => {
            let before = if failure.attempts.is_empty() { String::new() } else { format!("not found upstream ({}); ", tried()) };
            Refusal::new(Code::DirectUnavailable, what, format!("{before}`direct` is next in the chain, and not available yet"))
                .hint("this version of modgate does not fetch from version control: name a proxy that has the module in `chain` or a `[[route]]`")
        }
        FailureKind::Direct { earlier: Some(trouble) } | FailureKind::Trouble(trouble) => self::trouble(what, trouble),
    }
}

fn trouble(what: &str, trouble: &Trouble) -> Refusal {
    let code = match (trouble.cause, trouble.status) {
        (Cause::Timeout, _) => Code::UpstreamTimeout,
        (Cause::Overloaded, _) => Code::Overloaded,
        (Cause::Status, Some(status)) if status < 500 => Code::UpstreamRefused,
        _ => Code::UpstreamUnavailable,
    };
    let mut refusal = Refusal::new(
        code,
        what,
        format!("{}: {}", trouble.upstream, trouble.text),
    );
    refusal.hint = match (code, trouble.status) {
        (Code::UpstreamRefused, Some(403)) => Some("an upstream that answers 403 for what it does not have needs `status_map = { 403 = 404 }`".into()),
        (Code::UpstreamRefused, Some(401)) => Some("the upstream wants credentials: check those in its URL or headers".into()),
        (Code::UpstreamUnavailable | Code::UpstreamTimeout, _) => {
            Some("the upstream is in trouble, not your request: try again, or ask the owner of this gateway".into())
        }
        _ => None,
    };
    if trouble.cause == Cause::BreakerOpen {
        refusal.retry_after = Some(Duration::from_secs(1));
    }
    refusal
}
