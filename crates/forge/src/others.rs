//! Repositories of the systems other than git. Their programs make them, so they are small.

mod bzr;
mod fossil;
mod hg;
mod svn;

use std::path::Path;
use std::process::Command;

use tokio::process::Child;
use tokio::task::JoinSet;

use crate::Forge;
use crate::truth::Questions;

/// Their servers, which end when it is dropped.
#[derive(Debug)]
pub struct Others {
    _programs: Vec<Child>,
    _svn: JoinSet<()>,
    /// What to ask.
    pub questions: Vec<Questions>,
}

impl Others {
    /// Makes one of each, serves them in the plain ways of their programs, and adds pages that name
    /// them.
    ///
    /// # Panics
    /// If `hg`, `svn`, `svnserve`, `bzr` or `fossil` is missing or fails.
    pub async fn start(forge: &Forge) -> Others {
        let (mut programs, mut questions) = hg::start(forge).await;
        let (svn, of_svn) = svn::start(forge).await;
        let (bzr, of_bzr) = bzr::start(forge).await;
        // Fossil goes through the proxy that go is given, whatever NO_PROXY says, and so go does not reach it here: what
        // modgate makes of it is tested beside the code.
        let (fossil, _) = fossil::start(forge).await;
        programs.extend([bzr, fossil]);
        questions.extend([of_svn, of_bzr]);
        Others {
            _programs: programs,
            _svn: svn,
            questions,
        }
    }
}

fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("it has one");
    std::fs::create_dir_all(folder).expect("a folder can be made");
    std::fs::write(path, text).expect("a file can be written");
}

fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
