//! Secrets and `[[credential]]`.

use std::path::{Path, PathBuf};

use egress::credential::{ClientCertificate, SshKey};
use egress::{Credential, Hidden, Kind, UrlPrefix};

use super::{
    super::{
        kinds::{self, Checked, shown},
        layers::Scope,
        nearest::nearest,
        origin::Origin,
        reader::{Reader, array, quoted},
        secret::{Secret, SecretSource},
        setting::Kind as SettingKind,
        source::{Node, Value},
    },
    has_key, header_mistake, items, network,
};

/// Ways to name a secret.
const WAYS: [&str; 3] = ["env", "file", "command"];

/// Ways to say what is presented, and the key that must come with each.
const KINDS: [(&str, Option<&str>); 6] = [
    ("password", None),
    ("token", None),
    ("client_cert", Some("client_key")),
    ("ssh_key", None),
    ("netrc", None),
    ("helper", None),
];

/// Keys that only mean something beside another.
const BESIDE: [(&str, &[&str]); 4] = [
    ("username", &["password", "ssh_key"]),
    ("header", &["token"]),
    ("client_key", &["client_cert"]),
    ("known_hosts", &["ssh_key"]),
];

/// The user of Basic authentication where none is written: servers that want a token alone ignore it.
const ANY_USER: &str = "git";

/// The credentials, checked.
pub(super) fn read(reader: &mut Reader<'_>, scope: &Scope) -> Vec<Credential> {
    let mut credentials: Vec<Credential> = Vec::new();
    let watched = reader.watched.len();
    for (table, item) in items(reader, scope, "credential") {
        let matches = prefix(reader, &table, &item);
        let kind = kind(reader, &table, &item);
        let (Some(matches), Some(kind)) = (matches, kind) else {
            continue;
        };
        fits(reader, &item, &matches, &kind);
        let over_ssh = |kind: &Kind| matches!(kind, Kind::Ssh(_));
        let certificate = |kind: &Kind| matches!(kind, Kind::ClientCertificate(_));
        let twice = credentials.iter().any(|other| {
            other.matches == matches
                && over_ssh(&other.kind) == over_ssh(&kind)
                && certificate(&other.kind) == certificate(&kind)
        });
        if twice {
            let mistake = header_mistake(
                &table,
                format!("another [[credential]] is for `{matches}` too"),
            );
            reader
                .mistakes
                .push(mistake.hint("only the first would be used: give each a `match` of its own"));
        }
        credentials.push(Credential { matches, kind });
    }
    // Their files are looked at whenever they are used: a renewed token is no new configuration.
    reader.watched.truncate(watched);
    credentials
}

/// `match`, which is `*` for what knows its hosts by itself.
fn prefix(reader: &mut Reader<'_>, table: &Node, item: &Scope) -> Option<UrlPrefix> {
    let show = |prefix: &UrlPrefix| quoted(&prefix.to_string());
    let given = reader.read(
        item,
        "match",
        |_, node, kind| kinds::prefix(node, kind),
        show,
    );
    if given.is_some() || item.node("match").is_some() {
        return given;
    }
    if item.node("netrc").is_some() || item.node("helper").is_some() {
        let origin = Origin::Found("all hosts that it knows".to_owned());
        reader.record(
            item,
            item.setting("match"),
            Some("\"*\"".to_owned()),
            origin,
        );
        return Some(UrlPrefix::any());
    }
    let mistake = header_mistake(table, "`match` is missing in [[credential]]".to_owned());
    reader
        .mistakes
        .push(mistake.hint("for example: match = \"https://git.corp.example/team\""));
    None
}

/// What is presented: exactly one kind.
fn kind(reader: &mut Reader<'_>, table: &Node, item: &Scope) -> Option<Kind> {
    let given: Vec<&str> = KINDS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| item.node(name).is_some())
        .collect();
    for (name, mains) in BESIDE {
        if let Some(node) = item.node(name)
            && !mains.iter().any(|main| given.contains(main))
        {
            let mistake = node.mistake(format!("`{name}` means nothing here"));
            reader
                .mistakes
                .push(mistake.hint(format!("it belongs beside `{}`", mains.join("` or `"))));
        }
    }
    // All are read, so that all mistakes are told and all values shown.
    let username = text(reader, item, "username");
    let password = secret(reader, item, "password");
    let token = secret(reader, item, "token");
    let header = header(reader, item);
    let cert = pem_file(
        reader,
        item,
        "client_cert",
        network::has_certificate,
        "certificate",
    );
    let key = pem_file(reader, item, "client_key", has_key, "private key");
    let ssh_key = file(reader, item, "ssh_key");
    let known_hosts = file(reader, item, "known_hosts");
    let netrc = file(reader, item, "netrc");
    let show = |words: &Vec<String>| array(words);
    let helper = reader.read(item, "helper", |_, node, _| kinds::command(node), show);
    let only = match given[..] {
        [only] => only,
        [] => {
            let mistake = header_mistake(table, "nothing to present in [[credential]]".to_owned());
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            reader
                .mistakes
                .push(mistake.hint(format!("set one of `{}`", names.join("`, `"))));
            return None;
        }
        [.., last] => {
            let mistake = item
                .node(last)?
                .mistake(format!("`{}` and `{last}` in one [[credential]]", given[0]));
            reader
                .mistakes
                .push(mistake.hint("write a [[credential]] for each"));
            return None;
        }
    };
    if let Some((_, Some(beside))) = KINDS.iter().find(|(name, _)| *name == only)
        && item.node(beside).is_none()
    {
        let mistake = item
            .node(only)?
            .mistake(format!("`{only}` is set, `{beside}` is not"));
        reader
            .mistakes
            .push(mistake.hint("a client certificate needs both"));
    }
    Some(match only {
        "password" => Kind::Basic {
            username: username.unwrap_or_else(|| ANY_USER.to_owned()),
            password: password?,
        },
        "token" => match header {
            Some(name) => Kind::Header {
                name,
                value: token?,
            },
            None => Kind::Bearer(token?),
        },
        "client_cert" => Kind::ClientCertificate(ClientCertificate {
            cert: cert?,
            key: key?,
        }),
        "ssh_key" => Kind::Ssh(SshKey {
            key: ssh_key?,
            known_hosts,
            username,
        }),
        "netrc" => Kind::Netrc(netrc?),
        _ => Kind::Helper(helper?),
    })
}

/// Whether a credential can be used where it is for.
fn fits(reader: &mut Reader<'_>, item: &Scope, matches: &UrlPrefix, kind: &Kind) {
    let Some(node) = item.node("match") else {
        return;
    };
    let over_ssh = matches!(kind, Kind::Ssh(_));
    let wrong = match matches.scheme() {
        Some("ssh") if !over_ssh => Some((
            "only a key is used over ssh",
            "set `ssh_key`, or write https:// here",
        )),
        Some("http" | "https") if over_ssh => Some((
            "a key is used over ssh only",
            "write ssh:// here, or the host alone",
        )),
        _ if matches.is_any() && kind.secret().is_some() => Some((
            "this would send the secret to every host",
            "name the host it is for",
        )),
        _ => None,
    };
    if let Some((message, hint)) = wrong {
        reader.mistakes.push(node.mistake(message).hint(hint));
    }
    if matches.scheme() == Some("http") {
        let origin = Origin::of(node);
        reader.notices.push(format!(
            "the [[credential]] for `{matches}` ({origin}) is sent without encryption"
        ));
    }
}

fn text(reader: &mut Reader<'_>, item: &Scope, name: &str) -> Option<String> {
    let parse = |_: &mut Reader<'_>, node: &Node, kind: &SettingKind| {
        let text = kinds::text(node, kind)?;
        if text.starts_with('-') || text.chars().any(char::is_control) {
            return Err(vec![
                node.mistake(format!("`{}` is no name of a user", shown(text))),
            ]);
        }
        Ok(text.to_owned())
    };
    reader.read(item, name, parse, |text| quoted(text))
}

fn secret(reader: &mut Reader<'_>, item: &Scope, name: &str) -> Option<egress::Secret> {
    let parse = |reader: &mut Reader<'_>, node: &Node, _: &SettingKind| source(reader, node, &WAYS);
    reader
        .read(item, name, parse, show)
        .map(|source| match source {
            SecretSource::Env { name, value } => egress::Secret::Env {
                name,
                value: Hidden::new(value.expose()),
            },
            SecretSource::File { path, .. } => egress::Secret::File(path),
            SecretSource::Command(words) => egress::Secret::Command(words),
        })
}

fn header(reader: &mut Reader<'_>, item: &Scope) -> Option<String> {
    let parse = |_: &mut Reader<'_>, node: &Node, kind: &SettingKind| {
        let text = kinds::text(node, kind)?;
        if http::HeaderName::try_from(text).is_ok() {
            return Ok(text.to_owned());
        }
        // Some write the value behind it, so it is not repeated.
        let mistake = node.mistake("this is no name of a header");
        Err(vec![
            mistake.hint("write the name alone, such as \"Private-Token\""),
        ])
    };
    reader.read(item, "header", parse, |text| quoted(text))
}

/// A file that can be read now; what it holds is read when it is needed.
fn file(reader: &mut Reader<'_>, item: &Scope, name: &str) -> Option<PathBuf> {
    let (path, text) = reader.file(item, name)?;
    if name == "ssh_key" {
        look_at_key(reader, item, &path, &text);
    }
    Some(path)
}

/// What ssh does not say clearly when it cannot use a key.
fn look_at_key(reader: &mut Reader<'_>, item: &Scope, path: &Path, text: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(node) = item.node("ssh_key") else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    if has_passphrase(&text) {
        let mistake = node.mistake("the key has a passphrase, which nobody is there to type");
        reader
            .mistakes
            .push(mistake.hint("make one without: ssh-keygen -p -N '' -f FILE"));
    } else if !text.contains("PRIVATE KEY-----") {
        let mistake = node.mistake("the file is no private SSH key");
        reader
            .mistakes
            .push(mistake.hint("name the file without .pub at its end"));
    }
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if open {
        let mistake = node.mistake("others may read the key, so ssh will not use it");
        reader
            .mistakes
            .push(mistake.hint("chmod 600 it, or mount the secret with mode 0400"));
    }
}

/// Whether a private key is encrypted. PEM says so above its body; of OpenSSH's own form the body itself does, which
/// begins with a magic word and the name of the cipher (PROTOCOL.key).
fn has_passphrase(key: &str) -> bool {
    // "openssh-key-v1\0", and "none" behind its length and before the next one: both end where a group of base64 does.
    const MAGIC: &str = "b3BlbnNzaC1rZXktdjEA";
    const NO_CIPHER: &str = "AAAABG5vbmUA";
    let body = key.split_once("-----BEGIN OPENSSH PRIVATE KEY-----");
    let body: String = body
        .map_or("", |(_, body)| body)
        .split_whitespace()
        .collect();
    let cipher = body.strip_prefix(MAGIC);
    key.contains("ENCRYPTED") || cipher.is_some_and(|cipher| !cipher.starts_with(NO_CIPHER))
}

fn pem_file(
    reader: &mut Reader<'_>,
    item: &Scope,
    name: &str,
    holds: fn(&[u8]) -> bool,
    what: &str,
) -> Option<PathBuf> {
    let (path, pem) = reader.file(item, name)?;
    if let Some(node) = item.node(name)
        && !holds(&pem)
    {
        let mistake = node.mistake(format!("the file has no {what} in PEM form"));
        reader
            .mistakes
            .push(mistake.hint("certificate and key may have been swapped, or are DER"));
    }
    Some(path)
}

/// A value that is never shown: written there, or named.
pub(super) fn plain_or_secret(reader: &mut Reader<'_>, node: &Node) -> Checked<(Secret, String)> {
    if matches!(node.value, Value::Text(_)) {
        let text = kinds::text(node, &SettingKind::Text)?;
        return Ok((Secret::new(text.to_owned()), "\"***\"".to_owned()));
    }
    named_secret(reader, node)
}

/// A secret that is read with the configuration, and its source as it is shown.
pub(super) fn named_secret(reader: &mut Reader<'_>, node: &Node) -> Checked<(Secret, String)> {
    let source = source(reader, node, &WAYS[..2])?;
    let shown = show(&source);
    match source {
        SecretSource::Env { value, .. } | SecretSource::File { value, .. } => Ok((value, shown)),
        SecretSource::Command(_) => Err(vec![node.mistake("it cannot come from a command")]),
    }
}

/// Where a secret comes from, in one of the allowed ways; its value is read now.
fn source(reader: &mut Reader<'_>, node: &Node, ways: &[&str]) -> Checked<SecretSource> {
    let examples = [
        "{ env = \"NAME\" }",
        "{ file = \"/path\" }",
        "{ command = [\"program\"] }",
    ];
    let hint = format!("write {}", examples[..ways.len()].join(" or "));
    let one = match node.entries() {
        Some([one]) => one,
        Some(_) => {
            let mistake = node.mistake("expected exactly one source of the secret");
            return Err(vec![mistake.hint(hint)]);
        }
        None if matches!(node.value, Value::Text(_)) => {
            let mistake = node.mistake("a secret is not written into the configuration");
            return Err(vec![mistake.hint(hint)]);
        }
        None => {
            let message = format!("expected the source of a secret, found {}", node.kind());
            return Err(vec![node.mistake(message).hint(hint)]);
        }
    };
    let value = &one.node;
    match one.key.as_str() {
        "env" => from_env(reader, value),
        "file" => {
            let path = kinds::path(value, &SettingKind::Path)?;
            let bytes = reader.side_file(value, &path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| vec![value.mistake("the file is not UTF-8")])?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Err(vec![value.mistake("the file is empty")]);
            }
            Ok(SecretSource::File {
                path,
                value: Secret::new(text.to_owned()),
            })
        }
        "command" if ways.contains(&"command") => kinds::command(value).map(SecretSource::Command),
        other => {
            let near = nearest(other, ways.iter().copied());
            let near = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` is no source of a secret", shown(other));
            Err(vec![node.mistake(message).hint(hint).maybe_hint(near)])
        }
    }
}

fn from_env(reader: &mut Reader<'_>, node: &Node) -> Checked<SecretSource> {
    let name = kinds::text(node, &SettingKind::Text)?;
    reader.referenced.push(name.to_owned());
    let Some(value) = reader.env.get(name) else {
        let message = format!("the environment variable `{}` is not set", shown(name));
        let hint = "set it before modgate starts, or use { file = \"/path\" }";
        return Err(vec![node.mistake(message).hint(hint)]);
    };
    Ok(SecretSource::Env {
        name: name.to_owned(),
        value: Secret::new(value.to_owned()),
    })
}

/// The source as TOML: it tells where the secret is, not what.
fn show(source: &SecretSource) -> String {
    match source {
        SecretSource::Env { name, .. } => format!("{{ env = {} }}", quoted(name)),
        SecretSource::File { path, .. } => {
            format!("{{ file = {} }}", quoted(&path.to_string_lossy()))
        }
        SecretSource::Command(words) => format!("{{ command = {} }}", array(words)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn keys_with_a_passphrase() {
        let dir = tempfile::tempdir().unwrap();
        for (form, kind) in [("RFC4716", "ed25519"), ("RFC4716", "rsa"), ("PEM", "rsa")] {
            for passphrase in ["", "s3cret"] {
                let file = dir.path().join(format!("{form}-{kind}-{passphrase}"));
                let made = Command::new("ssh-keygen")
                    .args(["-q", "-m", form, "-t", kind, "-N", passphrase, "-f"])
                    .arg(&file)
                    .status();
                assert!(made.unwrap().success());
                let key = std::fs::read_to_string(&file).unwrap();
                let want = !passphrase.is_empty();
                assert_eq!(has_passphrase(&key), want, "{form} {kind} {passphrase}");
            }
        }
        for other in [
            "",
            "ssh-ed25519 AAAA",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        ] {
            assert!(!has_passphrase(other), "{other}");
        }
    }
}
