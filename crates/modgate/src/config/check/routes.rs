//! `[[route]]`: rules by module path.

use gomod::pattern::Patterns;

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

/// Private modules go by a route only if its pattern matches nothing else: the operator is told where one looks as if it
/// were for them too.
pub(super) fn tell_of_wide_routes(
    reader: &mut Reader<'_>,
    routes: &[Route],
    private: &Patterns,
    private_patterns: &[String],
) {
    let routes = routes.iter().filter(|route| route.chain.is_some());
    for pattern in routes.flat_map(|route| &route.patterns) {
        let host = pattern.split('/').next().unwrap_or_default();
        let narrow = Patterns::parse(pattern).is_ok_and(|own| !own.within(private).is_empty());
        // Nobody takes a rule for everything for one of his own modules.
        if narrow || !host.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            continue;
        }
        if let Some(met) = private_patterns.iter().find(|own| overlap(pattern, own)) {
            reader.notices.push(format!(
                "private modules (`{met}`) do not go by the [[route]] for `{pattern}`, which matches others too: give them a route that names them, or they come `direct`"
            ));
        }
    }
}
