//! The records: where they are, and opening them.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use ::records::{PostgresUrl, Records, RecordsError, RecordsSettings};
use tokio::time::sleep;

use super::storage::store_folder;
use crate::config::Config;

/// The file with the records, where they are in no server.
pub(super) const RECORDS_FILE: &str = "records.db";

/// How long a server waits at its start for a PostgreSQL that cannot be reached.
const RECORDS_PATIENCE: Duration = Duration::from_mins(1);
/// Between one try and the next.
const RECORDS_PAUSE: Duration = Duration::from_millis(500);

/// Where the records are.
///
/// # Errors
/// An address that is none: a defect, since the configuration was checked.
pub fn records(config: &Config) -> Result<RecordsSettings, String> {
    match &config.records.postgres {
        None => Ok(RecordsSettings::Sqlite {
            path: config.data.join(RECORDS_FILE),
        }),
        Some(url) => {
            let url: PostgresUrl = url
                .expose()
                .parse()
                .map_err(|error: RecordsError| error.to_string())?;
            let ca = config.network.ca.as_ref();
            Ok(RecordsSettings::postgres(match ca {
                Some(ca) => url.trusting(ca.pem.clone()),
                None => url,
            }))
        }
    }
}

/// The records, open.
///
/// # Errors
/// They cannot be reached, or are not for this version.
pub async fn open_records(config: &Config) -> io::Result<Records> {
    let settings = records_at(config)?;
    let opened = Records::open(&settings).await;
    opened.map_err(|error| not_open(&settings, &error))
}

/// The same for a server at its start, which waits for a PostgreSQL that cannot be reached: machines start in any order,
/// and a database may be failing over.
///
/// # Errors
/// As of [`open_records`]; that it cannot be reached, after [`RECORDS_PATIENCE`].
pub async fn await_records(config: &Config) -> io::Result<Records> {
    let settings = records_at(config)?;
    if let RecordsSettings::Sqlite { path } = &settings
        && are_gone(path, store_folder(config))
    {
        tracing::warn!(
            records = %path.display(),
            "there are no records of what is kept here: if versions were retired they are served again; `modgate restore FROM` brings back what was backed up, and `modgate fsck --repair` notes what is kept"
        );
    }
    let begin = Instant::now();
    let mut waits = false;
    loop {
        let error = match Records::open(&settings).await {
            Ok(records) => {
                if waits {
                    tracing::info!(records = records.place(), "the records are there");
                }
                return Ok(records);
            }
            Err(error) => error,
        };
        let away = error.kind.passes();
        let postgres = matches!(settings, RecordsSettings::Postgres { .. });
        let error = not_open(&settings, &error);
        if !away || !postgres || begin.elapsed() > RECORDS_PATIENCE {
            return Err(error);
        }
        if !waits {
            let patience = RECORDS_PATIENCE.as_secs();
            tracing::warn!(%error, "the records cannot be reached; waiting up to {patience} s for them");
            waits = true;
        }
        sleep(RECORDS_PAUSE).await;
    }
}

/// Whether something is kept and nothing is there that could remember it: SQLite takes a file without a byte for a new one.
/// Retired versions from before there were records are taken over.
fn are_gone(records: &Path, folder: &Path) -> bool {
    let empty = fs::metadata(records).map_or(true, |file| file.len() == 0);
    let mut kept = fs::read_dir(folder.join("go")).into_iter().flatten();
    empty && kept.next().is_some() && !folder.join("tombstones.json").exists()
}

fn records_at(config: &Config) -> io::Result<RecordsSettings> {
    let settings = records(config).map_err(io::Error::other)?;
    if let RecordsSettings::Sqlite { .. } = &settings {
        fs::create_dir_all(&config.data).map_err(|error| ::store::at(&config.data, error))?;
    }
    Ok(settings)
}

fn not_open(settings: &RecordsSettings, error: &RecordsError) -> io::Error {
    io::Error::other(match settings {
        // It names the file.
        RecordsSettings::Sqlite { .. } => error.to_string(),
        RecordsSettings::Postgres { url, .. } => format!("{url}: {error}"),
    })
}
