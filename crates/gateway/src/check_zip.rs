//! Reading a zip that has arrived: its structure, limits and content, and its hash.

use std::{
    io::{Read, Seek, SeekFrom},
    sync::Arc,
};

use gomod::{h1::H1, zip};

use crate::{
    artifact::Artifact,
    gateway::Gateway,
    refusal::{Code, Refusal},
    results::Verification,
    settings::Settings,
};

impl Gateway {
    /// Structure, limits and content of a zip; its hash if somebody wants to know.
    pub(crate) async fn check_zip(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &str,
        content: impl Read + Seek + Send + 'static,
        hash: bool,
    ) -> Result<Option<H1>, Refusal> {
        let want = if hash {
            zip::Want::Hash
        } else {
            zip::Want::CrcOnly
        };
        let checked = self.read_zip(artifact, content, want).await?;
        match checked {
            Ok(report) => {
                self.same_go_mod(artifact, upstream, report.go_mod_h1)
                    .await?;
                Ok(report.h1)
            }
            Err(error) => {
                self.metrics.verifications.count(Verification::Invalid);
                settings
                    .upstreams
                    .mark_bad(upstream, &artifact.upstream_path());
                tracing::warn!(%artifact, upstream, %error, "refused a zip");
                Err(Refusal::new(
                    Code::UpstreamInvalid,
                    artifact.to_string(),
                    format!("the zip from {upstream} is not valid: {error}"),
                )
                .hint(
                    "nothing of it was kept; if another upstream has the module it is asked next",
                ))
            }
        }
    }

    /// Whether each zip's hash is kept beside it. Where there is no checksum database at all nobody asked for any.
    pub(crate) fn hashes_zips(&self) -> bool {
        self.sumdb.load().is_some()
    }

    /// The hash of a zip that passed, to be kept beside it. Where nothing was compared it is made now, when nobody waits.
    pub(crate) async fn zip_hash(
        self: &Arc<Self>,
        artifact: &Artifact,
        known: Option<H1>,
        content: impl Read + Seek + Send + 'static,
    ) -> Result<H1, Refusal> {
        if let Some(known) = known {
            return Ok(known);
        }
        let checked = self
            .read_zip(artifact, content, zip::Want::Hash)
            .await?
            .map_err(|error| error.to_string());
        checked
            .and_then(|report| report.h1.ok_or_else(|| "no hash".to_owned()))
            .map_err(|why| Refusal::new(Code::InternalError, artifact.to_string(), why))
    }

    async fn read_zip(
        self: &Arc<Self>,
        artifact: &Artifact,
        mut content: impl Read + Seek + Send + 'static,
        want: zip::Want,
    ) -> Result<Result<zip::ZipReport, zip::ZipError>, Refusal> {
        let _place = self.zip_checks.acquire().await;
        let artifact = artifact.clone();
        self.on_disk(move |_| {
            let len = content.seek(SeekFrom::End(0))?;
            zip::check(
                content,
                len,
                &artifact.module,
                &artifact.version,
                &zip::Limits::default(),
                want,
            )
        })
        .await
    }
}
