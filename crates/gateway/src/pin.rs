//! All files of a version are of one commit. A tag in a repository can be moved by force between the questions for
//! `.info`, `.mod` and `.zip`, so the commit that the kept `.info` names decides for the others.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use gomod::{
    ModulePath, Version,
    gomod_file::synthesized,
    h1::{H1, hash_go_mod},
    info::Info,
};

use crate::{
    answer::Content,
    artifact::{Artifact, Part},
    gateway::Gateway,
    pipeline::Want,
    refusal::{Code, Refusal},
    results::Incident,
    settings::Route,
    source::DIRECT,
};

impl Gateway {
    /// The commit of a version, as its kept `.info` has it, which is fetched first if there is none: clients with a whole
    /// `go.sum` never ask for it. None where an origin is not told, or is no commit.
    pub(crate) fn commit_of<'a>(
        self: &'a Arc<Self>,
        module: &'a ModulePath,
        version: &'a Version,
        route: &'a Route,
    ) -> BoxFuture<'a, Result<Option<String>, Refusal>> {
        // Boxed, since a fetch leads here and from here to another fetch.
        async move {
            let info = Artifact {
                module: module.clone(),
                version: version.clone(),
                part: Part::Info,
            };
            let body = if let Some(kept) = self.kept_small(&info).await? {
                kept
            } else {
                let want = Want {
                    whole: true,
                    ..Want::default()
                };
                let answer = self.fly(info, route.clone(), want).await;
                let answer = answer.map_err(|refused| (*refused.refusal).clone())?;
                match &answer.content {
                    Content::Bytes(bytes) => bytes.clone(),
                    Content::Kept(kept) => kept.whole().cloned().unwrap_or_default(),
                    _ => Bytes::new(),
                }
            };
            let told = Info::parse(&body, module).ok();
            Ok(told.and_then(|told| told.commit().map(str::to_owned)))
        }
        .boxed()
    }

    /// The commit that the kept `.info` of a version names, if one is kept. Nobody is asked.
    pub(crate) async fn kept_commit(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Option<String> {
        let info = Artifact {
            module: module.clone(),
            version: version.clone(),
            part: Part::Info,
        };
        let kept = self.kept_small(&info).await.ok()??;
        let told = Info::parse(&kept, module).ok()?;
        told.commit().map(str::to_owned)
    }

    /// Refuses a zip from version control that does not go with the `.mod` that is kept, where no commit tells that it
    /// does. Where one does they may differ: attributes of a repository can change a file on its way into a zip.
    pub(crate) async fn same_go_mod(
        self: &Arc<Self>,
        artifact: &Artifact,
        upstream: &str,
        in_zip: Option<H1>,
    ) -> Result<(), Refusal> {
        if upstream != DIRECT {
            return Ok(());
        }
        let of_info = Artifact {
            part: Part::Info,
            ..artifact.clone()
        };
        let told = self.kept_small(&of_info).await?;
        let told = told.and_then(|body| Info::parse(&body, &artifact.module).ok());
        if told.is_some_and(|told| told.commit().is_some()) {
            return Ok(());
        }
        let of_mod = Artifact {
            part: Part::Mod,
            ..artifact.clone()
        };
        let Some(kept) = self.kept_small(&of_mod).await? else {
            return Ok(());
        };
        let made_up = || hash_go_mod(&synthesized(&artifact.module));
        if hash_go_mod(&kept) == in_zip.unwrap_or_else(made_up) {
            return Ok(());
        }
        self.metrics.incidents.count(Incident::MovedTag);
        tracing::error!(%artifact, "SECURITY: the go.mod in the zip is not the one that was served; not kept");
        let why = "the go.mod in its zip is not the one that was served before: the version was changed in its repository";
        Err(
            Refusal::new(Code::UpstreamInvalid, artifact.to_string(), why)
                .hint("its tag was moved: retire the version, and use a new one"),
        )
    }

    /// The content of a small artifact that is kept.
    async fn kept_small(&self, artifact: &Artifact) -> Result<Option<Bytes>, Refusal> {
        let key = artifact.key()?;
        match self.store.get(&key).await {
            Ok(Some(kept)) => Ok(kept.whole().cloned()),
            Ok(None) => Ok(self.kept_elsewhere(&key).await),
            Err(error) => {
                tracing::error!(%artifact, %error, "cannot read what is kept");
                Ok(None)
            }
        }
    }
}

/// Whether a kept `.info` names another commit of a version than what was told of it.
pub(crate) fn differs(told: &Info, kept: &[u8], module: &ModulePath) -> bool {
    let kept = Info::parse(kept, module).ok();
    let kept = kept.as_ref().and_then(Info::commit);
    kept.is_some_and(|kept| told.commit().is_some_and(|told| told != kept))
}
