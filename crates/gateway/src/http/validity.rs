//! From when to when a certificate holds (X.509, RFC 5280 4.1.2.5).

use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};

/// Tags of DER.
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which certificates of version 1 leave out.
const VERSION: u8 = 0xa0;

/// The first and the last second of a certificate, if it can be read.
pub(super) fn of(certificate: &[u8]) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let mut whole = certificate;
    let mut signed = item(&mut whole, SEQUENCE)?;
    let mut fields = item(&mut signed, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        item(&mut fields, VERSION)?;
    }
    item(&mut fields, INTEGER)?; // the serial number
    item(&mut fields, SEQUENCE)?; // the algorithm of the signature
    item(&mut fields, SEQUENCE)?; // the issuer
    let mut validity = item(&mut fields, SEQUENCE)?;
    Some((moment(&mut validity)?, moment(&mut validity)?))
}

/// Cuts an item of this tag off the front, and gives its content.
fn item<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&first, rest) = der.split_first()?;
    let (&short, mut rest) = rest.split_first()?;
    let mut length = usize::from(short);
    if short >= 0x80 {
        let (bytes, after) = rest.split_at_checked(usize::from(short & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    *der = after;
    (first == tag).then_some(content)
}

/// `YYMMDDHHMMSSZ` for years from 1950 to 2049, `YYYYMMDDHHMMSSZ` for others.
fn moment(der: &mut &[u8]) -> Option<OffsetDateTime> {
    let tag = *der.first()?;
    let text = std::str::from_utf8(item(der, tag)?).ok()?;
    let (years, rest) = match tag {
        UTC_TIME => text.split_at_checked(2)?,
        GENERALIZED_TIME => text.split_at_checked(4)?,
        _ => return None,
    };
    let year: i32 = years.parse().ok()?;
    let year = match tag {
        UTC_TIME if year < 50 => 2000 + year,
        UTC_TIME => 1900 + year,
        _ => year,
    };
    let digits = rest.strip_suffix('Z').filter(|rest| rest.len() == 10)?;
    let part = |at: usize| digits.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, part(0)?.try_into().ok()?, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

#[cfg(test)]
mod tests {
    use testkit::tls::{Certificate, Pem};

    use super::*;
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};

    fn seconds((begin, end): (OffsetDateTime, OffsetDateTime)) -> (i64, i64) {
        (begin.unix_timestamp(), end.unix_timestamp())
    }

    #[test]
    fn certificates_are_read_and_what_is_cut_short_is_not() {
        // The second one ends in 4096, which takes the longer form.
        for (which, from, to) in [
            (Certificate::Expired, 946_684_800, 978_307_200),
            (Certificate::Good, 157_766_400, 67_090_118_400),
        ] {
            let pem = Pem::new(which).cert;
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            assert_eq!(of(&der).map(seconds), Some((from, to)), "{which:?}");
            for length in 0..der.len() {
                assert_eq!(of(&der[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for (tag, text, wanted) in [
            (UTC_TIME, "260106000000Z", Some(1_767_657_600)),
            (UTC_TIME, "2601060000Z", None),
            (UTC_TIME, "261306000000Z", None),
            (UTC_TIME, "2601060000000", None),
            (INTEGER, "260106000000Z", None),
        ] {
            let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
            der.extend_from_slice(text.as_bytes());
            let read = moment(&mut &*der).map(OffsetDateTime::unix_timestamp);
            assert_eq!(read, wanted, "{text}");
        }
    }
}
