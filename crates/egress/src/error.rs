//! What went wrong on the way out, in people's words.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use crate::credential::CredentialError;
use crate::guard::GuardError;

/// The kinds of trouble on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EgressErrorKind {
    /// No connection, or it was lost before an answer: refused, reset, unknown host, TLS.
    Connect,
    /// No connection or no answer in time.
    Timeout,
    /// An answer that breaks HTTP, or a redirect that cannot be followed.
    Broken,
    /// Not asked: an address that is not public, or a scheme without encryption.
    Refused,
    /// Not asked: its credential cannot be had.
    Credential,
}

/// A request without an answer to show for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct EgressError {
    /// Its kind.
    pub kind: EgressErrorKind,
    /// What failed, in words: one line without URLs of clients or secrets.
    pub text: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
    /// The connection was lost: the same request may well succeed.
    pub reset: bool,
}

impl EgressError {
    pub(crate) fn new(kind: EgressErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into().replace(char::is_control, " "),
            hint: None,
            reset: false,
        }
    }

    /// An answer that cannot be used.
    pub fn broken(text: impl Into<String>) -> Self {
        Self::new(EgressErrorKind::Broken, text)
    }
}

impl From<GuardError> for EgressError {
    fn from(error: GuardError) -> Self {
        Self {
            hint: Some(error.hint()),
            ..Self::new(EgressErrorKind::Refused, error.to_string())
        }
    }
}

impl From<CredentialError> for EgressError {
    fn from(error: CredentialError) -> Self {
        Self {
            hint: Some(error.hint.clone()),
            ..Self::new(EgressErrorKind::Credential, error.to_string())
        }
    }
}

/// What an error of the HTTP client means, without URLs in it. `connect_timeout` is the client's.
pub fn explain(error: &reqwest::Error, connect_timeout: Duration) -> EgressError {
    let mut texts = Vec::new();
    let mut kind = None;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(guard) = inner.downcast_ref::<GuardError>() {
            return guard.clone().into();
        }
        texts.push(inner.to_string());
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        source = inner.source();
    }
    let all = texts.join(": ");
    let lower = all.to_lowercase();
    let has = |part: &str| lower.contains(part);
    let last = || texts.last().map_or("", String::as_str);
    if error.is_timeout() || kind == Some(io::ErrorKind::TimedOut) {
        let text = format!("no connection within {} s", connect_timeout.as_secs_f64());
        return EgressError::new(EgressErrorKind::Timeout, text);
    }
    if let Some((text, hint)) = by_proxy(&lower, kind, last()) {
        return EgressError {
            hint: Some(hint.to_owned()),
            ..EgressError::new(EgressErrorKind::Connect, text)
        };
    }
    let text = if has("fatal alert") {
        let alert = lower.rsplit("fatal alert: ").next().unwrap_or("");
        alerted(alert)
    } else if has("certificate") {
        x509(&all)
    } else if kind == Some(io::ErrorKind::ConnectionRefused) {
        "connection refused".to_owned()
    } else if has("dns error") || has("failed to lookup address") {
        "no such host".to_owned()
    } else if has("unreachable") {
        "network unreachable".to_owned()
    } else if has("invalidcontenttype") || has("handshake") || has("tls") {
        "the TLS handshake failed".to_owned()
    } else if error.is_connect() {
        format!("no connection: {}", last())
    } else if matches!(
        kind,
        Some(
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    ) || has("connection closed")
        || has("incomplete")
        || has("reset")
        || unprocessed(&lower)
    {
        return EgressError {
            reset: true,
            ..EgressError::new(
                EgressErrorKind::Connect,
                "connection reset before an answer",
            )
        };
    } else {
        return EgressError::broken(format!("the answer breaks HTTP: {}", last()));
    };
    EgressError {
        reset: kind == Some(io::ErrorKind::ConnectionReset),
        ..EgressError::new(EgressErrorKind::Connect, text)
    }
}

/// What a forward proxy has to do with it, and what to do about that.
fn by_proxy(
    lower: &str,
    kind: Option<io::ErrorKind>,
    last: &str,
) -> Option<(String, &'static str)> {
    let has = |part: &str| lower.contains(part);
    let socks = has("socks");
    if !socks && !has("tunnel") && !has("proxy auth") || has("fatal alert") || has("certificate") {
        return None;
    }
    Some(if has("proxy auth") || has("credentials not accepted") {
        (
            "the proxy wants another user or password".to_owned(),
            "they belong in the URL of network.proxy, escaped as in every URL",
        )
    } else if has("failed to create underlying connection")
        || kind == Some(io::ErrorKind::ConnectionRefused)
    {
        (
            "the proxy cannot be reached".to_owned(),
            "see whether the proxy of network.proxy runs, and whether its host and port are right",
        )
    } else if socks {
        (
            format!("no connection by the proxy: {last}"),
            "the rules of the proxy must allow this host and port; what needs no proxy belongs in network.no_proxy",
        )
    } else {
        (
            "the proxy gave no connection to it".to_owned(),
            "the rules of the proxy must allow this host and port; what needs no proxy belongs in network.no_proxy",
        )
    })
}

/// Whether a server closed an HTTP/2 connection in good order, or turned a stream away, before it looked at the request. The
/// HTTP client has repeated it on another connection then, a few times.
fn unprocessed(lower: &str) -> bool {
    lower.contains("error received: not a result of an error")
        || lower.contains("error received: refused stream")
}

/// What a server says that ends a TLS connection; all but the last are about client certificates.
fn alerted(alert: &str) -> String {
    match alert {
        "certificaterequired" => "the server wants a client certificate".to_owned(),
        "badcertificate"
        | "unsupportedcertificate"
        | "certificaterevoked"
        | "certificateexpired"
        | "certificateunknown"
        | "unknownca"
        | "accessdenied"
        | "decrypterror" => {
            format!("the server does not accept the client certificate ({alert})")
        }
        other => format!("the server ended the TLS connection ({other})"),
    }
}

/// A certificate that was not accepted, in the words Go uses; in those of the TLS library where Go has none.
fn x509(all: &str) -> String {
    let lower = all.to_lowercase();
    if lower.contains("causedasendentity") {
        return "x509: certificate is a CA's own and cannot be a server's: issue a server certificate (basicConstraints CA:FALSE)".to_owned();
    }
    let why = if lower.contains("unknownissuer") || lower.contains("selfsigned") {
        "signed by unknown authority"
    } else if lower.contains("notvalidyet") || lower.contains("not valid yet") {
        "is not yet valid"
    } else if lower.contains("expired") {
        "has expired"
    } else if lower.contains("notvalidforname") || lower.contains("not valid for") {
        "is not valid for this host"
    } else if lower.contains("revoked") {
        "is revoked"
    } else {
        let said = all.rsplit("invalid peer certificate: ").next();
        return format!("x509: certificate not accepted: {}", said.unwrap_or(all));
    };
    format!("x509: certificate {why}")
}

/// The innermost cause.
pub(crate) fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::x509;

    #[test]
    fn a_certificate_that_is_not_accepted_has_a_reason() {
        for (said, told) in [
            (
                "UnknownIssuer",
                "x509: certificate signed by unknown authority",
            ),
            ("BadEncoding", "x509: certificate not accepted: BadEncoding"),
        ] {
            let said = format!("client error: invalid peer certificate: {said}");
            assert_eq!(x509(&said), told);
        }
    }
}
