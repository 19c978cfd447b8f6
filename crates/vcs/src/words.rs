//! What programs say, without what others choose: names and addresses in it must not decide what it means.

/// The lines in lower case, without URLs and without what stands in quotes; single spaces between words.
pub(crate) fn bare(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| {
            let words = line.split_whitespace().filter(|word| !word.contains("://"));
            let line = words.collect::<Vec<_>>().join(" ");
            let line = without_quoted(&without_quoted(&line, '\''), '"');
            line.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .to_lowercase()
        })
        .filter(|line| !line.is_empty())
        .collect()
}

/// Without what is between the first and the last quote: a name may have quotes itself. A quote that follows a letter is
/// an apostrophe, unless it ends what another began.
fn without_quoted(line: &str, quote: char) -> String {
    let begins = |at: usize| {
        !line[..at]
            .chars()
            .next_back()
            .is_some_and(char::is_alphanumeric)
    };
    let first = line
        .match_indices(quote)
        .map(|(at, _)| at)
        .find(|at| begins(*at));
    match (first, line.rfind(quote)) {
        (Some(first), Some(last)) if first < last => {
            format!("{}{}", &line[..first], &line[last + 1..])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_nothing() {
        for (said, want) in [
            (
                "fatal: repository 'https://a.com/not-found/' not found",
                "fatal: repository not found",
            ),
            (
                "fatal: '/x/certificate' does not appear to be a git repository",
                "fatal: does not appear to be a git repository",
            ),
            (
                "svn: E170013: Unable to connect to a repository at URL 'svn://h/it's not found'",
                "svn: e170013: unable to connect to a repository at url not found'",
            ),
            (
                "bzr: ERROR: Not a branch: \"/x/401\".",
                "bzr: error: not a branch: .",
            ),
            ("can't do it", "can't do it"),
        ] {
            assert_eq!(bare(said), [want]);
        }
        assert_eq!(bare("a\n\n b  c\n"), ["a", "b c"]);
    }
}
