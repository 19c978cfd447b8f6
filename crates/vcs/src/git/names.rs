//! Names that git itself takes into no index, and so into no archive: with one of them in a commit the go command gets
//! no zip of any module of it. These are git's own rules (`verify_path`) as they are on Linux, with NTFS's names
//! protected too, which is the default everywhere.

/// Whether git takes a file or link of this path from the root of the repository.
pub(super) fn is_allowed(path: &[u8], link: bool) -> bool {
    path.split(|byte| *byte == b'/').all(|element| {
        // Elsewhere a backslash is a slash.
        let mut parts = element.split(|byte| *byte == b'\\');
        !matches!(element, b"" | b"." | b"..")
            && parts.all(|part| !(is_dot_git(part) || link && is_dot_gitmodules(part)))
    })
}

/// `.git` or its short form, in any case, with what Windows does not count behind it.
fn is_dot_git(name: &[u8]) -> bool {
    [&b".git"[..], b"git~1"]
        .iter()
        .any(|git| strip(name, git).is_some_and(only_dots_and_spaces))
}

/// `.gitmodules` likewise. Its short forms are the first letters with a number, or letters of a hash.
fn is_dot_gitmodules(name: &[u8]) -> bool {
    let rest = strip(name, b".gitmodules").or_else(|| match strip(name, b"gitmod~") {
        Some([b'1'..=b'4', rest @ ..]) => Some(rest),
        _ => hashed(name),
    });
    rest.is_some_and(only_dots_and_spaces)
}

/// What comes behind eight letters: a beginning of `gi7eba`, `~` and a number without a zero in front.
fn hashed(name: &[u8]) -> Option<&[u8]> {
    let (short, rest) = name.split_at_checked(8)?;
    let tilde = short.iter().position(|byte| *byte == b'~')?;
    let (letters, number) = (&short[..tilde], &short[tilde + 1..]);
    let start = b"gi7eba".get(..tilde)?;
    let is_number =
        number.first().is_some_and(|digit| *digit != b'0') && number.iter().all(u8::is_ascii_digit);
    (letters.eq_ignore_ascii_case(start) && is_number).then_some(rest)
}

/// What comes behind a beginning in any case.
fn strip<'a>(name: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = name.split_at_checked(start.len())?;
    first.eq_ignore_ascii_case(start).then_some(rest)
}

/// Up to a colon, behind which is the name of a stream.
fn only_dots_and_spaces(rest: &[u8]) -> bool {
    rest.iter()
        .take_while(|byte| **byte != b':')
        .all(|byte| matches!(byte, b'.' | b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `git archive` said of each.
    #[test]
    fn names() {
        for name in [
            ".git", ".GIT", ".git/x", "a/.git", "a\\.git", "a\\git~1", ".git ", ".git.", ".git:x",
            "git~1", "GIT~1/x", "..", "a/../b", ".", "a//b", "/a",
        ] {
            assert!(!is_allowed(name.as_bytes(), false), "{name}");
            assert!(!is_allowed(name.as_bytes(), true), "{name}");
        }
        for name in [
            ".gitmodules",
            ".GitModules",
            ".gitmodules .",
            "gitmod~1",
            "GITMOD~4",
            "gi7eba~1",
            "gi7eb~12",
            "~1000000",
        ] {
            assert!(is_allowed(name.as_bytes(), false), "{name}");
            assert!(!is_allowed(name.as_bytes(), true), "{name}");
        }
        for name in [
            ".gitignore",
            ".gitattributes",
            ".github/x",
            "git",
            "git~2",
            "C:x",
            "...",
            "a\\..\\b",
            ".gi",
            "gitmod~5",
            "gi7eba~0",
            "gi7ebb~1",
            "two\nlines",
            "--option",
        ] {
            assert!(is_allowed(name.as_bytes(), false), "{name}");
            assert!(is_allowed(name.as_bytes(), true), "{name}");
        }
    }
}
