//! Pseudo-versions: versions made from a commit's time and revision (protocol.md 2.2).

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use crate::{Version, VersionError, semver};

/// What a pseudo-version is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pseudo<'a> {
    /// `yyyymmddhhmmss` in UTC; digits, but not always a time that exists: see [`Pseudo::time`].
    pub time: &'a str,
    /// The revision: 12 hex digits for git.
    pub rev: &'a str,
    /// What stands in the pre-release before the time: nothing, `0.` or `PRE.0.`.
    base: &'a str,
}

impl Pseudo<'_> {
    /// The commit's time, if the digits are one.
    pub fn time(&self) -> Option<OffsetDateTime> {
        let number = |from: usize, to: usize| self.time.get(from..to)?.parse::<u16>().ok();
        let small = |from: usize| u8::try_from(number(from, from + 2)?).ok();
        let month = Month::try_from(small(4)?).ok()?;
        let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(6)?).ok()?;
        let time = Time::from_hms(small(8)?, small(10)?, small(12)?).ok()?;
        Some(PrimitiveDateTime::new(date, time).assume_utc())
    }
}

impl Version {
    /// The parts of a pseudo-version, if it is one.
    pub fn pseudo(&self) -> Option<Pseudo<'_>> {
        let parts = self.parts();
        let (head, rev) = parts.prerelease.strip_prefix('-')?.rsplit_once('-')?;
        let (base, time) = head.split_at_checked(head.len().checked_sub(14)?)?;
        // `vX.0.0-TIME-REV`, or `….0.TIME-REV` behind a pre-release or a next patch.
        let form = match base {
            "" => parts.minor == "0" && parts.patch == "0",
            base => base == "0." || base.ends_with(".0."),
        };
        let good = form
            && !rev.is_empty()
            && rev.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && time.bytes().all(|byte| byte.is_ascii_digit());
        good.then_some(Pseudo { time, rev, base })
    }

    /// Whether it is a pseudo-version.
    pub fn is_pseudo(&self) -> bool {
        self.pseudo().is_some()
    }

    /// The version that a pseudo-version follows, which must be a tag on an ancestor of its commit; `None` where
    /// there is none. It may differ from the tag in its build metadata. An error for a version that is no
    /// pseudo-version, or whose base cannot exist.
    pub fn pseudo_base(&self) -> Result<Option<Self>, VersionError> {
        let pseudo = self
            .pseudo()
            .ok_or(VersionError::Pseudo("of no known form"))?;
        let semver::Parts {
            major,
            minor,
            patch,
            build,
            ..
        } = self.parts();
        match pseudo.base {
            "" if build.is_empty() => Ok(None),
            "" => Err(VersionError::Pseudo(
                "without a base version, but with build metadata",
            )),
            "0." => {
                let patch = decrement(patch).ok_or(VersionError::Pseudo(
                    "whose base would have a negative patch number",
                ))?;
                Self::parse(&format!("v{major}.{minor}.{patch}{build}")).map(Some)
            }
            base => {
                let pre = base.strip_suffix(".0.").unwrap_or(base);
                Self::parse(&format!("v{major}.{minor}.{patch}-{pre}{build}")).map(Some)
            }
        }
    }

    /// Makes the pseudo-version of a commit: of `major` (`v0`, `v2`, …) if no version is `older`, else the one
    /// that follows `older`, a semantic version. Build metadata of `older` is dropped unless it is
    /// `+incompatible`. `time` is the commit's, cut to seconds; `rev` its revision in letters and digits, 12 of
    /// them for git. An error if these do not make a pseudo-version.
    pub fn pseudo_version(
        major: &str,
        older: Option<&str>,
        time: OffsetDateTime,
        rev: &str,
    ) -> Result<Self, VersionError> {
        const NOT: VersionError = VersionError::Pseudo("cannot be made of these parts");
        let time = time.checked_to_offset(UtcOffset::UTC).ok_or(NOT)?;
        let segment = format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}-{rev}",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        let text = match older
            .map(|older| semver::parse(older).ok_or(NOT))
            .transpose()?
        {
            None => format!("{major}.0.0-{segment}"),
            Some(semver::Parts {
                major,
                minor,
                patch,
                prerelease,
                build,
                ..
            }) => {
                let base = match prerelease {
                    "" => format!("v{major}.{minor}.{}-0", increment(patch)),
                    pre => format!("v{major}.{minor}.{patch}{pre}.0"),
                };
                let incompatible = Some(build).filter(|build| *build == "+incompatible");
                format!("{base}.{segment}{}", incompatible.unwrap_or_default())
            }
        };
        Self::parse(&text).ok().filter(Self::is_pseudo).ok_or(NOT)
    }
}

/// One more than a decimal number of any length.
fn increment(decimal: &str) -> String {
    let head = decimal.trim_end_matches('9');
    let zeros = "0".repeat(decimal.len() - head.len());
    match head.as_bytes().split_last() {
        None => format!("1{zeros}"),
        Some((last, _)) => {
            let rest = &head[..head.len() - 1];
            format!("{rest}{}{zeros}", char::from(last + 1))
        }
    }
}

/// One less than a decimal number of any length; `None` below zero.
fn decrement(decimal: &str) -> Option<String> {
    let head = decimal.trim_end_matches('0');
    let nines = "9".repeat(decimal.len() - head.len());
    let last = head.as_bytes().last()?;
    let rest = &head[..head.len() - 1];
    if rest.is_empty() && *last == b'1' && !nines.is_empty() {
        return Some(nines);
    }
    Some(format!("{rest}{}{nines}", char::from(last - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_and_read() {
        let time = OffsetDateTime::from_unix_timestamp(1_546_300_800).unwrap();
        for (major, older, want, base) in [
            ("v0", None, "v0.0.0-20190101000000-abcdefabcdef", None),
            ("v2", None, "v2.0.0-20190101000000-abcdefabcdef", None),
            (
                "v1",
                Some("v1.2.9"),
                "v1.2.10-0.20190101000000-abcdefabcdef",
                Some("v1.2.9"),
            ),
            (
                "v1",
                Some("v1.2.3-rc.1"),
                "v1.2.3-rc.1.0.20190101000000-abcdefabcdef",
                Some("v1.2.3-rc.1"),
            ),
            (
                "",
                Some("v2.0.99+incompatible"),
                "v2.0.100-0.20190101000000-abcdefabcdef+incompatible",
                Some("v2.0.99+incompatible"),
            ),
            (
                "",
                Some("v1.2.3+meta"),
                "v1.2.4-0.20190101000000-abcdefabcdef",
                Some("v1.2.3"),
            ),
        ] {
            let made = Version::pseudo_version(major, older, time, "abcdefabcdef").unwrap();
            assert_eq!(made.as_str(), want);
            assert_eq!(made.pseudo().unwrap().time(), Some(time));
            let read = made.pseudo_base().unwrap();
            assert_eq!(read.as_ref().map(Version::as_str), base);
        }
        for (major, older, rev) in [
            ("v0", Some("master"), "abcdefabcdef"),
            ("v0", None, "abc-def"),
            ("v0", None, ""),
            ("0", None, "abcdefabcdef"),
        ] {
            assert!(Version::pseudo_version(major, older, time, rev).is_err());
        }
        for bad in [
            "v1.2.3",
            "v1.2.0-0.20190101000000-abcdefabcdef",
            "v2.0.0-20190101000000-abcdefabcdef+incompatible",
        ] {
            assert!(Version::parse(bad).unwrap().pseudo_base().is_err(), "{bad}");
        }
    }
}
