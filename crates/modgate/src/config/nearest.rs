//! The nearest valid name to one that is wrong.

/// Longest name that is compared: the work is the product of both lengths.
const MAX_COMPARED_BYTES: usize = 64;

/// The candidate that is most likely meant by `name`, if one is near enough.
///
/// Near enough is a third of the name's length in edits (one at least), or the
/// same letters without case, `-` and `_`.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    if name.is_empty() || name.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let wanted = plain(name);
    let limit = (wanted.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

fn plain(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Edits from one name to the other: insert, delete, replace, and swap of two
/// neighbours (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let width = to.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    for (row, a) in from.iter().enumerate() {
        let mut line = vec![row + 1; width];
        for (col, b) in to.iter().enumerate() {
            let replace = above[col] + usize::from(a != b);
            line[col + 1] = replace.min(above[col + 1] + 1).min(line[col] + 1);
            if row > 0 && col > 0 && *a == to[col - 1] && from[row - 1] == *b {
                line[col + 1] = line[col + 1].min(before[col - 1] + 1);
            }
        }
        before = std::mem::replace(&mut above, line);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["listen", "data", "chain", "private", "max_connections"];
        for (name, expected) in [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("Chain", Some("chain")),
            ("max-connections", Some("max_connections")),
            ("maxConnections", Some("max_connections")),
            ("dat", Some("data")),
            ("storage", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"l".repeat(100_000), known), None);
    }
}
