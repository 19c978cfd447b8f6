//! What can be done about an error of the disk.

use std::{
    io,
    path::{Path, PathBuf},
};

/// To be said after the error; empty if there is nothing to say.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room there: `modgate gc --yes` removes what was not used for long"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; it must be writable: look at how it is mounted and whose it is"
        }
        _ => "",
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {error}{}", path.display(), remedy(error))]
struct At {
    path: PathBuf,
    error: io::Error,
}

/// The same error with where it was and what to do, unless it says so already.
pub fn at(path: &Path, error: io::Error) -> io::Error {
    if matches!(error.get_ref(), Some(inner) if inner.is::<At>()) {
        return error;
    }
    let path = path.to_owned();
    io::Error::new(error.kind(), At { path, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_it_was_and_what_to_do() {
        let full = at(Path::new("/data"), io::ErrorKind::StorageFull.into());
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let text = full.to_string();
        assert!(
            text.starts_with("/data: ") && text.contains("modgate gc"),
            "{text}"
        );
        let absent = at(Path::new("/data"), io::ErrorKind::NotFound.into());
        assert!(!absent.to_string().contains(';'), "{absent}");
        let text = absent.to_string();
        assert_eq!(at(Path::new("/"), absent).to_string(), text, "said once");
    }
}
