//! Paths below a module: what the go command asks for on its way from a package to its module.
//!
//! For a package it asks for every prefix of its path at once and takes the longest that is a module; an error for a longer one, other
//! than 404, ends it (protocol.md section 3). Its own chain asks a proxy for all prefixes before it goes on to the next entry, so
//! it never asks `direct`, or stops at `off`, for a prefix that is none, where a proxy has the module. Here each path has a walk of
//! its own, and version control that cannot be reached, an upstream that is dead, or `off` would be fatal for what go would not have asked.
//!
//! So a refusal that says nothing of the path becomes "not found" where it is known that the path is no module:
//! something else is a module whose folder it is.

use std::{fs::File, sync::Arc};

use gomod::{ModulePath, Version, zip};

use crate::{
    artifact::{Artifact, Part},
    gateway::{Gateway, Refused},
    pipeline::Want,
    refusal::{Code, Refusal},
};

/// Most prefixes of a path that are looked at.
const MAX_PREFIXES: usize = 8;

/// What shows that a path below a module is none itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// That something is kept of a module above it: nobody is asked here for what is not kept.
    Kept,
    /// The same, or that upstream has a module above it: all upstreams but version control denied the path.
    Known,
    /// That a kept zip has files in that folder.
    Files,
}

impl Proof {
    fn needed(refusal: &Refusal) -> Option<Self> {
        match refusal.code {
            Code::LookupDisabled => Some(Self::Kept),
            Code::UpstreamUnavailable | Code::UpstreamTimeout if refusal.denied => {
                Some(Self::Known)
            }
            Code::UpstreamUnavailable | Code::UpstreamTimeout | Code::LoopDetected => {
                Some(Self::Files)
            }
            _ => None,
        }
    }
}

impl Gateway {
    /// A refusal as it is to somebody who looks for the module of a package.
    pub(crate) async fn unless_below(
        self: &Arc<Self>,
        path: &ModulePath,
        refused: Refused,
        want: &Want,
    ) -> Refused {
        let Some(proof) = Proof::needed(&refused.refusal) else {
            return refused;
        };
        for above in above(path) {
            match self.is_folder_of(&above, path, proof, want).await {
                Ok(true) => {
                    let code = match proof {
                        Proof::Kept => Code::NotCached,
                        Proof::Known | Proof::Files => Code::ModuleNotFound,
                    };
                    let why = format!("no module, but a folder of {above}");
                    let mut refusal = Refusal::new(code, &refused.refusal.what, why);
                    refusal.upstream.clone_from(&refused.upstream);
                    return refusal.into();
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(%above, %error, "cannot be looked at"),
            }
        }
        refused
    }

    async fn is_folder_of(
        self: &Arc<Self>,
        above: &ModulePath,
        path: &ModulePath,
        proof: Proof,
        want: &Want,
    ) -> Result<bool, Refusal> {
        let module = above.clone();
        let kept = self
            .on_disk(move |gateway| gateway.kept_versions(&module))
            .await?;
        let mut versions = kept.versions;
        versions.extend(kept.pseudo);
        if proof != Proof::Files {
            let known = proof == Proof::Known
                && versions.is_empty()
                && self.list(above.clone(), want.clone()).await.is_ok();
            return Ok(known || !versions.is_empty());
        }
        let folder = path.as_str()[above.as_str().len() + 1..].to_owned();
        // The newest that is here says most of what is there now.
        versions.sort_unstable();
        for version in versions.into_iter().rev() {
            if let Some(has) = self.has_folder(above, version, folder.clone()).await? {
                return Ok(has);
            }
        }
        Ok(false)
    }

    /// Whether the kept zip of a version has files in a folder; `None` if it is not on the disk.
    async fn has_folder(
        self: &Arc<Self>,
        module: &ModulePath,
        version: Version,
        folder: String,
    ) -> Result<Option<bool>, Refusal> {
        let zip = Artifact {
            module: module.clone(),
            version,
            part: Part::Zip,
        };
        let key = zip.key()?;
        self.on_disk(move |gateway| {
            let file = File::open(gateway.store.folder().join(key.as_str())).ok()?;
            let len = file.metadata().ok()?.len();
            zip::has_folder(file, len, &zip.module, &zip.version, &folder).ok()
        })
        .await
    }
}

/// The paths above a path, the longest first.
fn above(path: &ModulePath) -> impl Iterator<Item = ModulePath> {
    let path = path.as_str();
    let ends = path.rmatch_indices('/').map(|(end, _)| end);
    let prefixes = ends.take(MAX_PREFIXES).map(|end| &path[..end]);
    prefixes.filter_map(|prefix| ModulePath::parse(prefix).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_first() {
        let of = |path: &str| -> Vec<String> {
            let path = ModulePath::parse(path).unwrap();
            above(&path).map(|path| path.to_string()).collect()
        };
        assert_eq!(
            of("a.example/m/v2/pkg/name"),
            [
                "a.example/m/v2/pkg",
                "a.example/m/v2",
                "a.example/m",
                "a.example"
            ]
        );
        // `/v1` ends no module's path.
        assert_eq!(of("a.example/m/v1/x"), ["a.example/m", "a.example"]);
        assert_eq!(of("a.example"), [""; 0]);
        assert_eq!(
            of(&format!("a.example{}", "/x".repeat(50))).len(),
            MAX_PREFIXES
        );
    }
}
