//! Where in the repository the module is, and whether its go.mod has the right major version.

use bytes::Bytes;
use gomod::gomod_file::GoMod;
use gomod::split_major;

use super::{Module, major_number};
use crate::DirectError;
use crate::repository::Trouble;

impl Module {
    /// The module's folder in a commit that is there, and its go.mod.
    pub(super) async fn find_folder(
        &mut self,
        hash: &str,
    ) -> Result<(String, Option<Bytes>), Trouble> {
        let fault =
            |text: String| Err(DirectError::not_found(format!("{text} at revision {hash}")).into());
        let major = self.major().to_owned();
        let outer = format!("{}go.mod", self.tag_prefix);
        let first = self.read(hash, &outer).await?;
        let first_path = first.as_deref().and_then(module_path).unwrap_or_default();
        let found = first.is_some()
            && (is_major(&first_path, &major)
                || major.is_empty() && first_path.starts_with("gopkg.in/"));
        let mut looked_inside = false;
        if major.starts_with('/') && self.root.prefix != self.path.as_str() {
            looked_inside = true;
            let folder = format!("{}{}", self.tag_prefix, &major[1..]);
            let inner = format!("{folder}/go.mod");
            if let Some(second) = self.read(hash, &inner).await? {
                let path = module_path(&second).unwrap_or_default();
                let found_inside = is_major(&path, &major);
                return match (found, found_inside) {
                    (true, true) => fault(format!(
                        "{outer} and {inner} both have {major} module paths"
                    )),
                    (false, true) => Ok((folder, Some(second))),
                    _ if path.is_empty() => fault(format!("{inner} is missing its module path")),
                    _ => fault(format!(
                        "{inner} has the module path {path:?}, which does not end in {major},"
                    )),
                };
            }
        }
        if found {
            return Ok((self.folder.clone(), first));
        }
        let also = if looked_inside {
            format!(" (and …{major}/go.mod does not exist)")
        } else {
            String::new()
        };
        if first.is_some() {
            return if first_path.is_empty() {
                fault(format!("{outer} is missing its module path{also}"))
            } else if major.is_empty() {
                fault(format!(
                    "{outer} has the module path {first_path:?}, whose major version is not v0 or v1,"
                ))
            } else {
                fault(format!(
                    "{outer} has the module path {first_path:?}, which does not end in {major}{also},"
                ))
            };
        }
        if self.folder.is_empty() && !major.starts_with('/') {
            // From before modules: a go.mod is made up.
            return Ok((String::new(), None));
        }
        if looked_inside {
            return fault(format!("missing {outer} and …{major}/go.mod"));
        }
        fault(format!("missing {outer}"))
    }
}

/// Whether the major version that a path has is the one of our path, where v0 and v1 need none.
fn is_major(path: &str, major: &str) -> bool {
    if path.is_empty() {
        return false;
    }
    let Some((_, theirs)) = split_major(path) else {
        return false;
    };
    if major.is_empty() {
        return matches!(major_number(theirs), "" | "v0" | "v1");
    }
    !theirs.is_empty() && major[1..] == theirs[1..]
}

/// The path on the first `module` line, however the rest of the file may look (`modfile.ModulePath`).
fn module_path(file: &[u8]) -> Option<String> {
    for line in file.split(|byte| *byte == b'\n') {
        let comment = line.windows(2).position(|pair| pair == b"//");
        let line = line[..comment.unwrap_or(line.len())].trim_ascii();
        let Some(rest) = line.strip_prefix(b"module") else {
            continue;
        };
        let path = rest.trim_ascii();
        if path.len() == rest.len() || path.is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(path);
        return match text.chars().next() {
            Some('`') => Some(
                text.strip_prefix('`')?
                    .strip_suffix('`')
                    .filter(|inside| !inside.contains('`'))?
                    .to_owned(),
            ),
            // Its escapes are read as in any go.mod; with the line alone, nothing else can be wrong.
            Some('"') => {
                let alone = format!("module {text}\n");
                GoMod::parse_lax(alone.as_bytes())
                    .ok()?
                    .module
                    .map(|module| module.path)
            }
            _ => Some(text.into_owned()),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_lines() {
        for (file, want) in [
            ("module a.com/m\n", Some("a.com/m")),
            ("// x\n\nmodule   a.com/m // why\r\n", Some("a.com/m")),
            ("module \"a.com/m\"", Some("a.com/m")),
            ("module \"a.com/\\x6d\"", Some("a.com/m")),
            ("module `a.com/m`", Some("a.com/m")),
            ("module \"a.com/m", None),
            ("modulea.com/m", None),
            ("module\nmodule b.com", Some("b.com")),
            ("go 1.20\n?? junk\nmodule a.com/m", Some("a.com/m")),
            ("", None),
        ] {
            assert_eq!(module_path(file.as_bytes()).as_deref(), want, "{file}");
        }
    }

    #[test]
    fn majors() {
        for (path, major, want) in [
            ("a.com/m", "", true),
            ("a.com/m/v2", "", false),
            ("a.com/m/v2", "/v2", true),
            ("a.com/m", "/v2", false),
            ("gopkg.in/m.v2", "/v2", true),
            ("gopkg.in/m.v1", "", true),
            ("gopkg.in/m.v2", "", false),
            ("gopkg.in/m.v2-unstable", ".v2", false),
            ("a.com/m/v02", "", false),
            ("", "", false),
        ] {
            assert_eq!(is_major(path, major), want, "{path} {major}");
        }
    }
}
