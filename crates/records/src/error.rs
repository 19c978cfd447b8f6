//! What can go wrong with a database.

use std::{io, path::Path};

const TABLES_GONE: &str = "what was read before stays in effect here. `modgate restore` makes them again and fills \
     them from a backup; a server that starts makes them too, empty";
const READ_ONLY: &str = "a standby is, and so is one that its host stopped: nothing can be retired or noted until \
     records.url leads to one that takes writes";
const POOLED: &str = "between here and the database is a pooler that gives each transaction another connection: it has \
     to pool by session (pgbouncer: `pool_mode = session`), or records.url has to lead past it";
const NO_CONNECTION: &str = "the database cannot be reached, takes no more connections (`max_connections`, a limit of the \
     user's), or all that this process may have are in use";
const NOT_TRUSTED: &str = "who signed its certificate is not known here: name that in `network.ca_file`, or in records.url by \
     `sslrootcert=FILE`";
const NO_RIGHTS: &str = "the user of records.url must be allowed to make tables in its schema (`GRANT CREATE ON SCHEMA \
     public TO …`, or be the owner of the database), and own those that are there";
const LOGIN: &str = "records.url is read when a process starts: after a change of it, or of the file or variable that it comes \
     from, start it again";
const NO_SCHEMA: &str = "no schema of the user's search_path is there: make one (`CREATE SCHEMA … AUTHORIZATION …`), or lead it \
     to another (`ALTER ROLE … SET search_path = …`)";
const NO_ROOM: &str =
    "make room on the disk of the database: what is kept meanwhile is noted after that";
const NO_FILE: &str = "a file that records.url names is not there (`sslrootcert`, `sslcert`, `sslkey`, or the folder of a socket)";
const NOT_WRITABLE: &str = "it and its folder must be writable, also to read it: look for a mount that is \
     read-only, for who owns it, and whether the folder is there";
const FULL: &str = "make room on its disk: `modgate gc --yes` removes what was not used for long. If that fails too, \
     remove a megabyte of something else there first";
const DAMAGED: &str = "the file is damaged, or none of modgate's. While nothing else uses it, move it away with its `-wal` and \
     `-shm`; then `modgate restore FROM` brings back what was backed up, and `modgate fsck --repair` notes what is kept. \
     Without a backup, versions that were retired are served again";
/// Of SQLite: the file beside the database by which processes agree cannot be made as long as it must be.
const SHM_FULL: &str = "4874";

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

impl RecordsErrorKind {
    /// Whether it may be over soon, with nothing changed here.
    pub fn passes(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }

    /// Whether the same may be taken later, when somebody has seen to it: made room, or given rights back.
    pub fn can_be_mended(self) -> bool {
        self.passes() || matches!(self, Self::Full | Self::Refused)
    }
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

    /// It did not answer in time when it was asked last, and nobody waits for that again.
    pub(crate) fn silent(doing: &'static str) -> Self {
        Self::new(
            RecordsErrorKind::Timeout,
            doing,
            "it did not answer in time before; it is asked again in the background".to_owned(),
        )
    }

    pub(crate) fn from_sql(error: &sqlx::Error, doing: &'static str) -> Self {
        let text = match error {
            // Could repeat a part of the address.
            sqlx::Error::Configuration(_) => "the settings of the connection are wrong".to_owned(),
            sqlx::Error::PoolTimedOut => format!("no connection in time: {NO_CONNECTION}"),
            sqlx::Error::Database(error) => said(error.as_ref()),
            error => error.to_string(),
        };
        let code = match error {
            sqlx::Error::Database(error) => error.code(),
            _ => None,
        };
        let text = match code.as_deref() {
            Some("42P01") => format!("its tables are gone: {text}; {TABLES_GONE}"),
            Some("42P05" | "26000") => format!("{text}; {POOLED}"),
            Some("42501") => format!("{text}; {NO_RIGHTS}"),
            Some("25006") => format!("{text}; {READ_ONLY}"),
            Some("28000" | "28P01") => format!("{text}; {LOGIN}"),
            Some("3F000") => format!("{text}; {NO_SCHEMA}"),
            Some("53100") => format!("{text}; {NO_ROOM}"),
            Some(code) => match sqlite(code) {
                Some(8 | 14) => format!("{text}; {NOT_WRITABLE}"),
                Some(13) => format!("{text}; {FULL}"),
                Some(11 | 26) => format!("{text}; {DAMAGED}"),
                _ if code == SHM_FULL => format!("{text}: no room; {FULL}"),
                _ => text,
            },
            None => match of_connection(error) {
                Some(hint) => format!("{text}; {hint}"),
                None => text,
            },
        };
        Self::new(kind(error), doing, text)
    }

    /// Of PostgreSQL: a standby, or one that was made so.
    pub(crate) fn read_only(doing: &'static str) -> Self {
        let text = format!("the database is read-only; {READ_ONLY}");
        Self::new(RecordsErrorKind::Unavailable, doing, text)
    }

    /// With the name of SQLite's file.
    pub(crate) fn of_file(mut self, path: &Path) -> Self {
        self.text = format!("{}: {}", path.display(), self.text);
        self
    }

    pub(crate) fn scrubbed(mut self, scrub: impl FnOnce(String) -> String) -> Self {
        self.text = scrub(self.text);
        self
    }
}

/// What the database says. PostgreSQL's own name for it can be looked up; the line of its source that it adds cannot.
fn said(error: &dyn sqlx::error::DatabaseError) -> String {
    match error.code() {
        Some(code) if is_sqlstate(&code) => format!("{} (SQLSTATE {code})", error.message()),
        _ => error.to_string(),
    }
}

/// Whether it is a code of PostgreSQL: five characters, of which two are the class.
fn is_sqlstate(code: &str) -> bool {
    code.len() == 5
}

/// What helps when PostgreSQL was not even reached.
fn of_connection(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Io(error) = error else {
        return None;
    };
    if error.kind() == io::ErrorKind::NotFound {
        return Some(NO_FILE);
    }
    error
        .to_string()
        .contains("UnknownIssuer")
        .then_some(NOT_TRUSTED)
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
            Some(code) if is_sqlstate(code) => match code {
                "53100" => Full,
                "57014" | "55P03" | "25P03" => Timeout,
                _ => match &code[..2] {
                    "08" | "25" | "53" | "57" | "58" => Unavailable,
                    "28" | "3D" | "3F" | "42" => Refused,
                    "XX" => Corrupt,
                    _ => Other,
                },
            },
            Some(SHM_FULL) => Full,
            Some(code) => match sqlite(code) {
                Some(5 | 6) => Timeout,
                Some(10 | 14) => Unavailable,
                Some(13) => Full,
                Some(11 | 26) => Corrupt,
                Some(3 | 8 | 23) => Refused,
                _ => Other,
            },
        },
        _ => Other,
    }
}

/// The primary code of SQLite, the low byte of the extended one. Those of PostgreSQL have five characters.
fn sqlite(code: &str) -> Option<u32> {
    let code = (code.len() < 5).then(|| code.parse::<u32>().ok())?;
    code.map(|code| code & 0xff)
}
