//! The chain: what was set, else what Go on this machine uses, else `direct`;
//! never the gateway itself.

use upstream::chain::Chain;

use super::super::{
    goenv::{self, GoSetting},
    itself::{Itself, upstream_key},
    kinds::{self, Checked},
    layers::Scope,
    mistake::Mistake,
    origin::Origin,
    reader::{Reader, quoted},
    redact::redacted,
    setting::Kind,
    source::{Node, Place, Value},
};

/// The end of every default.
const DIRECT: &str = "direct";

/// The chain in effect and the keys of its upstreams.
pub(super) fn top_level(
    reader: &mut Reader<'_>,
    scope: &Scope,
    itself: &Itself,
) -> (Chain, Vec<String>) {
    let show = |(_, text): &(Chain, String)| quoted(text);
    let given = reader.read(
        scope,
        "chain",
        |reader, node, kind| given(reader, node, kind, itself),
        show,
    );
    let (chain, text) = given.unwrap_or_else(|| {
        if scope.node("chain").is_some() {
            return direct();
        }
        let (chain, text, from) = found(reader, itself);
        let setting = scope.setting("chain");
        reader.record(scope, setting, Some(quoted(&text)), Origin::Found(from));
        (chain, text)
    });
    (chain, entries(&text))
}

/// A chain somebody wrote for modgate: without itself, something must be left.
pub(super) fn given(
    reader: &mut Reader<'_>,
    node: &Node,
    kind: &Kind,
    itself: &Itself,
) -> Checked<(Chain, String)> {
    let text = kinds::text(node, kind)?;
    let chain = kinds::chain_of(node, text)?;
    if let Some((end, never)) = behind_the_end(&redacted(text)) {
        let origin = Origin::of(node);
        reader.notices.push(format!(
            "`{never}` in the chain ({origin}) is never asked: it stands behind `{end}`"
        ));
    }
    let cleaned = itself.clean(text);
    if itself.may_be_named || cleaned.left_out.is_empty() {
        return Ok((chain, text.to_owned()));
    }
    let names = cleaned.left_out.join("`, `");
    if cleaned.chain.is_empty() {
        return Err(vec![
            node.mistake(format!(
                "`{names}` is this gateway itself: nothing else is in the chain"
            ))
            .hint("name the upstream the gateway should ask"),
        ]);
    }
    let origin = Origin::of(node);
    reader.notices.push(format!(
        "`{names}` in the chain ({origin}) is this gateway itself: left out"
    ));
    Ok((kinds::chain_of(node, &cleaned.chain)?, cleaned.chain))
}

/// The default: the chain, its text, and why it is this one.
fn found(reader: &mut Reader<'_>, itself: &Itself) -> (Chain, String, String) {
    let env = reader.env;
    for setting in goenv::settings(env, "GOPROXY") {
        if let Some(found) = usable(reader, itself, setting) {
            return found;
        }
    }
    let asked = goenv::ask_go(env, "GOPROXY");
    if let Some(found) = asked.and_then(|setting| usable(reader, itself, setting)) {
        return found;
    }
    let (chain, text) = direct();
    (
        chain,
        text,
        "Go's settings on this machine name no upstream".to_owned(),
    )
}

fn usable(
    reader: &mut Reader<'_>,
    itself: &Itself,
    setting: GoSetting,
) -> Option<(Chain, String, String)> {
    let GoSetting { value, from } = setting;
    let cleaned = itself.clean(&value);
    if !cleaned.left_out.is_empty() {
        let names = cleaned.left_out.join("`, `");
        // What is left of "modgate,direct" was meant for clients, not for modgate.
        let next = if cleaned.has_upstream() {
            "left out"
        } else {
            "the next source is used"
        };
        reader
            .notices
            .push(format!("`{names}` ({from}) is this gateway itself: {next}"));
        if !cleaned.has_upstream() {
            return None;
        }
    }
    match cleaned.chain.parse() {
        Ok(chain) => Some((chain, cleaned.chain, from)),
        Err(error) => {
            let error = redacted(&format!("{error}"));
            let place = Place::Env("GOPROXY".to_owned());
            reader.mistakes.push(
                Mistake::whole(place, format!("{from} is no chain: {error}"))
                    .hint("it is the default of `chain`: correct it, or set `chain`"),
            );
            None
        }
    }
}

/// `direct` alone.
pub(super) fn direct() -> (Chain, String) {
    let chain = DIRECT.parse().expect("`direct` is a chain");
    (chain, DIRECT.to_owned())
}

/// What stands behind the `direct` or `off` that ends a chain, and that word: go passes it over without a sound.
fn behind_the_end(chain: &str) -> Option<(&str, &str)> {
    let mut entries = chain.split([',', '|']).map(str::trim);
    let end = entries.find(|entry| matches!(*entry, "direct" | "off"))?;
    let never = entries.find(|entry| !entry.is_empty())?;
    Some((end, never))
}

/// The keys of the upstreams that a chain's text names.
fn entries(chain: &str) -> Vec<String> {
    chain
        .split([',', '|'])
        .map(str::trim)
        .filter(|entry| !matches!(*entry, "" | "direct" | "off"))
        .map(upstream_key)
        .collect()
}

/// The keys of the upstreams that routes name.
pub(super) fn entries_of_routes(scope: &Scope) -> Vec<String> {
    let Some(Value::Array(routes)) = scope.node("route").map(|node| &node.value) else {
        return Vec::new();
    };
    routes
        .iter()
        .filter_map(|route| match &route.get("chain")?.value {
            Value::Text(text) => Some(entries(text)),
            _ => None,
        })
        .flatten()
        .collect()
}
