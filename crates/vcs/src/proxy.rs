//! `mod` roots: modules that a go-import page says are to be had from a module proxy (protocol.md 8.1, number 3).
//!
//! The proxy is a stranger's, so it is asked by the guarded client. What it says is passed on as it came: whoever
//! receives it checks it like the answer of any upstream.

use std::time::Duration;

use bytes::Bytes;
use egress::{Answer, Ask, Egress, Page};
use gomod::info::Info;
use gomod::list::ParsedList;
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
        Ok(self.list(module).await?.versions)
    }

    async fn list(&self, module: &ModulePath) -> Result<ParsedList, DirectError> {
        let body = self.get(module, "@v/list", MAX_LIST_BYTES).await?;
        Ok(list::parse(&body, module))
    }

    /// The newest version: as it says itself, else the newest it lists, tagged or else not (protocol.md 1.2).
    pub(crate) async fn latest(&self, module: &ModulePath) -> Result<(Info, Bytes), DirectError> {
        match self.info(module, "@latest").await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let listed = self.list(module).await?;
                match list::latest(listed.versions.iter()).or(listed.pseudo.last()) {
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
        Self::judge(module, &file, answer.status(), &host, answer.credential())?;
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
        Self::judge(module, file, page.status, host, page.credential.as_deref())?;
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

#[cfg(test)]
mod tests {
    use egress::{Credentials, NetworkSettings};

    use super::*;
    use crate::discover::Kind;
    use crate::discover::tests::web::Web;

    fn show<T: std::fmt::Debug>(got: Result<T, DirectError>) -> String {
        match got {
            Ok(got) => format!("{got:?}"),
            Err(error) => format!("{:?}: {}", error.kind, error.text),
        }
    }

    #[tokio::test]
    async fn a_root_that_is_a_module_proxy() {
        let web = Web::start(|url| {
            let newest = "v0.0.0-20240501120000-bbbbbbbbbbbb";
            if let Some(file) = url.strip_prefix("https://p.example/untagged/a.example/!m/@v/") {
                return match file.strip_suffix(".info") {
                    Some(name) if name == newest => Some(format!(r#"{{"Version":"{newest}"}}"#)),
                    _ if file == "list" => {
                        Some(format!("{newest}\nv0.0.0-20230501120000-aaaaaaaaaaaa\n"))
                    }
                    _ => None,
                };
            }
            let file = url.strip_prefix("https://p.example/base/a.example/!m/@")?;
            Some(match file {
                "v/list" => "v1.0.0\nv1.2.0\nv1.3.0-pre\njunk\n".to_owned(),
                "v/v1.2.0.info" => r#"{"Version":"v1.2.0"}"#.to_owned(),
                "v/v1.0.0.info" => r#"{"Version":"v1.0.1"}"#.to_owned(),
                "v/main.info" => r#"{"Version":"v1.2.0","Time":"2024-05-01T12:00:00Z"}"#.to_owned(),
                "v/bad.info" => "<html>log in".to_owned(),
                "v/v1.2.0.mod" => "module a.example/M\n".to_owned(),
                "v/v1.2.0.zip" => "zip of it".to_owned(),
                "v/v1.0.0.zip" => "403 ".to_owned(),
                "v/v1.3.0-pre.zip" => "500 ".to_owned(),
                _ => return None,
            })
        })
        .await;
        let egress = web.egress(NetworkSettings::default(), Credentials::default());
        let root = Root {
            prefix: "a.example/M".to_owned(),
            vcs: Kind::Mod,
            url: "https://p.example/base/".to_owned(),
            subdir: String::new(),
            credentials: false,
        };
        let proxy = ModProxy::new(egress, &root, false);
        let module = ModulePath::parse("a.example/M").unwrap();
        let version = |text: &str| Version::parse(text).unwrap();
        let list = proxy.versions(&module).await.unwrap();
        assert_eq!(list, ["v1.0.0", "v1.2.0", "v1.3.0-pre"].map(version));
        // There is no @latest: the newest of the list is asked for.
        assert_eq!(
            proxy.latest(&module).await.unwrap().0.version,
            version("v1.2.0")
        );
        let (info, _) = proxy.revision(&module, "main").await.unwrap();
        assert!(info.version == version("v1.2.0") && info.time.is_some());
        let at = "a.example/M: the module proxy https://p.example/base";
        for (query, want) in [
            (
                "v1.0.0",
                format!("Unavailable: {at}: it answers v1.0.1 for v1.0.0"),
            ),
            (
                "gone",
                "NotFound: a.example/M: p.example answered 404 for @v/gone.info".to_owned(),
            ),
        ] {
            assert_eq!(show(proxy.revision(&module, query).await), want);
        }
        // Without any tag the newest of what it lists is the latest.
        let untagged = ModProxy {
            base: "https://p.example/untagged".to_owned(),
            ..proxy.clone()
        };
        let newest = "v0.0.0-20240501120000-bbbbbbbbbbbb";
        assert_eq!(untagged.versions(&module).await.unwrap(), []);
        let (info, _) = untagged.latest(&module).await.unwrap();
        assert_eq!(info.version, version(newest));
        let login = show(proxy.revision(&module, "bad").await);
        assert!(
            login.starts_with("Unavailable") && login.contains("HTML"),
            "{login}"
        );
        assert_eq!(
            &proxy.go_mod(&module, &version("v1.2.0")).await.unwrap()[..],
            b"module a.example/M\n"
        );
        let mut zip = proxy.zip(&module, &version("v1.2.0")).await.unwrap();
        assert_eq!(zip.length(), Some(9));
        assert_eq!(&zip.next_chunk().await.unwrap().unwrap()[..], b"zip of it");
        for (of, want) in [
            (
                "v1.0.0",
                "Unauthorized: a.example/M: p.example answered 403 without a credential",
            ),
            (
                "v1.3.0-pre",
                "Unavailable: a.example/M: p.example answered 500",
            ),
            (
                "v9.0.0",
                "NotFound: a.example/M: p.example answered 404 for @v/v9.0.0.zip",
            ),
        ] {
            assert_eq!(show(proxy.zip(&module, &version(of)).await), want);
        }
    }
}
