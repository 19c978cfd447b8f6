//! Secrets and `[[credential]]`.

use super::{
    super::{
        checked::Credential,
        kinds::{self, Checked, shown},
        layers::Scope,
        nearest::nearest,
        reader::{Reader, array, quoted},
        secret::{Secret, SecretSource},
        setting::Kind,
        source::{Node, Value},
    },
    items, not_in_effect,
};

/// Ways to name a secret.
const WAYS: [&str; 3] = ["env", "file", "command"];

/// The credentials, checked; nothing uses them before direct fetch.
pub(super) fn read(reader: &mut Reader<'_>, scope: &Scope) -> Vec<Credential> {
    let mut credentials = Vec::new();
    for (_, item) in items(reader, scope, "credential") {
        let matches = reader.url(&item, "match");
        let username = reader.read(
            &item,
            "username",
            |_, node, kind| kinds::text(node, kind).map(str::to_owned),
            |name| quoted(name),
        );
        let password = reader.read(
            &item,
            "password",
            |reader, node, _| source(reader, node, &WAYS),
            show,
        );
        if let (Some(matches), Some(password)) = (matches, password) {
            credentials.push(Credential {
                matches,
                username,
                password,
            });
        }
    }
    not_in_effect(reader, scope, "credential");
    credentials
}

/// The value of a header: written there, or named.
pub(super) fn plain_or_secret(reader: &mut Reader<'_>, node: &Node) -> Checked<(Secret, String)> {
    if matches!(node.value, Value::Text(_)) {
        let text = kinds::text(node, &Kind::Text)?;
        return Ok((Secret::new(text.to_owned()), "\"***\"".to_owned()));
    }
    let source = source(reader, node, &WAYS[..2])?;
    let shown = show(&source);
    match source {
        SecretSource::Env { value, .. } | SecretSource::File { value, .. } => Ok((value, shown)),
        SecretSource::Command(_) => Err(vec![node.mistake("a header cannot come from a command")]),
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
            let path = kinds::path(value, &Kind::Path)?;
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
        "command" if ways.contains(&"command") => command(value),
        other => {
            let near = nearest(other, ways.iter().copied());
            let near = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` is no source of a secret", shown(other));
            Err(vec![node.mistake(message).hint(hint).maybe_hint(near)])
        }
    }
}

fn from_env(reader: &mut Reader<'_>, node: &Node) -> Checked<SecretSource> {
    let name = kinds::text(node, &Kind::Text)?;
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

fn command(node: &Node) -> Checked<SecretSource> {
    let Value::Array(items) = &node.value else {
        let message = format!("expected an array of texts, found {}", node.kind());
        return Err(vec![
            node.mistake(message)
                .hint("write [\"program\", \"argument\"]"),
        ]);
    };
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        words.push(kinds::text(item, &Kind::Text)?.to_owned());
    }
    if words.is_empty() {
        return Err(vec![node.mistake("the command is empty")]);
    }
    Ok(SecretSource::Command(words))
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
