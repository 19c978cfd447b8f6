//! Addresses of services: a Redis, a PostgreSQL, a bucket.

use std::net::IpAddr;

use super::{
    super::{
        kinds::{self, Checked},
        layers::Scope,
        nearest::nearest,
        origin::Origin,
        reader::{Reader, quoted},
        secret::Secret,
        setting::Kind,
        source::{Node, Value},
    },
    credentials,
};

/// The URL of a service, out of sight.
pub(super) fn read_url(reader: &mut Reader<'_>, scope: &Scope, name: &str) -> Option<Secret> {
    let show = |(_, shown): &(Secret, String)| shown.clone();
    let given = reader.read(scope, name, url, show);
    given.map(|(url, _)| url)
}

/// The URL of a service, with what is shown of it. What is wrong with it is told without the text, which may hold a
/// password anywhere.
fn url(reader: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<(Secret, String)> {
    let (url, shown) = if matches!(node.value, Value::Text(_)) {
        let text = kinds::text(node, kind)?;
        (Secret::new(text.to_owned()), quoted(text))
    } else {
        credentials::named_secret(reader, node)?
    };
    let Kind::Service(schemes) = kind else {
        return Ok((url, shown));
    };
    match wrong(url.expose(), schemes) {
        None => Ok((url, shown)),
        Some((message, hint)) => Err(vec![node.mistake(message).hint(hint)]),
    }
}

/// What is wrong with the URL of a service, and what to do about it.
fn wrong(url: &str, schemes: &[&str]) -> Option<(String, String)> {
    let form = match schemes {
        ["redis", ..] => "redis://user:password@host:6379/0",
        _ => "postgres://user:password@host:5432/database",
    };
    let form = format!("write it as \"{form}\", with special characters of the password as %XX");
    let told = |message: &str| Some((message.to_owned(), form.clone()));
    let Some((scheme, rest)) = url.split_once("://") else {
        return told("it is not a URL with a scheme");
    };
    if !schemes.contains(&scheme) {
        let hint = match nearest(scheme, schemes.iter().copied()) {
            Some(near) => format!("did you mean `{near}://`?"),
            None if scheme.starts_with("sqlite") => {
                "leave it out for SQLite, which lies in `data`".to_owned()
            }
            None => form,
        };
        let known = schemes.join("` or `");
        return Some((format!("the scheme is not `{known}`"), hint));
    }
    if !url.chars().all(|c| c.is_ascii_graphic()) {
        return told("the URL has white space or other characters that no URL has");
    }
    let (authority, rest) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    // `[::1]:5432`, `host:5432`, `host`
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if name.is_empty() {
        return told("the URL names no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return told("the URL has a port that is no number");
    }
    if rest.contains("password=") {
        return told("the password stands in the URL's query, where it could be shown");
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = path.trim_start_matches('/');
    if schemes[0] == "redis" && !path.is_empty() && path.parse::<u16>().is_err() {
        return told("the database of a Redis is a number");
    }
    if schemes[0] != "redis" && path.is_empty() {
        return told("the URL names no database");
    }
    None
}

/// Notes that what goes to a service can be read on its way, unless it does not leave the machine.
pub(super) fn note_plain(reader: &mut Reader<'_>, node: &Node, url: &str, plain: &str, what: &str) {
    let Some(rest) = url
        .strip_prefix(plain)
        .and_then(|rest| rest.strip_prefix("://"))
    else {
        return;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if !is_loopback(host) {
        let origin = Origin::of(node);
        reader.notices.push(format!(
            "{what} ({origin}) is asked without encryption: what goes there can be read and changed on its way"
        ));
    }
}

/// Whether a host with or without its port is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
