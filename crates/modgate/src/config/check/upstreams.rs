//! `[upstream."URL"]`: settings of single upstreams.

use std::collections::BTreeMap;

use super::{
    super::{
        checked::Upstream,
        itself::upstream_key,
        kinds::{Checked, shown},
        layers::Scope,
        mistake::Mistake,
        nearest::nearest,
        reader::{Reader, quoted},
        secret::Secret,
        setting::Kind,
        source::{Entry, Node, Value},
    },
    credentials, number,
};

/// Statuses that may be read as others.
const MAPPABLE: std::ops::RangeInclusive<u16> = 400..=599;

/// Headers that modgate or HTTP itself sets.
const RESERVED_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "via",
    "range",
    "accept-encoding",
];

/// The settings by upstream. `named` are the upstreams of all chains.
pub(super) fn read(
    reader: &mut Reader<'_>,
    scope: &Scope,
    named: &[String],
) -> BTreeMap<String, Upstream> {
    let mut upstreams = BTreeMap::new();
    let mut moved = Vec::new();
    let (Some(node), Some(settings)) = (scope.node("upstream"), scope.setting("upstream").items())
    else {
        return upstreams;
    };
    let Value::Table(entries) = &node.value else {
        reader.mistakes.push(
            node.mistake(format!("expected a table by URL, found {}", node.kind()))
                .hint("begin with [upstream.\"https://goproxy.cn\"]"),
        );
        return upstreams;
    };
    for entry in entries {
        let url = shown(&entry.key);
        let at_key = |message: String| Mistake::at(&node.source, entry.key_span.clone(), message);
        if entry.key.parse::<upstream::chain::BaseUrl>().is_err() {
            reader.mistakes.push(
                at_key(format!("`{url}` is not the URL of an upstream"))
                    .hint("write [upstream.\"https://goproxy.cn\"], with quotes"),
            );
            continue;
        }
        if entry.node.entries().is_none() {
            let wrong = format!("expected a table, found {}", entry.node.kind());
            reader.mistakes.push(entry.node.mistake(wrong));
            continue;
        }
        let key = upstream_key(&entry.key);
        if upstreams.contains_key(&key) {
            reader.mistakes.push(
                at_key(format!("`{url}` is the same upstream as one before"))
                    .hint("put the settings of an upstream into one table"),
            );
        }
        if !named.contains(&key) {
            let near = nearest(&key, named.iter().map(String::as_str))
                .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            reader.notices.push(format!(
                "[upstream.\"{url}\"] has no effect: no chain names it{near}"
            ));
        }
        let header = format!("[upstream.{}]", quoted(&entry.key));
        let item = Scope::item(settings, &entry.node, header, 0);
        let upstream = one(reader, &item);
        let base = upstream.base_url.as_ref();
        let base = base.map(|base| upstream_key(base.expose()));
        if let Some(base) = base.filter(|base| *base != key) {
            moved.push((entry, base, sent_to(&upstream)));
        }
        upstreams.insert(key, upstream);
    }
    for (at, (entry, base, sent)) in moved.iter().enumerate() {
        // Of itself it may have a section, or none in a chain.
        let bare = || named.contains(base).then(Sent::default);
        let own = upstreams.get(base).map(sent_to).or_else(bare);
        let others = moved[..at].iter().filter(|(_, other, _)| other == base);
        let mut others = others.map(|(.., other)| other.clone()).chain(own);
        if others.any(|other| other != *sent) {
            let (url, base) = (shown(&entry.key), shown(base));
            let message = format!(
                "`{base}`, the base_url of `{url}`, is asked with other headers or statuses too"
            );
            reader.mistakes.push(
                Mistake::at(&entry.node.source, entry.key_span.clone(), message).hint(
                    "an address has one set of them, whichever chain leads there: set the same in both, or take another address",
                ),
            );
        }
    }
    upstreams
}

/// What must not go to, or be read from, another upstream.
type Sent = (BTreeMap<String, Secret>, BTreeMap<u16, u16>);

fn sent_to(upstream: &Upstream) -> Sent {
    (upstream.headers.clone(), upstream.status_map.clone())
}

fn one(reader: &mut Reader<'_>, item: &Scope) -> Upstream {
    Upstream {
        base_url: reader.url(item, "base_url"),
        headers: reader
            .read(item, "headers", headers, |headers| show_headers(headers))
            .unwrap_or_default()
            .into_iter()
            .map(|(name, secret, _)| (name, secret))
            .collect(),
        status_map: reader
            .read(item, "status_map", status_map, show_status_map)
            .unwrap_or_default(),
        connect_timeout: reader.time(item, "connect_timeout"),
        first_byte_timeout: reader.time(item, "first_byte_timeout"),
        idle_timeout: reader.time(item, "idle_timeout"),
        max_concurrent: number(reader.count(item, "max_concurrent")),
        retries: reader.count(item, "retries"),
        hedge: reader.switch(item, "hedge"),
    }
}

/// Name, value, and what is shown instead of the value.
type Header = (String, Secret, String);

fn headers(reader: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<Vec<Header>> {
    let mut headers: Vec<Header> = Vec::new();
    each_entry(node, kind, |entry| {
        let at_key =
            |message: String| vec![Mistake::at(&node.source, entry.key_span.clone(), message)];
        let name = http::HeaderName::from_bytes(entry.key.as_bytes()).map_err(|_| {
            at_key(format!(
                "`{}` is not the name of a header",
                shown(&entry.key)
            ))
        })?;
        let name = name.as_str();
        if RESERVED_HEADERS.contains(&name) {
            return Err(at_key(format!("`{name}` is set by modgate itself")));
        }
        if headers.iter().any(|(known, ..)| known == name) {
            return Err(at_key(format!("`{name}` is there twice")));
        }
        let (secret, hidden) = credentials::plain_or_secret(reader, &entry.node)?;
        if http::HeaderValue::from_str(secret.expose()).is_err() {
            let message = format!("the value cannot be sent as header `{name}`");
            let mistake = entry.node.mistake(message);
            return Err(vec![
                mistake.hint("it has a line break or another control character"),
            ]);
        }
        headers.push((name.to_owned(), secret, hidden));
        Ok(())
    })?;
    Ok(headers)
}

fn show_headers(headers: &[Header]) -> String {
    let shown: Vec<String> = headers
        .iter()
        .map(|(name, _, hidden)| format!("{name} = {hidden}"))
        .collect();
    inline_table(&shown)
}

fn status_map(_: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<BTreeMap<u16, u16>> {
    let mut map = BTreeMap::new();
    each_entry(node, kind, |entry| {
        let from = entry
            .key
            .parse()
            .ok()
            .filter(|from| MAPPABLE.contains(from));
        let Some(from) = from else {
            let key = shown(&entry.key);
            let message = format!("`{key}` is not a status from 400 to 599");
            let mistake = Mistake::at(&node.source, entry.key_span.clone(), message);
            return Err(vec![mistake.hint("write { 403 = 404 }")]);
        };
        let to = match entry.node.value {
            Value::Integer(to) => u16::try_from(to).ok().filter(|to| MAPPABLE.contains(to)),
            _ => None,
        };
        let Some(to) = to else {
            let mistake = entry.node.mistake("expected a status from 400 to 599");
            return Err(vec![mistake.hint("write { 403 = 404 }")]);
        };
        if from >= 500 && matches!(to, 404 | 410) {
            let message = format!("{from} read as {to} would make an outage look like absence");
            let hint = "clients would walk on to their next proxy; map only statuses below 500 to 404 or 410";
            return Err(vec![entry.node.mistake(message).hint(hint)]);
        }
        map.insert(from, to);
        Ok(())
    })?;
    Ok(map)
}

fn show_status_map(map: &BTreeMap<u16, u16>) -> String {
    let shown: Vec<String> = map
        .iter()
        .map(|(from, to)| format!("{from} = {to}"))
        .collect();
    inline_table(&shown)
}

fn inline_table(entries: &[String]) -> String {
    if entries.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", entries.join(", "))
    }
}

/// Visits every entry of a table, past those that are wrong.
fn each_entry(
    node: &Node,
    kind: &Kind,
    mut visit: impl FnMut(&Entry) -> Checked<()>,
) -> Checked<()> {
    let Some(entries) = node.entries() else {
        let message = format!("expected {}, found {}", kind.words(), node.kind());
        let example = match kind {
            Kind::StatusMap => Some("write { 403 = 404 }".to_owned()),
            _ => None,
        };
        return Err(vec![node.mistake(message).maybe_hint(example)]);
    };
    let mistakes: Vec<Mistake> = entries
        .iter()
        .filter_map(|entry| visit(entry).err())
        .flatten()
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}
