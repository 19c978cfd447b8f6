//! Where in the repository the module is, and whether its go.mod has the right major version.

use bytes::Bytes;
use gomod::{gomod_file::module_path, split_major};

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

#[cfg(test)]
mod tests {
    use super::*;

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
