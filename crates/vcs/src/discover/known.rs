//! Roots that the path itself tells: well-known hosts, and elements such as `x.git`.

use super::root::{Kind, Root};

/// What a path tells by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its repository.
    Root(Root),
    /// Its repository but for the scheme, which is to be tried out.
    Schemeless {
        /// The root, up to and with the element that names the system.
        prefix: String,
        /// The system.
        vcs: Kind,
        /// Host and path of the repository, without the system's name at the end, as the go command asks for it.
        repo: String,
    },
    /// No module can have this path, for the reason given.
    Invalid(String),
    /// Only the host knows.
    Unknown,
}

/// Looks at a module path (already checked to be one).
pub(crate) fn known(path: &str) -> Known {
    let elements: Vec<&str> = path.split('/').collect();
    match elements[0] {
        "example.net" => Known::Invalid("no modules on example.net".to_owned()),
        "rsc.io" if path == "rsc.io" => Known::Invalid("rsc.io is not a module".to_owned()),
        host @ ("github.com" | "bitbucket.org") => forge(path, &elements, host, 3, true),
        "hub.jazz.net" if elements.get(1) == Some(&"git") => {
            let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            let fine = elements.get(2).is_some_and(|user| user.chars().all(lower));
            forge(
                path,
                &elements,
                "hub.jazz.net/git",
                if fine { 4 } else { usize::MAX },
                true,
            )
        }
        "git.apache.org" => {
            let lower = |c: char| !c.is_ascii_uppercase() && c != '~';
            let named = |repo: &&str| system(repo) == Some(Kind::Git) && repo.chars().all(lower);
            let fine = elements.get(1).is_some_and(named);
            forge(
                path,
                &elements,
                "git.apache.org",
                if fine { 2 } else { usize::MAX },
                false,
            )
        }
        "git.openstack.org" => forge(path, &elements, "git.openstack.org", 3, false),
        "chiselapp.com" => match elements[..] {
            [_, "user", user, "repository", repo]
                if user.chars().all(|c| c.is_ascii_alphanumeric()) && word(repo) =>
            {
                Known::Root(root(path, Kind::Fossil))
            }
            _ => invalid("chiselapp.com", path),
        },
        _ => qualified(path, &elements),
    }
}

/// A root of `count` elements on a git host.
fn forge(path: &str, elements: &[&str], host: &str, count: usize, no_suffix: bool) -> Known {
    if elements.len() < count || !elements.iter().all(|element| word(element)) {
        return invalid(host, path);
    }
    let root = root(&elements[..count].join("/"), Kind::Git);
    if no_suffix && system(elements[count - 1]).is_some() {
        return Known::Invalid(format!("invalid version control suffix in {host}/ path"));
    }
    Known::Root(root)
}

fn root(prefix: &str, vcs: Kind) -> Root {
    Root {
        prefix: prefix.to_owned(),
        vcs,
        url: format!("https://{prefix}"),
        subdir: String::new(),
        credentials: true,
    }
}

fn invalid(host: &str, path: &str) -> Known {
    Known::Invalid(format!("invalid {host} import path \"{path}\""))
}

/// The first element that ends in the name of a system ends the root.
fn qualified(path: &str, elements: &[&str]) -> Known {
    let fine = |element: &&str| word(element.strip_prefix('~').unwrap_or(element));
    if !elements[1..].iter().all(fine) {
        return Known::Unknown;
    }
    let mut end = elements[0].len();
    for element in &elements[1..] {
        end += 1 + element.len();
        if let Some(vcs) = system(element) {
            return Known::Schemeless {
                prefix: path[..end].to_owned(),
                vcs,
                repo: path[..end - 1 - vcs.name().len()].to_owned(),
            };
        }
    }
    Known::Unknown
}

/// The system that an element names at its end.
fn system(element: &str) -> Option<Kind> {
    let (name, end) = element.rsplit_once('.')?;
    if name.is_empty() || name == "~" {
        return None;
    }
    Kind::by_name(end).filter(|kind| *kind != Kind::Mod)
}

/// Letters, digits, `_`, `.`, `-`: no `~`.
fn word(element: &str) -> bool {
    !element.is_empty()
        && element
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// What `launchpad.net` means where its page says nothing: the root, or the root and the wider one to take if the first
/// has no branch.
pub(crate) fn launchpad(path: &str) -> Option<(Root, Option<Root>)> {
    let elements: Vec<&str> = path.split('/').collect();
    match elements[..] {
        ["launchpad.net", project, ..] if word(project) => {
            let whole = root(&elements[..2].join("/"), Kind::Bzr);
            match elements.get(2) {
                Some(_) => Some((root(&elements[..3].join("/"), Kind::Bzr), Some(whole))),
                None => Some((whole, None)),
            }
        }
        ["launchpad.net", user, _, _, ..] if user.starts_with('~') => {
            Some((root(&elements[..4].join("/"), Kind::Bzr), None))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, want) in [
            (
                "github.com/u/r",
                "git github.com/u/r https://github.com/u/r",
            ),
            (
                "github.com/u/r/v2",
                "git github.com/u/r https://github.com/u/r",
            ),
            (
                "github.com/u/r/a/b/v3",
                "git github.com/u/r https://github.com/u/r",
            ),
            (
                "github.com/u",
                "invalid github.com import path \"github.com/u\"",
            ),
            (
                "github.com",
                "invalid github.com import path \"github.com\"",
            ),
            (
                "github.com/u/r.git",
                "invalid version control suffix in github.com/ path",
            ),
            (
                "github.com/u/r.hg/x",
                "invalid version control suffix in github.com/ path",
            ),
            (
                "github.com/~u/r",
                "invalid github.com import path \"github.com/~u/r\"",
            ),
            (
                "bitbucket.org/u/r/x",
                "git bitbucket.org/u/r https://bitbucket.org/u/r",
            ),
            (
                "hub.jazz.net/git/u1/r/x",
                "git hub.jazz.net/git/u1/r https://hub.jazz.net/git/u1/r",
            ),
            (
                "hub.jazz.net/git/U/r",
                "invalid hub.jazz.net/git import path \"hub.jazz.net/git/U/r\"",
            ),
            ("hub.jazz.net/x", "unknown"),
            (
                "git.apache.org/x.git/a",
                "git git.apache.org/x.git https://git.apache.org/x.git",
            ),
            (
                "git.apache.org/x",
                "invalid git.apache.org import path \"git.apache.org/x\"",
            ),
            (
                "git.openstack.org/u/r.git/x",
                "git git.openstack.org/u/r.git https://git.openstack.org/u/r.git",
            ),
            (
                "chiselapp.com/user/u/repository/r",
                "fossil chiselapp.com/user/u/repository/r https://chiselapp.com/user/u/repository/r",
            ),
            (
                "chiselapp.com/user/u/repository/r/x",
                "invalid chiselapp.com import path \"chiselapp.com/user/u/repository/r/x\"",
            ),
            ("example.net/x", "no modules on example.net"),
            ("example.org/x", "unknown"),
            ("gopkg.in/yaml.v3", "unknown"),
            ("golang.org/x/text", "unknown"),
            (
                "h.example/u/r.git",
                "git h.example/u/r.git ?://h.example/u/r",
            ),
            (
                "h.example/u/r.git/sub.git/v2",
                "git h.example/u/r.git ?://h.example/u/r",
            ),
            (
                "h.example/~u/r.hg/x",
                "hg h.example/~u/r.hg ?://h.example/~u/r",
            ),
            ("h.example/r.svn", "svn h.example/r.svn ?://h.example/r"),
            ("h.example/r.bzr", "bzr h.example/r.bzr ?://h.example/r"),
            (
                "h.example/r.fossil",
                "fossil h.example/r.fossil ?://h.example/r",
            ),
            ("h.example/r.mod", "unknown"),
            ("h.git/r", "unknown"),
            ("h.example/a~b/r.git", "unknown"),
        ] {
            let got = match known(path) {
                Known::Root(root) => format!("{} {} {}", root.vcs, root.prefix, root.url),
                Known::Schemeless { prefix, vcs, repo } => format!("{vcs} {prefix} ?://{repo}"),
                Known::Invalid(why) => why,
                Known::Unknown => "unknown".to_owned(),
            };
            assert_eq!(got, want, "{path}");
        }
    }

    #[test]
    fn launchpad_paths() {
        for (path, want) in [
            ("launchpad.net/p", "launchpad.net/p"),
            (
                "launchpad.net/p/s/x",
                "launchpad.net/p/s or launchpad.net/p",
            ),
            ("launchpad.net/~u/p/b/x", "launchpad.net/~u/p/b"),
            ("launchpad.net/~u/p", "none"),
            ("other.example/p", "none"),
        ] {
            let got = match launchpad(path) {
                Some((first, Some(wider))) => format!("{} or {}", first.prefix, wider.prefix),
                Some((first, None)) => first.prefix,
                None => "none".to_owned(),
            };
            assert_eq!(got, want, "{path}");
        }
    }
}
