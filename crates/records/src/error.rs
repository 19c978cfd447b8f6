//! What can go wrong with a database.

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordsErrorKind {
    /// It cannot be reached, is shutting down, or has no connection free.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// Its disk is full.
    Full,
    /// What it has is damaged.
    Corrupt,
    /// It is not for us: the address, the login, the rights, or a schema that we do not know.
    Refused,
    /// Anything else: most likely a fault of ours.
    Other,
}

/// Why a database did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("records: {doing}: {text}")]
pub struct RecordsError {
    /// What kind of trouble.
    pub kind: RecordsErrorKind,
    doing: &'static str,
    text: String,
}

impl RecordsError {
    pub(crate) fn new(kind: RecordsErrorKind, doing: &'static str, text: String) -> Self {
        Self { kind, doing, text }
    }

    pub(crate) fn timeout(doing: &'static str) -> Self {
        Self::new(
            RecordsErrorKind::Timeout,
            doing,
            "no answer in time".to_owned(),
        )
    }

    pub(crate) fn from_sql(error: &sqlx::Error, doing: &'static str) -> Self {
        let text = match error {
            // Could repeat a part of the address.
            sqlx::Error::Configuration(_) => "the settings of the connection are wrong".to_owned(),
            sqlx::Error::PoolTimedOut => "no connection in time".to_owned(),
            error => error.to_string(),
        };
        Self::new(kind(error), doing, text)
    }

    pub(crate) fn scrubbed(mut self, scrub: impl FnOnce(String) -> String) -> Self {
        self.text = scrub(self.text);
        self
    }
}

fn kind(error: &sqlx::Error) -> RecordsErrorKind {
    use RecordsErrorKind::{Corrupt, Full, Other, Refused, Timeout, Unavailable};
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Unavailable,
        sqlx::Error::PoolTimedOut => Timeout,
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => Refused,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Corrupt,
        sqlx::Error::Database(error) => match error.code().as_deref() {
            None => Other,
            // PostgreSQL: five characters, of which two are the class.
            Some(code) if code.len() == 5 => match code {
                "53100" => Full,
                "57014" | "55P03" | "25P03" => Timeout,
                _ => match &code[..2] {
                    "08" | "53" | "57" | "58" => Unavailable,
                    "28" | "3D" | "42" => Refused,
                    "XX" => Corrupt,
                    _ => Other,
                },
            },
            // SQLite: extended codes, of which the low byte is the primary one.
            Some(code) => match code.parse::<u32>().map_or(0, |code| code & 0xff) {
                5 | 6 => Timeout,
                10 | 14 => Unavailable,
                13 => Full,
                11 | 26 => Corrupt,
                3 | 8 | 23 => Refused,
                _ => Other,
            },
        },
        _ => Other,
    }
}
