//! Queries that are answered from the list of versions, as the go command would pick.

use std::cmp::Ordering;

use gomod::semver;
use gomod::{Version, gomod_file::retractions};

use super::{Module, is_final};
use crate::repository::Trouble;
use crate::{DirectError, Revision};

/// Whether an order is the one that a bound wants.
type Compares = fn(Ordering) -> bool;

/// What a query wants of the list.
struct Wanted<'a> {
    /// What versions start with.
    prefix: String,
    /// How they compare with what.
    bound: Option<(Compares, &'a str)>,
    /// The lowest of them, not the highest.
    lowest: bool,
    /// The tip of the default branch will do, if there is no version.
    or_tip: bool,
}

/// Whether a query is about the list: `latest`, a bound, or a version with too few numbers.
pub(super) fn is_of_list(query: &str) -> bool {
    matches!(query, "latest" | "upgrade" | "patch")
        || query.starts_with(['<', '>'])
        || semver::parse(query).is_some_and(|parts| !parts.full)
}

fn wanted(query: &str) -> Result<Wanted<'_>, &'static str> {
    let mut wanted = Wanted {
        prefix: String::new(),
        bound: None,
        lowest: query.starts_with('>'),
        or_tip: matches!(query, "latest" | "upgrade"),
    };
    if wanted.or_tip {
        return Ok(wanted);
    }
    if query == "patch" {
        return Err("a patch of which version?");
    }
    let bounds: [(&str, Compares, bool); 4] = [
        ("<=", Ordering::is_le, true),
        (">=", Ordering::is_ge, false),
        ("<", Ordering::is_lt, false),
        (">", Ordering::is_gt, true),
    ];
    for (sign, compares, whole) in bounds {
        let Some(version) = query.strip_prefix(sign) else {
            continue;
        };
        let parts = semver::parse(version).ok_or("the bound is no version")?;
        if whole && !parts.full {
            return Err("the bound is ambiguous: write all three numbers");
        }
        wanted.bound = Some((compares, version));
        return Ok(wanted);
    }
    wanted.prefix = format!("{query}.");
    // Not the pre-releases of the first of them.
    wanted.bound = Some((Ordering::is_ge, query));
    Ok(wanted)
}

impl Wanted<'_> {
    fn takes(&self, version: &Version) -> bool {
        version.as_str().starts_with(&self.prefix)
            && self
                .bound
                .is_none_or(|(compares, with)| compares(semver::compare(version.as_str(), with)))
    }
}

impl Module {
    /// Answers a query from the list.
    pub(super) async fn pick(&mut self, query: &str) -> Result<Revision, Trouble> {
        let none = |why: &str| DirectError::not_found(format!("{}@{query}: {why}", self.path));
        let wanted = wanted(query).map_err(none)?;
        let list = self.versions().await?;
        let retracted = self.retracted_of(&list).await?;
        let allowed = |version: &Version| {
            wanted.takes(version) && !retracted.iter().any(|r| r.covers(version))
        };
        let incompatible = wanted.bound.is_some_and(|(_, with)| {
            Version::parse(&semver::canonical(with).unwrap_or_default())
                .is_ok_and(|version| version.check_major(&self.path).is_err())
        });
        let fitting: Vec<Version> = list.into_iter().filter(allowed).collect();
        let fitting = self.preferred(fitting, incompatible).await?;
        let (pre, releases): (Vec<_>, Vec<_>) =
            fitting.into_iter().partition(Version::is_prerelease);
        let best = |versions: &[Version]| {
            if wanted.lowest {
                versions.first().cloned()
            } else {
                versions.last().cloned()
            }
        };
        if let Some(version) = best(&releases).or_else(|| best(&pre)) {
            return Ok(self.stat(version.as_str()).await?.revision);
        }
        if wanted.or_tip {
            let tip = self.tip().await?.revision;
            if !retracted.iter().any(|r| r.covers(&tip.version)) {
                return Ok(tip);
            }
        }
        Err(DirectError::not_found(format!("{}@{query}: no matching versions", self.path)).into())
    }

    /// What the latest version retracts.
    async fn retracted_of(
        &mut self,
        list: &[Version],
    ) -> Result<Vec<gomod::gomod_file::Retraction>, Trouble> {
        let preferred = self.preferred(list.to_vec(), false).await?;
        let latest = preferred
            .iter()
            .rfind(|version| !version.is_prerelease())
            .or(preferred.last());
        let Some(latest) = latest.filter(|latest| !latest.is_incompatible()) else {
            return Ok(Vec::new());
        };
        match self.stat(latest.as_str()).await {
            Ok(found) => Ok(found.go_mod.as_deref().map(retractions).unwrap_or_default()),
            Err(Trouble::Other(error)) if is_final(&error) => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }

    /// Without `+incompatible` ones, if the highest of the others has a go.mod and they are not asked for.
    async fn preferred(
        &mut self,
        mut versions: Vec<Version>,
        incompatible: bool,
    ) -> Result<Vec<Version>, Trouble> {
        let first = versions.iter().position(Version::is_incompatible);
        let Some(first) = first.filter(|first| *first > 0 && !incompatible) else {
            return Ok(versions);
        };
        let last = versions[first - 1].clone();
        let has = match self.stat(last.as_str()).await {
            Ok(found) => found.go_mod.is_some(),
            Err(Trouble::Other(error)) if is_final(&error) => false,
            Err(trouble) => return Err(trouble),
        };
        if has {
            versions.truncate(first);
        }
        Ok(versions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let list = [
            "v0.1.0",
            "v1.0.0-rc.1",
            "v1.0.0",
            "v1.2.0-pre",
            "v1.2.3",
            "v1.20.0",
            "v2.0.0+incompatible",
        ];
        let pick = |query: &str| -> Vec<&str> {
            let wanted = wanted(query).unwrap();
            list.into_iter()
                .filter(|v| wanted.takes(&Version::parse(v).unwrap()))
                .collect()
        };
        assert_eq!(pick("v1.2"), ["v1.2.3"]);
        assert_eq!(pick("v1"), ["v1.0.0", "v1.2.0-pre", "v1.2.3", "v1.20.0"]);
        assert_eq!(pick("<v1.0.0"), ["v0.1.0", "v1.0.0-rc.1"]);
        assert_eq!(pick("<=v1.0.0"), ["v0.1.0", "v1.0.0-rc.1", "v1.0.0"]);
        assert_eq!(pick(">v1.20.0"), ["v2.0.0+incompatible"]);
        assert_eq!(pick("latest").len(), list.len());
        for bad in ["<=v1", ">v1.2", "<x", "patch"] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
        for (query, want) in [
            ("v1", true),
            ("v1.2.3", false),
            ("main", false),
            ("<v1", true),
            ("v1.2.3+m", false),
        ] {
            assert_eq!(is_of_list(query), want, "{query}");
        }
    }
}
