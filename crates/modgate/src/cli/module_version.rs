//! A version of a module, as commands take it.

use std::str::FromStr;

use gomod::{ModulePath, Version};

/// `MODULE@VERSION`: a canonical version of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleVersion {
    /// The module.
    pub module: ModulePath,
    /// Its version.
    pub version: Version,
}

/// `MODULE` or `MODULE@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleVersions {
    /// The module.
    pub module: ModulePath,
    /// One version; none is all of them.
    pub version: Option<Version>,
}

impl FromStr for ModuleVersions {
    type Err = ModuleVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('@') {
            let ModuleVersion { module, version } = text.parse()?;
            let version = Some(version);
            return Ok(Self { module, version });
        }
        let module = ModulePath::parse(text)
            .map_err(|error| ModuleVersionError::Module(text.to_owned(), error.to_string()))?;
        Ok(Self {
            module,
            version: None,
        })
    }
}

/// Why a text is not `MODULE@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleVersionError {
    /// No `@`.
    #[error("write it as MODULE@VERSION, such as github.com/user/repo@v1.2.3")]
    NoVersion,
    /// The part before `@`, and why.
    #[error("`{0}` is not a module path: {1}")]
    Module(String, String),
    /// The part after `@`, and why.
    #[error("`{0}` will not do: {1}")]
    Version(String, String),
    /// A version that this module cannot have, why, and what may be meant.
    #[error("`{0}` has no version {1}: {2}{3}")]
    Major(String, String, String, String),
}

/// What may be meant by a version whose major does not fit the path.
fn fitting(module: &ModulePath, version: &Version) -> String {
    let incompatible = Version::parse(&format!("{version}+incompatible"))
        .ok()
        .filter(|version| version.check_major(module).is_ok());
    match incompatible {
        Some(version) => format!("; did you mean {version}?"),
        None => String::new(),
    }
}

impl FromStr for ModuleVersion {
    type Err = ModuleVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (module, version) = text.split_once('@').ok_or(ModuleVersionError::NoVersion)?;
        let module = ModulePath::parse(module)
            .map_err(|error| ModuleVersionError::Module(module.to_owned(), error.to_string()))?;
        let version = Version::parse(version)
            .map_err(|error| ModuleVersionError::Version(version.to_owned(), error.to_string()))?;
        // No such version is ever asked for: what is said of it would have no effect.
        version.check_major(&module).map_err(|error| {
            let hint = fitting(&module, &version);
            ModuleVersionError::Major(
                module.to_string(),
                version.to_string(),
                error.to_string(),
                hint,
            )
        })?;
        Ok(Self { module, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_its_module_cannot_have_is_told_with_what_is_meant() {
        for (text, told) in [
            (
                "example.com/m@v24.0.0",
                "should be v0 or v1, by the module path; did you mean v24.0.0+incompatible?",
            ),
            (
                "example.com/m/v2@v3.0.0",
                "should be v2, by the module path",
            ),
            (
                "gopkg.in/yaml.v2@v3.0.0",
                "should be v2, by the module path",
            ),
        ] {
            let error = text.parse::<ModuleVersion>().unwrap_err().to_string();
            assert!(error.ends_with(told), "{error}");
            assert_eq!(
                text.parse::<ModuleVersions>().unwrap_err().to_string(),
                error
            );
        }
        for text in [
            "example.com/m@v24.0.0+incompatible",
            "example.com/m/v2@v2.0.0",
        ] {
            assert!(text.parse::<ModuleVersion>().is_ok(), "{text}");
        }
    }
}
