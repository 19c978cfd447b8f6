//! What a key names.

use gomod::{ModulePath, Version};

/// Which file of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Version and time.
    Info,
    /// `go.mod`.
    Mod,
    /// The module zip.
    Zip,
    /// The zip's hash, beside it. Not in the index.
    ZipHash,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Info, Self::Mod, Self::Zip, Self::ZipHash];

    /// The file's ending.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Mod => "mod",
            Self::Zip => "zip",
            Self::ZipHash => "ziphash",
        }
    }
}

/// Reads the key of a version's file: the key without its ending, module, version and file. `None`: it is something
/// else, such as a list or a tile of the checksum database.
pub fn parse(key: &str) -> Option<(&str, ModulePath, Version, Part)> {
    let (stem, ending) = key.rsplit_once('.')?;
    let part = Part::ALL.into_iter().find(|part| part.ending() == ending)?;
    let (module, version) = stem.strip_prefix("go/")?.rsplit_once("/@v/")?;
    Some((
        stem,
        ModulePath::from_escaped(module).ok()?,
        Version::from_escaped(version).ok()?,
        part,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_versions_are_told_from_others() {
        let (stem, module, version, part) = parse("go/lab.example/!a/@v/v1.0.0.ziphash").unwrap();
        assert_eq!(stem, "go/lab.example/!a/@v/v1.0.0");
        assert_eq!(module.as_str(), "lab.example/A");
        assert_eq!(version.as_str(), "v1.0.0");
        assert_eq!(part, Part::ZipHash);
        for other in [
            "go/lab.example/a/@v/list",
            "go/lab.example/a/@v/main.info",
            "go/sumdb/sum.golang.org/tile/8/0/000",
            "fresh/lab.example/a/@v/v1.0.0.info",
            "go/v1.0.0.zip",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
