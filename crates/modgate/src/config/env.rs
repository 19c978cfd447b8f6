//! The surroundings of the process, as values that tests can make up.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What configuration needs to know about the process's surroundings.
///
/// Only [`Env::of_process`] looks at the real ones, and only the binary calls it.
#[derive(Debug, Clone, Default)]
pub struct Env {
    /// Environment variables; bytes that are no UTF-8 are replaced.
    pub vars: BTreeMap<String, String>,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let vars = std::env::vars_os()
            .map(|(name, value)| {
                let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
                (text(name), text(value))
            })
            .collect();
        Self { vars }
    }

    /// An environment of these variables alone.
    pub fn of<const N: usize>(vars: [(&str, &str); N]) -> Self {
        let vars = vars
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { vars }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The default of `data`: the user's data folder (XDG base directories), or
    /// a system folder for a process without a home. With why it is this one.
    pub(super) fn data_folder(&self) -> (PathBuf, &'static str) {
        if let Some(folder) = self.absolute("XDG_DATA_HOME") {
            return (folder.join("modgate"), "the user's data folder");
        }
        match self.absolute("HOME") {
            Some(home) => (home.join(".local/share/modgate"), "the user's data folder"),
            None => (
                PathBuf::from("/var/lib/modgate"),
                "the system's folder, since the process has no home",
            ),
        }
    }

    /// The file `go env -w` writes: `$GOENV`, or `go/env` in the user's
    /// configuration folder as Go finds it; `None` if switched off.
    pub(super) fn go_env_file(&self) -> Option<PathBuf> {
        match self.get("GOENV") {
            Some("off") => None,
            Some(file) => Some(PathBuf::from(file)),
            None => self.config_folder().map(|folder| folder.join("go/env")),
        }
    }

    fn config_folder(&self) -> Option<PathBuf> {
        if cfg!(target_os = "macos") {
            let home = self.absolute("HOME")?;
            return Some(home.join("Library/Application Support"));
        }
        self.absolute("XDG_CONFIG_HOME")
            .or_else(|| Some(self.absolute("HOME")?.join(".config")))
    }

    /// The `go` program on the path, links resolved.
    pub(super) fn go_program(&self) -> Option<PathBuf> {
        let path = self.get("PATH")?;
        std::env::split_paths(path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("go"))
            .filter(|program| program.is_file())
            .find_map(|program| program.canonicalize().ok())
    }

    /// The `go.env` file of the Go installation: in `$GOROOT`, or beside the
    /// `bin` folder of the program on the path.
    pub(super) fn go_root_file(&self) -> Option<PathBuf> {
        let root = match self.absolute("GOROOT") {
            Some(root) => root,
            None => self.go_program()?.parent()?.parent()?.to_owned(),
        };
        Some(root.join("go.env"))
    }

    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name)
            .map(Path::new)
            .filter(|path| path.is_absolute())
            .map(Path::to_owned)
    }
}
