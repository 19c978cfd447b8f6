//! From raw values to typed ones: one function for each [`Kind`].

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use egress::UrlPrefix;
use gomod::pattern::Patterns;
use upstream::chain::{BaseUrl, Chain, ChainError};

use super::{
    checked::VcsRule,
    mistake::Mistake,
    nearest::nearest,
    redact::redacted,
    secret::Secret,
    setting::Kind,
    source::{Node, Value},
    unit_hint,
    units::{format_duration, format_size, parse_duration, parse_size},
};

/// A typed value, or everything that is wrong with the raw one.
pub(super) type Checked<T> = Result<T, Vec<Mistake>>;

/// Longest text of a single value, in bytes.
const MAX_TEXT_BYTES: usize = 8 << 10;

fn wrong_type(node: &Node, kind: &Kind) -> Vec<Mistake> {
    let expected = kind.words();
    vec![node.mistake(format!("expected {expected}, found {}", node.kind()))]
}

/// A text that is not empty.
pub(super) fn text<'n>(node: &'n Node, kind: &Kind) -> Checked<&'n str> {
    let Value::Text(text) = &node.value else {
        let mistake = wrong_type(node, kind);
        return Err(match (kind, &node.value) {
            (Kind::Time(..) | Kind::TimeOrForever(..), Value::Integer(n)) => {
                with_hint(mistake, &format!("write it with a unit: \"{n}s\""))
            }
            (Kind::Size(..), Value::Integer(n)) => {
                with_hint(mistake, &format!("write it with a unit: \"{n}B\""))
            }
            (Kind::Address, Value::Integer(port)) => {
                with_hint(mistake, &format!("write \"127.0.0.1:{port}\""))
            }
            (Kind::Chain, Value::Array(_)) => with_hint(
                mistake,
                "write one string: \"https://one.example,https://two.example,direct\"",
            ),
            _ => mistake,
        });
    };
    if text.is_empty() {
        let hint = match kind {
            Kind::Chain => Some("write upstreams, `direct` or `off`, or leave it out"),
            Kind::Database => Some("write a name, a key or `off`, or leave it out"),
            Kind::Address => Some("write an IP address and a port, or leave it out"),
            _ => None,
        };
        let mistake = node.mistake("the value is empty");
        return Err(vec![mistake.maybe_hint(hint.map(str::to_owned))]);
    }
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("the value is longer than {MAX_TEXT_BYTES} bytes");
        return Err(vec![node.mistake(message)]);
    }
    Ok(text)
}

fn with_hint(mistakes: Vec<Mistake>, hint: &str) -> Vec<Mistake> {
    mistakes
        .into_iter()
        .map(|mistake| mistake.hint(hint))
        .collect()
}

/// `true` or `false`.
pub(super) fn switch(node: &Node, kind: &Kind) -> Checked<bool> {
    match node.value {
        Value::Boolean(value) => Ok(value),
        _ => Err(with_hint(wrong_type(node, kind), "write true or false")),
    }
}

/// A whole number in its range.
pub(super) fn count(node: &Node, kind: &Kind) -> Checked<u32> {
    let Value::Integer(number) = node.value else {
        return Err(wrong_type(node, kind));
    };
    u32::try_from(number)
        .ok()
        .filter(|number| match kind {
            Kind::Count(least, most) => (least..=most).contains(&number),
            _ => true,
        })
        .ok_or_else(|| out_of_range(node, &number.to_string(), kind))
}

/// A duration in its range; `None` is for ever.
pub(super) fn time(node: &Node, kind: &Kind) -> Checked<Option<Duration>> {
    let text = text(node, kind)?;
    if text == "forever" && matches!(kind, Kind::TimeOrForever(..)) {
        return Ok(None);
    }
    let duration = parse_duration(text).map_err(|error| {
        vec![
            node.mistake(format!("`{}` is not a duration: {error}", shown(text)))
                .hint(unit_hint::for_time(text, &error, Some(kind))),
        ]
    })?;
    let (Kind::Time(least, most) | Kind::TimeOrForever(least, most)) = kind else {
        return Ok(Some(duration));
    };
    if (least..=most).contains(&&duration) {
        Ok(Some(duration))
    } else {
        Err(out_of_range(node, &format_duration(duration), kind))
    }
}

/// A size in bytes, in its range.
pub(super) fn size(node: &Node, kind: &Kind) -> Checked<u64> {
    let text = text(node, kind)?;
    let bytes = parse_size(text).map_err(|error| {
        vec![
            node.mistake(format!("`{}` is not a size: {error}", shown(text)))
                .hint(unit_hint::for_size(text, &error, Some(kind))),
        ]
    })?;
    match kind {
        Kind::Size(least, most) if !(least..=most).contains(&&bytes) => {
            Err(out_of_range(node, &format_size(bytes), kind))
        }
        _ => Ok(bytes),
    }
}

fn out_of_range(node: &Node, value: &str, kind: &Kind) -> Vec<Mistake> {
    let range = kind.range().unwrap_or_default();
    vec![
        node.mistake(format!("{value} is out of range"))
            .hint(format!("the range is {range}")),
    ]
}

/// One of the words of a choice.
pub(super) fn choice(node: &Node, kind: &Kind) -> Checked<&'static str> {
    let text = text(node, kind)?;
    let Kind::Choice(words) = kind else {
        return Err(wrong_type(node, kind));
    };
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Ok(word);
    }
    let hint = match nearest(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("choose one of \"{}\"", words.join("\", \"")),
    };
    Err(vec![
        node.mistake(format!("`{}` is not possible here", shown(text)))
            .hint(hint),
    ])
}

/// An IP address with a port.
pub(super) fn address(node: &Node, kind: &Kind) -> Checked<SocketAddr> {
    let text = text(node, kind)?;
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().unwrap_or_default();
        let port = port.parse::<u16>().unwrap_or(3000);
        let hint = match text.rsplit_once(':').map_or(text, |(host, _)| host) {
            "" | "*" => format!("\"0.0.0.0:{port}\" listens on every address, \"127.0.0.1:{port}\" on this machine only"),
            "localhost" => format!("write \"127.0.0.1:{port}\""),
            host if host.parse::<std::net::Ipv4Addr>().is_ok() => format!("write \"{host}:{port}\""),
            host if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("write \"[{host}]:{port}\""),
            _ if text.parse::<std::net::Ipv6Addr>().is_ok() => format!("write \"[{text}]:3000\""),
            _ => format!("write an IP address and a port: \"127.0.0.1:{port}\""),
        };
        vec![
            node.mistake(format!("`{}` is not an IP address with a port", shown(text)))
                .hint(hint),
        ]
    })
}

/// A path; nothing is looked up.
pub(super) fn path(node: &Node, kind: &Kind) -> Checked<PathBuf> {
    let text = text(node, kind)?;
    if text.contains('\0') {
        return Err(vec![node.mistake("the path has a NUL byte")]);
    }
    if text.starts_with("~/") {
        return Err(vec![
            node.mistake("`~` is not replaced here")
                .hint("write the path of the folder in full"),
        ]);
    }
    Ok(PathBuf::from(text))
}

/// An HTTP URL.
pub(super) fn url(node: &Node, kind: &Kind) -> Checked<BaseUrl> {
    parsed(
        node,
        text(node, kind)?,
        "a URL",
        "write it as \"https://host/path\"",
    )
}

/// The URL of a forward proxy. What is wrong with it is told without the text, which may hold a password anywhere.
pub(super) fn proxy(node: &Node, kind: &Kind) -> Checked<Secret> {
    let text = text(node, kind)?;
    let hint = "write it as \"http://user:password@host:3128\", with special characters of the password as %XX";
    let wrong = |message: &str| Err(vec![node.mistake(message).hint(hint)]);
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("a proxy is a URL with a scheme");
    };
    if !matches!(scheme, "http" | "https" | "socks5" | "socks5h") {
        let schemes = ["http", "https", "socks5", "socks5h"];
        let near = nearest(scheme, schemes).map(|near| format!("did you mean `{near}`?"));
        let message = format!("`{}` is no scheme of a proxy", shown(scheme));
        let mistake = node.mistake_in(0..scheme.len(), message);
        return Err(vec![
            mistake
                .hint(format!("known are {}", schemes.join(", ")))
                .maybe_hint(near),
        ]);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("the URL has white space in it");
    }
    // The same rules as for other URLs, whatever the scheme.
    match format!("http://{rest}").parse::<BaseUrl>() {
        Ok(_) => Ok(Secret::new(text.to_owned())),
        Err(_) => wrong("it is not the URL of a proxy"),
    }
}

/// What a credential is for.
pub(super) fn prefix(node: &Node, kind: &Kind) -> Checked<UrlPrefix> {
    parsed(
        node,
        text(node, kind)?,
        "a URL prefix",
        "write \"git.corp.example\", \"https://git.corp.example/team\" or \"ssh://git@git.corp.example\"",
    )
}

/// A program and its arguments.
pub(super) fn command(node: &Node) -> Checked<Vec<String>> {
    let Value::Array(items) = &node.value else {
        let message = format!("expected an array of texts, found {}", node.kind());
        return Err(vec![
            node.mistake(message)
                .hint("write [\"program\", \"argument\"]"),
        ]);
    };
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        words.push(text(item, &Kind::Text)?.to_owned());
    }
    if words.is_empty() {
        return Err(vec![node.mistake("the command is empty")]);
    }
    Ok(words)
}

/// The chain that a text says, whose mistakes are shown at `node`.
pub(super) fn chain_of(node: &Node, text: &str) -> Checked<Chain> {
    let bad_chain = |error: &ChainError| format!("bad chain: {}", redacted(&error.to_string()));
    text.parse::<Chain>().map_err(|error| {
        let mut mistakes = Vec::new();
        let mut start = 0;
        for written in text.split([',', '|']) {
            let entry = written.trim();
            let from = start + (written.len() - written.trim_start().len());
            start += written.len() + 1;
            // Nothing after these is ever asked, or read.
            if matches!(entry, "direct" | "off") {
                break;
            }
            if entry.is_empty() {
                continue;
            }
            if let Err(error) = entry.parse::<Chain>() {
                let mistake = node.mistake_in(from..from + entry.len(), bad_chain(&error));
                let near = nearest(entry, ["direct", "off"]);
                mistakes.push(
                    mistake
                        .hint("entries are URLs, `direct` or `off`, with `,` or `|` between them")
                        .maybe_hint(near.map(|near| format!("did you mean `{near}`?"))),
                );
            }
        }
        if mistakes.is_empty() {
            mistakes.push(node.mistake(bad_chain(&error)));
        }
        mistakes
    })
}

fn parsed<T>(node: &Node, text: &str, what: &str, hint: &str) -> Checked<T>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| {
        let shown = shown(text);
        let error = redacted(&error.to_string());
        let begin = format!("`{shown}` is not {what}: ");
        // Some errors begin so themselves.
        let reason = error.strip_prefix(&begin).unwrap_or(&error);
        vec![node.mistake(format!("{begin}{reason}")).hint(hint)]
    })
}

/// The texts of an array, if `wrong` finds nothing in any of them.
pub(super) fn texts(
    node: &Node,
    kind: &Kind,
    wrong: impl Fn(&Node, &str) -> Option<Mistake>,
) -> Checked<Vec<String>> {
    let Value::Array(items) = &node.value else {
        let mistake = wrong_type(node, kind);
        return Err(match &node.value {
            Value::Text(text) => with_hint(mistake, &format!("write [\"{}\"]", shown(text))),
            _ => mistake,
        });
    };
    let mut texts = Vec::with_capacity(items.len());
    let mut mistakes = Vec::new();
    for item in items {
        match text(item, &Kind::Text) {
            Ok(text) => match wrong(item, text) {
                None => texts.push(text.to_owned()),
                Some(mistake) => mistakes.push(mistake),
            },
            Err(wrong) => mistakes.extend(match &item.value {
                Value::Text(_) => wrong,
                _ => with_hint(wrong, "write each as a string: [\"one\", \"two\"]"),
            }),
        }
    }
    if mistakes.is_empty() {
        Ok(texts)
    } else {
        Err(mistakes)
    }
}

/// Host patterns: `host`, `host:port`, `*.domain`, addresses and networks. One that matches nothing is a mistake: what it
/// was to let in would be refused, with the advice to list it.
pub(super) fn hosts(node: &Node, kind: &Kind) -> Checked<Vec<String>> {
    let (can_match, hint): (fn(&str) -> bool, _) = match kind {
        Kind::NoProxy => (
            egress::is_no_proxy,
            "write `host`, `*.domain`, an address or a network, without a path: \"10.0.0.0/8\"",
        ),
        _ => (
            egress::is_internal_host,
            "write `host` or `*.domain`, perhaps with `:port`, without a path: \"git.corp.example\"",
        ),
    };
    texts(node, kind, |item, text| {
        if text.contains("://") {
            let mistake = item.mistake("a host has no scheme");
            Some(mistake.hint("write \"git.corp.example\""))
        } else if !text.contains(',') && can_match(text) {
            None
        } else {
            let mistake = item.mistake(format!("`{}` is not a host", shown(text)));
            Some(mistake.hint(hint))
        }
    })
}

/// GOVCS: `pattern:vcs|vcs` with commas between.
pub(super) fn vcs(node: &Node, kind: &Kind) -> Checked<Vec<VcsRule>> {
    const SYSTEMS: [&str; 7] = ["git", "hg", "svn", "bzr", "fossil", "all", "off"];
    let text = text(node, kind)?;
    let mut rules = Vec::new();
    let mut mistakes = Vec::new();
    let mut start = 0;
    for item in text.split(',') {
        let span = start..start + item.len();
        start += item.len() + 1;
        let Some((pattern, list)) = item.trim().split_once(':') else {
            mistakes.push(
                node.mistake_in(span, format!("`{}` has no colon", shown(item)))
                    .hint("write \"public:git|hg,private:all\""),
            );
            continue;
        };
        let (pattern, allowed): (_, Vec<&str>) =
            (pattern.trim(), list.split('|').map(str::trim).collect());
        let unknown = allowed.iter().find(|name| !SYSTEMS.contains(name));
        if let Some(unknown) = unknown {
            let near = nearest(unknown, SYSTEMS).map(|near| format!("did you mean `{near}`?"));
            mistakes.push(
                node.mistake_in(span, format!("`{}` is no version control", shown(unknown)))
                    .hint(format!("known are {}", SYSTEMS.join(", ")))
                    .maybe_hint(near),
            );
        } else if allowed.len() > 1 && (allowed.contains(&"all") || allowed.contains(&"off")) {
            mistakes.push(node.mistake_in(span, "`all` and `off` stand alone"));
        } else if pattern.is_empty() || Patterns::parse(pattern).is_err() {
            mistakes.push(node.mistake_in(span, format!("bad pattern `{}`", shown(pattern))));
        } else {
            rules.push(VcsRule {
                pattern: pattern.to_owned(),
                allowed: allowed.into_iter().map(str::to_owned).collect(),
            });
        }
    }
    if mistakes.is_empty() {
        Ok(rules)
    } else {
        Err(mistakes)
    }
}

/// The beginning of a text of the user's, safe to print.
pub(super) fn shown(text: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 80;
    let text = redacted(text);
    let mut out: String = text
        .chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        out.push('…');
    }
    out
}
