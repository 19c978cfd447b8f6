//! Paths whose repositories the configuration tells.

use super::repo_url::from_scp;
use super::root::{Kind, Root};

/// A path prefix, and the template of its repositories' URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The module paths: this one and those below it.
    pub prefix: String,
    /// The URL, with `{1}` for the first path element behind the prefix, `{2}` for the second, up to `{9}`.
    pub repo: String,
    /// The version control system.
    pub vcs: Kind,
    /// The folder in the repository that the root's path stands for, and that what is below it is in; empty for its root.
    pub subdir: String,
}

/// A path that a mapping covers, but does not map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooShort {
    pub(crate) prefix: String,
    pub(crate) elements: usize,
}

impl Mapping {
    /// How many path elements behind the prefix the template takes; `None` if it has a brace that is no placeholder.
    pub fn elements(&self) -> Option<usize> {
        let mut most = 0;
        for piece in self.repo.split('{').skip(1) {
            match piece.as_bytes() {
                [digit @ b'1'..=b'9', b'}', ..] => most = most.max(usize::from(digit - b'0')),
                _ => return None,
            }
        }
        let closed = self.repo.matches('}').count() == self.repo.matches('{').count();
        closed.then_some(most)
    }

    /// The URL for these elements.
    pub fn url(&self, elements: &[&str]) -> String {
        let mut url = self.repo.clone();
        for (i, element) in elements.iter().enumerate() {
            let place = format!("{{{}}}", i + 1);
            // `x.git` in a path is the repository `x.git`, not `x.git.git`.
            let bare = element.strip_suffix(".git").unwrap_or(element);
            url = url.replace(&format!("{place}.git"), &format!("{bare}.git"));
            url = url.replace(&place, element);
        }
        from_scp(&url)
    }

    pub(crate) fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The root of the module `path` by the mapping with the longest prefix. `base` is the path without its major version.
pub(crate) fn map(mappings: &[Mapping], path: &str, base: &str) -> Option<Result<Root, TooShort>> {
    let mapping = mappings
        .iter()
        .filter(|mapping| mapping.covers(path))
        .max_by_key(|mapping| mapping.prefix.len())?;
    let wanted = mapping.elements().unwrap_or(0);
    // A major version at the end of the prefix is part of the root's path; one behind it is no element.
    let below = base.get(mapping.prefix.len()..).unwrap_or_default();
    let below: Vec<&str> = below.split('/').filter(|e| !e.is_empty()).collect();
    if below.len() < wanted {
        return Some(Err(TooShort {
            prefix: mapping.prefix.clone(),
            elements: wanted,
        }));
    }
    let (elements, folders) = below.split_at(wanted);
    let (mut prefix, mut subdir) = (mapping.prefix.clone(), mapping.subdir.clone());
    for element in elements {
        prefix.push('/');
        prefix.push_str(element);
    }
    // What stands behind the prefix comes before the folder where a page names one (protocol.md 8.1). Here it is below
    // the folder, so the root is that of the module alone.
    if !subdir.is_empty() {
        for folder in folders {
            for whole in [&mut prefix, &mut subdir] {
                whole.push('/');
                whole.push_str(folder);
            }
        }
    }
    Some(Ok(Root {
        prefix,
        vcs: mapping.vcs,
        url: mapping.url(elements),
        subdir,
        credentials: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(prefix: &str, repo: &str) -> Mapping {
        Mapping {
            prefix: prefix.to_owned(),
            repo: repo.to_owned(),
            vcs: Kind::Git,
            subdir: String::new(),
        }
    }

    #[test]
    fn mapped() {
        let all = [
            mapping("git.corp.example", "https://git.corp.example/{1}/{2}"),
            mapping(
                "git.corp.example/team",
                "ssh://git@git.corp.example/team/{1}.git",
            ),
            mapping(
                "go.corp.example/mono",
                "git@forge.corp.example:all/mono.git",
            ),
            mapping("go.corp.example/swap", "https://h/{2}/{1}"),
            mapping("go.corp.example/own/v3", "https://h/third"),
            mapping("go.corp.example/own", "https://h/own"),
            mapping("gopkg.in/corp", "https://h/{1}"),
            Mapping {
                subdir: "pkgs/go".to_owned(),
                ..mapping("go.corp.example/in", "https://h/{1}")
            },
        ];
        for (path, want) in [
            (
                "git.corp.example/team/x",
                "git.corp.example/team/x ssh://git@git.corp.example/team/x.git",
            ),
            (
                "git.corp.example/team/x/sub",
                "git.corp.example/team/x ssh://git@git.corp.example/team/x.git",
            ),
            (
                "git.corp.example/team/x.git/sub",
                "git.corp.example/team/x.git ssh://git@git.corp.example/team/x.git",
            ),
            (
                "git.corp.example/teams/x",
                "git.corp.example/teams/x https://git.corp.example/teams/x",
            ),
            (
                "git.corp.example/a/b/c",
                "git.corp.example/a/b https://git.corp.example/a/b",
            ),
            ("git.corp.example/team", "git.corp.example/team needs 1"),
            ("git.corp.example/a", "git.corp.example needs 2"),
            (
                "go.corp.example/mono/a/b",
                "go.corp.example/mono ssh://git@forge.corp.example/all/mono.git",
            ),
            (
                "go.corp.example/swap/a/b",
                "go.corp.example/swap/a/b https://h/b/a",
            ),
            ("go.corp.example/own", "go.corp.example/own https://h/own"),
            (
                "go.corp.example/own/v2",
                "go.corp.example/own https://h/own",
            ),
            (
                "go.corp.example/own/v3",
                "go.corp.example/own/v3 https://h/third",
            ),
            (
                "go.corp.example/own/v3/x/v2",
                "go.corp.example/own/v3 https://h/third",
            ),
            (
                "go.corp.example/own/v30",
                "go.corp.example/own https://h/own",
            ),
            ("gopkg.in/corp/x.v3", "gopkg.in/corp/x.v3 https://h/x.v3"),
            (
                "go.corp.example/in/a",
                "go.corp.example/in/a https://h/a pkgs/go",
            ),
            (
                "go.corp.example/in/a/b/c/v2",
                "go.corp.example/in/a/b/c https://h/a pkgs/go/b/c",
            ),
            ("go.corp.example/in/v2", "go.corp.example/in needs 1"),
            ("go.corp.example/other", "none"),
            ("git.corp.example.evil.example/a/b", "none"),
        ] {
            let base = match gomod::split_major(path) {
                Some((base, major)) if major.starts_with('/') => base,
                _ => path,
            };
            let got = match map(&all, path, base) {
                Some(Ok(root)) => format!("{} {} {}", root.prefix, root.url, root.subdir),
                Some(Err(short)) => format!("{} needs {}", short.prefix, short.elements),
                None => "none".to_owned(),
            };
            assert_eq!(got.trim_end(), want, "{path}");
        }
        for (template, want) in [
            ("a", Some(0)),
            ("{1}/{3}", Some(3)),
            ("{0}", None),
            ("{x}", None),
            ("{1", None),
            ("1}", None),
        ] {
            assert_eq!(mapping("p", template).elements(), want, "{template}");
        }
    }
}
