//! Which database, and how patient with it.

use std::{env, fmt, fs::File, path::PathBuf, str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;

use crate::error::{RecordsError, RecordsErrorKind};

/// Where the records are.
#[derive(Clone, Debug)]
pub enum RecordsSettings {
    /// A file of this process and of the commands beside it.
    Sqlite {
        /// The file; made if absent.
        path: PathBuf,
    },
    /// A server that many replicas share.
    Postgres {
        /// Its address.
        url: PostgresUrl,
        /// At most so many connections of this process.
        max_connections: u32,
        /// Longest wait for one answer, and for a free connection.
        timeout: Duration,
    },
}

impl RecordsSettings {
    /// PostgreSQL with the usual limits.
    pub fn postgres(url: PostgresUrl) -> Self {
        Self::Postgres {
            url,
            max_connections: 8,
            timeout: Duration::from_secs(5),
        }
    }
}

/// The address of a PostgreSQL database. Its password cannot be printed.
#[derive(Clone)]
pub struct PostgresUrl {
    options: Box<PgConnectOptions>,
    shown: String,
    /// Whether it says itself whose certificates are trusted.
    names_authority: bool,
    /// What must never be in a text that leaves this crate.
    secrets: Vec<String>,
}

impl FromStr for PostgresUrl {
    type Err = RecordsError;

    fn from_str(url: &str) -> Result<Self, RecordsError> {
        // What the parser says could hold a part of the address, so it is not passed on.
        let refused = |text: &str| {
            RecordsError::new(
                RecordsErrorKind::Refused,
                "reading its address",
                text.to_owned(),
            )
        };
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| refused("it does not begin with postgres://"))?;
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| refused("it is not postgres://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let parameters: Vec<(&str, String)> = rest
            .split_once('?')
            .map_or("", |(_, query)| query)
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, percent_decoded(value).unwrap_or(value.to_owned())))
            .collect();
        // What the driver says of one of these has no name.
        for (name, path) in &parameters {
            if matches!(*name, "sslrootcert" | "sslcert" | "sslkey")
                && let Err(error) = File::open(path)
            {
                return Err(refused(&format!("{name}: {path}: {error}")));
            }
        }
        let names_authority = parameters.iter().any(|(name, _)| *name == "sslrootcert");
        let names_authority = names_authority || env::var_os("PGSSLROOTCERT").is_some();
        let mut secrets = Vec::new();
        if let Some((_, password)) = authority
            .rsplit_once('@')
            .and_then(|(login, _)| login.split_once(':'))
        {
            secrets.push(password.to_owned());
        }
        if let Some((_, query)) = rest.split_once('?') {
            let passwords = query
                .split('&')
                .filter_map(|pair| pair.strip_prefix("password="));
            secrets.extend(passwords.map(str::to_owned));
        }
        for secret in secrets.clone() {
            if let Some(plain) = percent_decoded(&secret) {
                secrets.push(plain);
            }
        }
        secrets.retain(|secret| !secret.is_empty());
        let shown = format!(
            "postgres://{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or_default()
        );
        // A pooler in between refuses what it does not know of a connection, and nothing here is a float.
        let options = options.extra_float_digits(None);
        Ok(Self {
            options: Box::new(options),
            shown,
            names_authority,
            secrets,
        })
    }
}

impl PostgresUrl {
    /// The same with certificates (PEM) that are trusted too, unless it names others itself.
    #[must_use]
    pub fn trusting(mut self, pem: Vec<u8>) -> Self {
        if !self.names_authority {
            *self.options = self.options().ssl_root_cert_from_pem(pem);
        }
        self
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.options)
    }

    /// `text` without what is secret in the address.
    pub(crate) fn scrub(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), "***")
            } else {
                text
            }
        })
    }
}

/// Host, port and database; neither user nor password.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%'
            && let Some(byte) = after.get(..2).and_then(|digits| hex::decode(digits).ok())
        {
            bytes.extend(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|decoded| decoded != text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_text() {
        let url: PostgresUrl = "postgres://modgate:s3cr%65t%21@db.example:5433/modules"
            .parse()
            .unwrap();
        assert_eq!(url.to_string(), "postgres://db.example:5433/modules");
        assert_eq!(format!("{url:?}"), "postgres://db.example:5433/modules");
        assert_eq!(
            url.scrub("no s3cret! and no s3cr%65t%21".to_owned()),
            "no *** and no ***"
        );
        let url: PostgresUrl = "postgres://db.example/modules?password=hunter2&user=m"
            .parse()
            .unwrap();
        assert_eq!(url.scrub("hunter2".to_owned()), "***");
    }

    #[test]
    fn a_pooler_is_asked_for_nothing_that_it_does_not_know() {
        let url: PostgresUrl = "postgres://m@db.example/modules".parse().unwrap();
        let options = format!("{:?}", url.options());
        assert!(options.contains("extra_float_digits: None"), "{options}");
    }

    #[test]
    fn who_signs_certificates_is_named_once() {
        let url = "postgres://m@db.example/m?sslmode=verify-full";
        let trusts = |url: &str| {
            let url: PostgresUrl = url.parse().unwrap();
            let options = url.trusting(b"configured".to_vec()).options();
            format!("{options:?}").contains(&format!("{:?}", b"configured"))
        };
        assert!(trusts(url));
        let own = tempfile::NamedTempFile::new().unwrap();
        let own = own.path().display();
        assert!(!trusts(&format!("{url}&sslrootcert={own}")));
        let gone = format!("{url}&sslrootcert=%2Fno%2Fsuch.pem");
        let error = gone.parse::<PostgresUrl>().unwrap_err().to_string();
        assert!(
            error.contains("sslrootcert: /no/such.pem: No such file"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_address_is_refused_without_being_told() {
        for bad in [
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h:port/d",
            "hunter2",
            "postgres://u:hunter2@h/d?sslmode=hunter2",
        ] {
            let error = bad.parse::<PostgresUrl>().unwrap_err();
            assert_eq!(error.kind, RecordsErrorKind::Refused);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
