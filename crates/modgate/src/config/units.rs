//! Durations and sizes as people write them: `"200ms"`, `"1h30m"`, `"64KiB"`.

use std::time::Duration;

/// Units of time, largest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of size, largest first, in bytes.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Why a duration or a size cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No digits where a number must be.
    #[error("it does not start with a number")]
    NoNumber,
    /// A number without its unit.
    #[error("the unit is missing")]
    NoUnit,
    /// A unit nobody knows.
    #[error("`{0}` is no unit")]
    Unit(String),
    /// More than 64 bits of the smallest unit.
    #[error("the number is too large")]
    Overflow,
}

/// Reads `"3s"`, `"200ms"`, `"1h30m"`: whole numbers, each with its unit
/// (`d`, `h`, `m`, `s`, `ms`).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text;
    let mut total_ms = 0_u64;
    loop {
        let (number, unit, after) = number_and_unit(rest)?;
        let scale = scale_of(unit, &TIME_UNITS)?;
        let part = number.checked_mul(scale).ok_or(UnitError::Overflow)?;
        total_ms = total_ms.checked_add(part).ok_or(UnitError::Overflow)?;
        if after.is_empty() {
            return Ok(Duration::from_millis(total_ms));
        }
        rest = after;
    }
}

/// Writes a duration so that [`parse_duration`] reads the same; parts below a
/// millisecond are dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in TIME_UNITS {
        let number = left / scale;
        left %= scale;
        if number > 0 {
            text.push_str(&number.to_string());
            text.push_str(unit);
        }
    }
    text
}

/// Reads `"64KiB"`, `"1GiB"`, `"512B"` into bytes. Units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit, after) = number_and_unit(text)?;
    if !after.is_empty() {
        return Err(UnitError::Unit(format!("{unit}{after}")));
    }
    let scale = scale_of(unit, &SIZE_UNITS)?;
    number.checked_mul(scale).ok_or(UnitError::Overflow)
}

/// Writes bytes in the largest unit that divides them.
pub fn format_size(bytes: u64) -> String {
    let (unit, scale) = SIZE_UNITS
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / scale)
}

/// Cuts digits and the letters after them off the front; a space between the
/// two is allowed.
fn number_and_unit(text: &str) -> Result<(u64, &str, &str), UnitError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    let number = number.parse().map_err(|_| UnitError::Overflow)?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    Ok((number, unit, after))
}

fn scale_of(unit: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)
        .ok_or_else(|| UnitError::Unit(unit.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("0s", 0),
            ("200ms", 200),
            ("3s", 3_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("10 s", 10_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_durations_say_why() {
        for (text, why) in [
            ("", UnitError::NoNumber),
            ("s", UnitError::NoNumber),
            ("-3s", UnitError::NoNumber),
            ("3", UnitError::NoUnit),
            ("3 sec", UnitError::Unit("sec".to_owned())),
            ("1.5s", UnitError::Unit(".".to_owned())),
            ("99999999999999999999s", UnitError::Overflow),
            ("18446744073709551615h", UnitError::Overflow),
        ] {
            assert_eq!(parse_duration(text), Err(why), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0B", 0),
            ("2 KiB", 2048),
            ("64KiB", 65_536),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_size("64KB"), Err(UnitError::Unit("KB".to_owned())));
        assert_eq!(parse_size("64"), Err(UnitError::NoUnit));
        assert_eq!(parse_size("1KiB2"), Err(UnitError::Unit("KiB2".to_owned())));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for ms in [0, 1, 999, 1_000, 61_001, 90_061_001, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1023, 1024, 1536, 24 << 20, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
