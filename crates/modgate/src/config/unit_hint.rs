//! What is meant by a duration or a size that cannot be read.

use super::{
    nearest::nearest,
    setting::Kind,
    units::{UnitError, parse_duration, parse_size},
};

/// For a duration that [`parse_duration`] does not read. Of a setting, nothing out of its range is proposed.
pub(super) fn for_time(text: &str, error: &UnitError, kind: Option<&Kind>) -> String {
    let possible = |meant: &String| {
        parse_duration(meant).is_ok_and(|time| match kind {
            Some(Kind::Time(least, most) | Kind::TimeOrForever(least, most)) => {
                (least..=most).contains(&&time)
            }
            _ => true,
        })
    };
    let meant = in_days(text, error)
        .filter(possible)
        .or_else(|| meant(text, error, &["d", "h", "m", "s", "ms"], "s").filter(possible));
    hint(meant, kind, "\"200ms\", \"3s\", \"2m\" or \"1h30m\"")
}

/// Weeks, months and years, which are no units, in days. `M` is a month: taken for minutes it would have `gc` remove all but
/// what was used just now.
fn in_days(text: &str, error: &UnitError) -> Option<String> {
    let UnitError::Unit(unit) = error else {
        return None;
    };
    let number = text.strip_suffix(unit.as_str())?.trim_end();
    let days = match unit.to_lowercase().as_str() {
        "w" | "wk" | "week" | "weeks" => 7,
        "mo" | "mon" | "month" | "months" => 30,
        _ if unit == "M" => 30,
        "y" | "yr" | "year" | "years" => 365,
        _ => return None,
    };
    let days = number.parse::<u64>().ok()?.checked_mul(days)?;
    Some(format!("{days}d"))
}

/// The same for a size and [`parse_size`].
pub(super) fn for_size(text: &str, error: &UnitError, kind: Option<&Kind>) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let meant = meant(text, error, &units, "MiB").filter(|meant| {
        parse_size(meant).is_ok_and(|bytes| match kind {
            Some(Kind::Size(least, most)) => (least..=most).contains(&&bytes),
            _ => true,
        })
    });
    hint(meant, kind, "\"512B\", \"64KiB\", \"24MiB\" or \"1GiB\"")
}

fn hint(meant: Option<String>, kind: Option<&Kind>, examples: &str) -> String {
    match (meant, kind.and_then(Kind::range)) {
        (Some(meant), _) => format!("did you mean \"{meant}\"?"),
        (None, Some(range)) => {
            format!("write a number and its unit: {examples}; the range is {range}")
        }
        (None, None) => format!("write a number and its unit: {examples}"),
    }
}

/// The text with the unit that was meant, if that is clear.
fn meant(text: &str, error: &UnitError, units: &[&str], usual: &str) -> Option<String> {
    let number: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match error {
        UnitError::NoUnit => usual,
        // Of `1.5s` or `1m 30s` it would be a part alone.
        UnitError::Unit(unit) if text == format!("{number}{unit}") => near_unit(unit, units)?,
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// `sec` means `s`, `min` means `m`, `MB` means `MiB`.
fn near_unit<'u>(unit: &str, units: &[&'u str]) -> Option<&'u str> {
    let unit = unit.to_lowercase();
    let begins = |known: &&&str| unit.starts_with(&known.to_lowercase());
    let same_letter = |known: &&&str| {
        known.len() > 1 && known.to_lowercase().chars().next() == unit.chars().next()
    };
    units
        .iter()
        .filter(begins)
        .max_by_key(|known| known.len())
        .or_else(|| units.iter().find(same_letter))
        .copied()
        // Any single letter is one edit from any other.
        .or_else(|| nearest(&unit, units.iter().copied()).filter(|_| unit.len() > 1))
}

/// Reads a duration of the command line, and says what to write instead. No unit is proposed for one that is missing: with
/// seconds, `gc --yes` would remove what was used a minute ago.
pub fn duration_of_flag(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).map_err(|error| match error {
        UnitError::NoUnit if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{error}; \"{text}d\" is days, \"{text}h\" hours")
        }
        _ => format!("{error}; {}", for_time(text, &error, None)),
    })
}

/// The same for a size.
pub fn size_of_flag(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| match error {
        UnitError::NoUnit if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{error}; write \"{text}GiB\" or \"{text}MiB\"")
        }
        _ => format!("{error}; {}", for_size(text, &error, None)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unit_is_guessed_for_what_removes() {
        let time = duration_of_flag("180").unwrap_err();
        assert_eq!(
            time,
            "the unit is missing; \"180d\" is days, \"180h\" hours"
        );
        let size = size_of_flag("200").unwrap_err();
        assert_eq!(size, "the unit is missing; write \"200GiB\" or \"200MiB\"");
        let near = duration_of_flag("5min").unwrap_err();
        assert!(near.ends_with("did you mean \"5m\"?"), "{near}");
    }

    #[test]
    fn what_is_meant_is_not_made_shorter() {
        for (text, meant) in [
            ("2w", "14d"),
            ("6months", "180d"),
            ("6 months", "180d"),
            ("6M", "180d"),
            ("1y", "365d"),
            ("3D", "3d"),
        ] {
            let told = duration_of_flag(text).unwrap_err();
            assert!(
                told.ends_with(&format!("did you mean \"{meant}\"?")),
                "{text}: {told}"
            );
        }
        for told in [
            duration_of_flag("5x").unwrap_err(),
            size_of_flag("5x").unwrap_err(),
        ] {
            assert!(told.contains("write a number and its unit"), "{told}");
        }
    }

    #[test]
    fn minutes_are_meant_where_months_are_out_of_range() {
        let minute = std::time::Duration::from_mins(1);
        let kind = Kind::Time(minute, 60 * minute);
        let error = parse_duration("5M").unwrap_err();
        assert_eq!(for_time("5M", &error, Some(&kind)), "did you mean \"5m\"?");
    }
}
