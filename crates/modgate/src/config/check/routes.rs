//! `[[route]]`: rules by module path.

use super::{
    super::{
        checked::{Mode, Route},
        itself::Itself,
        layers::Scope,
        origin::Origin,
        overlap::{covers, overlap},
        reader::{Reader, quoted},
    },
    chain, items, mode,
};

/// The routes in their order. `default_mode` is what a route without a mode has.
pub(super) fn read(
    reader: &mut Reader<'_>,
    scope: &Scope,
    itself: &Itself,
    default_mode: Mode,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for (_, item) in items(reader, scope, "route") {
        let (matches, patterns) = reader.patterns(&item, "match");
        if let Some(node) = item.node("match")
            && matches!(&node.value, super::Value::Array(list) if list.is_empty())
        {
            let mistake = node.mistake("the route matches nothing");
            reader
                .mistakes
                .push(mistake.hint("give at least one pattern"));
        }
        let chain = reader.read(
            &item,
            "chain",
            |reader, node, kind| chain::given(reader, node, kind, itself),
            |(_, text)| quoted(text),
        );
        let given = reader.choice(&item, "mode");
        if item.node("mode").is_none() {
            let origin = Origin::Found("the top-level mode".to_owned());
            let shown = quoted(default_mode.as_str());
            reader.record(&item, item.setting("mode"), Some(shown), origin);
        }
        routes.push(Route {
            matches,
            patterns,
            chain: chain.map(|(chain, _)| chain),
            mode: given.map_or(default_mode, mode),
        });
    }
    routes
}

/// A route that says redirect must not be reached by a private module: its name
/// would go to an upstream in the client's next request. Private patterns that an
/// earlier route takes whole are out of reach.
pub(super) fn never_redirect_private(
    reader: &mut Reader<'_>,
    scope: &Scope,
    routes: &[Route],
    private: &[String],
) {
    let Some(super::Value::Array(tables)) = scope.node("route").map(|node| &node.value) else {
        return;
    };
    let mut taken: Vec<&String> = Vec::new();
    let tables = tables.iter().filter(|table| table.entries().is_some());
    for (route, table) in routes.iter().zip(tables) {
        let own_mode = table.get("mode").filter(|_| route.mode.redirects());
        if let Some(node) = own_mode {
            for pattern in private {
                let met = route.patterns.iter().find(|own| overlap(own, pattern));
                if let (Some(met), false) = (met, taken.iter().any(|own| covers(own, pattern))) {
                    let mode = route.mode.as_str();
                    reader.mistakes.push(
                        node.mistake(format!(
                            "`{mode}` for `{met}` would send names of private modules (`{pattern}`) to an upstream"
                        ))
                        .hint("use \"sync\" or \"async\" here, or put a route for the private modules before it"),
                    );
                }
            }
        } else {
            taken.extend(&route.patterns);
        }
    }
}
