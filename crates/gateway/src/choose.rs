//! `latest`, `upgrade` and `v1` as the go command chooses them from a list, by what the versions' go.mod files say.

use std::{slice, sync::Arc};

use bytes::Bytes;
use gomod::{
    ModulePath, Query, QueryKind, Version,
    gomod_file::{self, Retraction},
    info::Info,
    list,
};

use crate::{
    answer::{Answer, Content, Life},
    artifact::{Artifact, Part},
    gateway::{Gateway, Refused},
    pipeline::Want,
    refresh::trouble,
    refusal::{Code, Refusal},
    source::What,
};

/// The versions of a module that are not to be chosen any more.
#[derive(Debug, Default)]
pub(crate) struct Retracted(Vec<Retraction>);

impl Retracted {
    pub(crate) fn has(&self, version: &Version) -> bool {
        self.0.iter().any(|what| what.covers(version))
    }
}

fn none_matches(module: &ModulePath, query: &str) -> Refusal {
    let what = format!("{module}@{query}");
    Refusal::new(Code::VersionNotFound, what, "no listed version matches")
}

impl Gateway {
    /// `latest`, `upgrade` and `v1` as the client would pick them: from the list, without retracted versions.
    pub(crate) async fn from_list(
        self: &Arc<Self>,
        module: ModulePath,
        query: &Query,
        want: Want,
    ) -> Result<Answer, Refused> {
        let listed = self.list(module.clone(), want.clone()).await?;
        let Content::Bytes(body) = &listed.content else {
            return Err(Refusal::new(Code::InternalError, "", "a list that is no text").into());
        };
        let versions = list::parse(body, &module).versions;
        let retracted = self.retracted(&module, &versions, &want).await?;
        let allowed = versions.iter().filter(|version| !retracted.has(version));
        let picked = if query.kind() == QueryKind::Latest {
            let allowed = allowed.cloned().collect();
            let usable = self.go_chooses_from(&module, allowed, &want).await?;
            list::latest(usable.iter()).cloned()
        } else {
            // Of one major: what has a go.mod does not matter.
            list::latest_with_prefix(query.as_str(), allowed).cloned()
        };
        let Some(version) = picked else {
            if query.kind() == QueryKind::Latest {
                let retracted = (!versions.is_empty()).then_some(retracted);
                return self.latest_unless_retracted(module, retracted, want).await;
            }
            return Err(none_matches(&module, query.as_str()).into());
        };
        let mut answer = self
            .artifact(
                Artifact {
                    module,
                    version,
                    part: Part::Info,
                },
                want,
            )
            .await?;
        answer.life = Life::For(self.life(&What::List));
        Ok(answer)
    }

    /// `latest` where the list has none: what the chain calls the latest, as long as that is not retracted either.
    /// Where nothing is listed, `retracted` is for it to say itself.
    async fn latest_unless_retracted(
        self: &Arc<Self>,
        module: ModulePath,
        retracted: Option<Retracted>,
        want: Want,
    ) -> Result<Answer, Refused> {
        let latest = self.latest(module.clone(), want.clone()).await?;
        let Content::Bytes(said) = &latest.content else {
            return Ok(latest);
        };
        let Ok(Info { version, .. }) = Info::parse(said, &module) else {
            return Ok(latest);
        };
        let retracted = if let Some(retracted) = retracted {
            retracted
        } else {
            let only = slice::from_ref(&version);
            self.retracted(&module, only, &want).await?
        };
        if retracted.has(&version) {
            return Err(none_matches(&module, "latest").into());
        }
        Ok(latest)
    }

    /// What the newest of these versions says is retracted, itself perhaps among it.
    pub(crate) async fn retracted(
        self: &Arc<Self>,
        module: &ModulePath,
        versions: &[Version],
        want: &Want,
    ) -> Result<Retracted, Refusal> {
        let all = self
            .go_chooses_from(module, versions.to_vec(), want)
            .await?;
        let Some(newest) = list::latest(all.iter()) else {
            return Ok(Retracted::default());
        };
        let file = self.go_mod(module, newest, want).await?;
        let what = file.map(|file| gomod_file::retractions(&file));
        Ok(Retracted(what.unwrap_or_default()))
    }

    /// What the go command chooses from: no `+incompatible` versions if the highest of the others has a go.mod.
    pub(crate) async fn go_chooses_from(
        self: &Arc<Self>,
        module: &ModulePath,
        mut versions: Vec<Version>,
        want: &Want,
    ) -> Result<Vec<Version>, Refusal> {
        let Some(decides) = list::decides_incompatible(versions.iter()) else {
            return Ok(versions);
        };
        let file = self.go_mod(module, decides, want).await?;
        if file.is_some_and(|file| file != gomod_file::synthesized(module)) {
            versions.retain(|version| !version.is_incompatible());
        }
        Ok(versions)
    }

    /// The go.mod of a version; `None` if there is none to be had.
    async fn go_mod(
        self: &Arc<Self>,
        module: &ModulePath,
        version: &Version,
        want: &Want,
    ) -> Result<Option<Bytes>, Refusal> {
        let artifact = Artifact {
            module: module.clone(),
            version: version.clone(),
            part: Part::Mod,
        };
        match self.small(artifact, want.clone()).await {
            Ok(file) => Ok(Some(file)),
            Err(refused) if trouble(&refused.refusal) => Err((*refused.refusal).clone()),
            Err(_) => Ok(None),
        }
    }

    /// A small artifact that another answer is made from: fetched in every download mode that fetches.
    pub(crate) async fn small(
        self: &Arc<Self>,
        artifact: Artifact,
        want: Want,
    ) -> Result<Bytes, Refused> {
        let name = artifact.to_string();
        let want = Want {
            whole: true,
            at_once: true,
            ..want
        };
        let answer = self.artifact(artifact, want).await?;
        let bytes = match &answer.content {
            Content::Bytes(bytes) => Some(bytes.clone()),
            Content::Kept(kept) => kept.whole().cloned(),
            Content::Spool(_) | Content::Lower(_) | Content::Elsewhere(_) => None,
        };
        bytes.ok_or_else(|| {
            Refusal::new(
                Code::InternalError,
                name,
                "a small file that is not in memory",
            )
            .into()
        })
    }
}
