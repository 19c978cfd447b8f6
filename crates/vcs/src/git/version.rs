//! Which git there is.

use std::path::Path;
use std::time::Duration;

use super::command::local;
use crate::process::output;
use crate::{DirectError, ErrorKind};

/// The oldest that will do: it takes checked addresses (`http.curloptResolve`) and keeps what nothing refers to (cruft
/// packs).
const OLDEST: (u32, u32) = (2, 37);

/// Whether the git that is installed will do: no error. `folder` is any folder.
pub(crate) async fn check(folder: &Path) -> Result<(), DirectError> {
    let mut git = local(folder);
    git.arg("version");
    let (_, said) = output(git, "git version", 4096, Duration::from_secs(20)).await?;
    let said = String::from_utf8_lossy(&said);
    match version(&said) {
        Some(version) if version >= OLDEST => Ok(()),
        _ => {
            let (major, minor) = OLDEST;
            let text = format!("the program git is too old: {}", said.trim());
            Err(
                DirectError::new(ErrorKind::MissingProgram, text).hint(format!(
                    "install git {major}.{minor} or newer where modgate runs"
                )),
            )
        }
    }
}

/// The first two numbers in `git version 2.39.5 (Apple Git-154)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let numbers = said.split(' ').nth(2)?;
    let mut numbers = numbers.split('.').map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn versions() {
        for (said, want) in [
            ("git version 2.39.5\n", Some((2, 39))),
            ("git version 2.37.1.windows.1\n", Some((2, 37))),
            ("git version 2.50 (Apple Git-154)\n", Some((2, 50))),
            ("git version 3.0.rc1\n", Some((3, 0))),
            ("git version x\n", None),
            ("", None),
        ] {
            assert_eq!(version(said), want, "{said}");
        }
        check(Path::new("/")).await.unwrap();
    }
}
