//! `mod` roots: modules that a go-import page says are to be had from a module proxy (protocol.md 8.1, number 3).
//!
//! The proxy is a stranger's, so it is asked by the guarded client. What it says is passed on as it came: whoever
//! receives it checks it like the answer of any upstream.

use std::time::Duration;

use bytes::Bytes;
use egress::{Answer, Ask, Egress, Page};
use gomod::info::Info;
use gomod::{ModulePath, Version, info, list};

use crate::discover::Root;
use crate::discover::page::{from_egress, refused_with};
use crate::{DirectError, ErrorKind};

/// Longest wait for an answer, and for each piece of a zip.
const WITHIN: Duration = Duration::from_secs(30);
/// Largest list in bytes.
const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;
/// Largest go.mod in bytes, as by the go command.
const MAX_GO_MOD_BYTES: usize = 16 * 1024 * 1024;

/// A module proxy that a root names.
#[derive(Debug, Clone)]
pub(crate) struct ModProxy {
    egress: Egress,
    base: String,
    plain_http: bool,
    credentials: bool,
}

impl ModProxy {
    /// For a root of kind [`Mod`](crate::discover::Kind::Mod). `plain_http` allows http on the way.
    pub(crate) fn new(egress: Egress, root: &Root, plain_http: bool) -> Self {
        Self {
            egress,
            base: root.url.trim_end_matches('/').to_owned(),
            plain_http,
            credentials: root.credentials,
        }
    }

    /// The versions it lists, sorted.
    pub(crate) async fn versions(&self, module: &ModulePath) -> Result<Vec<Version>, DirectError> {
        let body = self.get(module, "@v/list", MAX_LIST_BYTES).await?;
        Ok(list::parse(&body, module).versions)
    }

    /// The newest version: as it says itself, else the newest it lists.
    pub(crate) async fn latest(&self, module: &ModulePath) -> Result<(Info, Bytes), DirectError> {
        match self.info(module, "@latest").await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let versions = self.versions(module).await?;
                match list::latest(versions.iter()) {
                    Some(newest) => self.revision(module, &newest.escaped()).await,
                    None => Err(error),
                }
            }
            told => told,
        }
    }

    /// The version that an escaped query means, and its `.info` as it came.
    pub(crate) async fn revision(
        &self,
        module: &ModulePath,
        escaped: &str,
    ) -> Result<(Info, Bytes), DirectError> {
        let (info, body) = self.info(module, &format!("@v/{escaped}.info")).await?;
        match Version::from_escaped(escaped) {
            Ok(asked) if asked.check_major(module).is_ok() && asked != info.version => {
                Err(self.bad(module, &format!("it answers {} for {asked}", info.version)))
            }
            _ => Ok((info, body)),
        }
    }

    /// The go.mod of a version.
    pub(crate) async fn go_mod(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Bytes, DirectError> {
        let file = format!("@v/{}.mod", version.escaped());
        self.get(module, &file, MAX_GO_MOD_BYTES).await
    }

    /// The zip of a version, still to come: nothing of it is checked.
    pub(crate) async fn zip(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Answer, DirectError> {
        let file = format!("@v/{}.zip", version.escaped());
        let ask = self.ask(module, &file)?;
        let answer = self
            .egress
            .open(ask)
            .await
            .map_err(|error| self.lost(module, error))?;
        let host = answer.url().host_str().unwrap_or("").to_owned();
        self.judge(module, &file, answer.status(), &host, answer.credential())?;
        Ok(answer)
    }

    async fn info(&self, module: &ModulePath, file: &str) -> Result<(Info, Bytes), DirectError> {
        let body = self.get(module, file, info::MAX_BYTES).await?;
        let info =
            Info::parse(&body, module).map_err(|error| self.bad(module, &error.to_string()))?;
        Ok((info, body))
    }

    async fn get(&self, module: &ModulePath, file: &str, max: usize) -> Result<Bytes, DirectError> {
        let ask = self.ask(module, file)?;
        let page: Page = self
            .egress
            .get_guarded(ask, max)
            .await
            .map_err(|error| self.lost(module, error))?;
        let host = page.url.host_str().unwrap_or("");
        self.judge(module, file, page.status, host, page.credential.as_deref())?;
        if page.cut {
            return Err(self.bad(module, &format!("its {file} is larger than {max} bytes")));
        }
        Ok(page.body)
    }

    fn ask(&self, module: &ModulePath, file: &str) -> Result<Ask, DirectError> {
        let url = format!("{}/{}/{file}", self.base, module.escaped());
        Ok(Ask {
            url: url
                .parse()
                .map_err(|_| self.bad(module, "its address makes no URL"))?,
            timeout: WITHIN,
            plain_http: self.plain_http,
            credentials: self.credentials,
        })
    }

    /// Whether a status is that of the file.
    fn judge(
        &self,
        module: &ModulePath,
        file: &str,
        status: u16,
        host: &str,
        credential: Option<&str>,
    ) -> Result<(), DirectError> {
        if let Some(refusal) = refused_with(status, host, credential) {
            return Err(DirectError {
                text: format!("{module}: {}", refusal.text),
                ..refusal
            });
        }
        let (kind, text) = match status {
            200 => return Ok(()),
            404 | 410 => (
                ErrorKind::NotFound,
                format!("{module}: {host} answered {status} for {file}"),
            ),
            _ => (
                ErrorKind::Unavailable,
                format!("{module}: {host} answered {status}"),
            ),
        };
        Err(DirectError {
            kind,
            text,
            hint: None,
        })
    }

    fn lost(&self, module: &ModulePath, error: egress::EgressError) -> DirectError {
        from_egress(&format!("{module}: the module proxy {}", self.base), error)
    }

    fn bad(&self, module: &ModulePath, why: &str) -> DirectError {
        DirectError {
            kind: ErrorKind::Unavailable,
            text: format!("{module}: the module proxy {}: {why}", self.base),
            hint: None,
        }
    }
}
