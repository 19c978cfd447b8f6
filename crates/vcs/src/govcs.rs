//! Which version control systems may be used: the syntax and meaning of GOVCS.

use gomod::pattern::Patterns;

use crate::{DirectError, ErrorKind};

/// Rules of the form `pattern:system|system`; the first whose pattern matches decides, and without one nothing is
/// allowed. `public` and `private` match by privacy; `all` stands for every system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Govcs(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    matches: Matches,
    allowed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matches {
    Public,
    Private,
    Paths(Patterns),
}

/// A text that is no GOVCS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?}: {why}")]
pub struct GovcsError {
    /// The entry.
    pub entry: String,
    /// What is wrong with it.
    pub why: String,
}

/// What the go command appends to every GOVCS.
const DEFAULT: [(Matches, &[&str]); 2] = [
    (Matches::Private, &["all"]),
    (Matches::Public, &["git", "hg"]),
];

impl Govcs {
    /// Reads rules as in the environment of the go command; its own defaults come behind them.
    pub fn parse(text: &str) -> Result<Self, GovcsError> {
        let mut rules = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let text = text.trim();
        let entries = text.split(',').filter(|_| !text.is_empty());
        for entry in entries.map(str::trim) {
            let fault = |why: &str| GovcsError {
                entry: entry.chars().take(100).collect(),
                why: why.to_owned(),
            };
            let (pattern, list) = entry
                .split_once(':')
                .ok_or_else(|| fault("not of the form pattern:systems"))?;
            let (pattern, list) = (pattern.trim(), list.trim());
            if pattern.is_empty() || list.is_empty() {
                return Err(fault("the pattern or the list of systems is empty"));
            }
            if matches!(pattern, "." | "..")
                || pattern.starts_with("./")
                || pattern.starts_with("../")
            {
                return Err(fault("a relative pattern"));
            }
            if seen.contains(&pattern) {
                return Err(fault("never reached: the pattern stands before"));
            }
            seen.push(pattern);
            let allowed: Vec<String> = list.split('|').map(|one| one.trim().to_owned()).collect();
            if allowed.iter().any(String::is_empty) {
                return Err(fault("an empty name of a system"));
            }
            let matches = match pattern {
                "public" => Matches::Public,
                "private" => Matches::Private,
                pattern => {
                    Matches::Paths(Patterns::parse(pattern).map_err(|error| fault(error.why))?)
                }
            };
            rules.push(Rule { matches, allowed });
        }
        rules.extend(DEFAULT.map(|(matches, allowed)| Rule {
            matches,
            allowed: allowed.iter().map(|&name| name.to_owned()).collect(),
        }));
        Ok(Self(rules))
    }

    /// Whether a repository with this root may be asked by this system.
    pub fn allows(&self, root: &str, private: bool, system: &str) -> bool {
        let rule = self.0.iter().find(|rule| match &rule.matches {
            Matches::Public => !private,
            Matches::Private => private,
            Matches::Paths(patterns) => patterns.matches_str(root),
        });
        rule.is_some_and(|rule| {
            rule.allowed
                .iter()
                .any(|name| name == system || name == "all")
        })
    }
}

impl Govcs {
    /// The same, as an error that says what is not allowed for the module `path`.
    pub(crate) fn check(
        &self,
        path: &str,
        private: bool,
        root: &str,
        system: &str,
    ) -> Result<(), DirectError> {
        if self.allows(root, private, system) {
            return Ok(());
        }
        let what = if private { "private" } else { "public" };
        let text = format!("{path}: {system} is not allowed for {what} modules of {root}");
        Err(DirectError::new(ErrorKind::Refused, text)
            .hint("`direct.vcs` says what is allowed, in the syntax of GOVCS"))
    }
}

impl Default for Govcs {
    /// `public:git|hg,private:all`
    fn default() -> Self {
        Self(
            DEFAULT
                .map(|(matches, allowed)| Rule {
                    matches,
                    allowed: allowed.iter().map(|&name| name.to_owned()).collect(),
                })
                .to_vec(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (text, root, private, system, want) in [
            ("", "a.com/x", false, "git", true),
            ("", "a.com/x", false, "svn", false),
            ("", "a.com/x", true, "svn", true),
            ("a.com:svn", "a.com/x", false, "svn", true),
            ("a.com:svn", "a.com/x", false, "git", false),
            ("a.com:svn", "b.com/x", false, "git", true),
            ("public:off", "a.com/x", false, "git", false),
            ("*:all", "a.com/x", false, "bzr", true),
            (
                " a.com/* : git | fossil ,public:all",
                "a.com/x",
                false,
                "fossil",
                true,
            ),
        ] {
            let rules = Govcs::parse(text).unwrap();
            assert_eq!(
                rules.allows(root, private, system),
                want,
                "{text} {root} {system}"
            );
        }
        assert_eq!(Govcs::parse("").unwrap(), Govcs::default());
        for bad in [
            "a.com",
            "a.com:",
            ":git",
            "./x:git",
            "a:git,a:hg",
            "a:git|",
            ",",
            "[:git",
        ] {
            assert!(Govcs::parse(bad).is_err(), "{bad}");
        }
    }
}
