//! What the programs of Subversion, Fossil and Bazaar have in common.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gomod::zip::Kind;
use percent_encoding::percent_decode_str;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use zip::ZipArchive;

use crate::git::NOT_TRUSTED;
use crate::git::mirror::blocking;
use crate::orphans::run;
use crate::process::Exit;
use crate::reach::Way;
use crate::repository::Trouble;
use crate::words::bare;
use crate::zip::{Content, Entry, Files, outgrown};
use crate::{DirectError, ErrorKind, ssh};

/// Words of programs in trouble, and what they mean. The first that are found count; none: the network or the server.
/// Names are taken out of the text before, and what is said by others in other words (`ssh: not found`) is no absence.
const MEANINGS: &[(&str, ErrorKind)] = &[
    ("authorization failed", ErrorKind::Unauthorized),
    ("authentication failed", ErrorKind::Unauthorized),
    ("no more credentials", ErrorKind::Unauthorized),
    ("http error 401", ErrorKind::Unauthorized),
    // Of the relay, which says why.
    ("http error 403: forbidden: ", ErrorKind::Refused),
    ("http error 403", ErrorKind::Unauthorized),
    ("e170001:", ErrorKind::Unauthorized),
    ("e175013:", ErrorKind::Unauthorized),
    ("permission denied (", ErrorKind::Unauthorized),
    ("host key verification failed", ErrorKind::Unavailable),
    // Of Mercurial; the last two are what it says by ssh.
    ("abort: http error 404", ErrorKind::NotFound),
    ("abort: http error 410", ErrorKind::NotFound),
    (
        "does not appear to be an hg repository",
        ErrorKind::NotFound,
    ),
    (
        "abort: there is no mercurial repository here",
        ErrorKind::NotFound,
    ),
    ("(.hg not found)", ErrorKind::NotFound),
    // Of Subversion: no such path, no such revision, no repository there, no such URL.
    ("e160013:", ErrorKind::NotFound),
    ("e160006:", ErrorKind::NotFound),
    ("e210005:", ErrorKind::NotFound),
    ("e170000:", ErrorKind::NotFound),
    // Of Breezy.
    ("error: not a branch:", ErrorKind::NotFound),
    ("no space left on device", ErrorKind::DiskFull),
    ("disk quota exceeded", ErrorKind::DiskFull),
    ("timed out", ErrorKind::Timeout),
];

/// Words about certificates that are not trusted, of Subversion and of Python.
const UNTRUSTED: [&str; 2] = ["issuer is not trusted", "certificate verify failed"];

/// What Subversion says of a certificate that has no name of its server, and what that often is.
const OTHER_NAME: &str = "certificate issued for a different hostname";
const NAMES_ALONE: &str = "svn finds names in certificates, and no IP addresses: give the repository's address with a name that \
     the certificate has";
/// What it says of one that is trusted and not fit.
const UNFIT: &str = "and other reason(s)";
const PURPOSE: &str = "the certificate is not one for servers, or its authority's not one for signing: look at their extendedKeyUsage, \
     keyUsage and basicConstraints with openssl x509 -text";

/// What a failure that may be the network's means. The exit code is the same for all, so the words are read.
pub(crate) fn failed(what: &str, way: &Way, exit: &Exit) -> DirectError {
    let lines = bare(&exit.stderr);
    let says = |words: &str| lines.iter().any(|line| line.contains(words));
    // `abort: repository NAME not found!`, which has the name without quotes.
    let missing = |line: &String| {
        let line = line.strip_prefix("remote: ").unwrap_or(line);
        line.starts_with("abort: repository ") && line.trim_end_matches('!').ends_with(" not found")
    };
    let meaning = MEANINGS.iter().find(|(words, _)| says(words));
    let kind = match meaning {
        Some((_, kind)) => *kind,
        None if lines.iter().any(missing) => ErrorKind::NotFound,
        None => ErrorKind::Unavailable,
    };
    let error = DirectError::new(kind, format!("{what}: {}", exit.said()));
    if let Some(hint) = ssh::hint(way, &exit.stderr) {
        return error.hint(hint);
    }
    match kind {
        ErrorKind::Unauthorized => error.hint(way.advice()),
        ErrorKind::Unavailable if UNTRUSTED.iter().any(|words| says(words)) => {
            error.hint(NOT_TRUSTED)
        }
        ErrorKind::Unavailable if says(OTHER_NAME) => error.hint(NAMES_ALONE),
        ErrorKind::Unavailable if says(UNFIT) => error.hint(PURPOSE),
        _ => error,
    }
}

/// Refuses a credential that a program cannot be given, rather than to ask without it: the answer would be another one.
pub(crate) fn usable(program: &str, way: &Way, certificates: bool) -> Result<(), DirectError> {
    let header = way
        .config
        .iter()
        .any(|(key, _)| key.ends_with(".extraHeader"));
    let kind = if header && way.login.is_none() {
        "a token or header"
    } else if way.setting("http.sslCert").is_some() && !certificates {
        "a client certificate"
    } else {
        return Ok(());
    };
    let used = way.credential.as_deref().unwrap_or("the credential");
    let text = format!(
        "{}: {used} is {kind}, which {program} cannot be given",
        way.url
    );
    Err(DirectError::new(ErrorKind::Refused, text)
        .hint("give it a [[credential]] with username and password for this address"))
}

/// An http proxy, for programs that are told its parts.
#[derive(Debug)]
pub(crate) struct HttpProxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password, as they are.
    pub(crate) login: Option<(String, String)>,
}

/// The proxy on the way, which must be one that `program` can use.
pub(crate) fn http_proxy(program: &str, way: &Way) -> Result<Option<HttpProxy>, DirectError> {
    let Some(proxy) = way.setting("http.proxy").filter(|proxy| !proxy.is_empty()) else {
        return Ok(None);
    };
    let url = reqwest::Url::parse(proxy).ok();
    let url = url.filter(|url| url.scheme() == "http").ok_or_else(|| {
        let text = format!("{}: {program} can use http proxies alone", way.url);
        DirectError::new(ErrorKind::Refused, text)
            .hint("set an http proxy for these hosts, or list them in network.no_proxy")
    })?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Ok(Some(HttpProxy {
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default().unwrap_or(80),
        login: url
            .password()
            .map(|password| (decoded(url.username()), decoded(password))),
    }))
}

/// How the names of temporary folders begin.
const SCRATCH: &str = "scratch-";

/// Whether this is the name of a temporary folder: one of this process (`ours`), or of an earlier one.
pub(crate) fn is_scratch(name: &str, ours: bool) -> bool {
    name.strip_prefix(SCRATCH)
        .is_some_and(|rest| rest.starts_with(run()) == ours)
}

/// A folder of our own that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `folder`, for nobody else to read.
    pub(crate) fn new(folder: &Path) -> Result<Self, DirectError> {
        let mut random = [0; 8];
        let mut make = || -> io::Result<PathBuf> {
            getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
            let path = folder.join(format!("{SCRATCH}{}-{}", run(), hex::encode(random)));
            fs::create_dir_all(folder)?;
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            Ok(path)
        };
        make()
            .map(Self)
            .map_err(|error| DirectError::disk("a temporary folder", &error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that may hold secrets.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), DirectError> {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        file.open(self.0.join(name))
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|error| DirectError::disk("a temporary file", &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Exported files that are read one after the other.
#[derive(Debug)]
pub(crate) struct Exported {
    folder: PathBuf,
    /// The files by their names in the repository; without it they have these names.
    numbers: Option<HashMap<Vec<u8>, usize>>,
    file: Option<File>,
    _scratch: Scratch,
}

impl Exported {
    /// The files in `folder`, which is in `scratch`.
    pub(crate) fn new(folder: PathBuf, scratch: Scratch) -> Self {
        Self {
            folder,
            numbers: None,
            file: None,
            _scratch: scratch,
        }
    }

    /// Goes to a file; its size.
    pub(crate) async fn next(&mut self, name: &[u8]) -> Result<u64, Trouble> {
        let fault = |error: io::Error| DirectError::disk("an exported file", &error);
        let number = self.numbers.as_ref().and_then(|all| all.get(name));
        let name = match number {
            Some(number) => number.to_string(),
            None => String::from_utf8_lossy(name).into_owned(),
        };
        let file = File::open(self.folder.join(name)).await.map_err(fault)?;
        let size = file.metadata().await.map_err(fault)?.len();
        self.file = Some(file);
        Ok(size)
    }

    /// More of its content; nothing at the end.
    pub(crate) async fn block(&mut self, block: &mut [u8]) -> Result<usize, Trouble> {
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        let read = file.read(block).await;
        Ok(read.map_err(|error| DirectError::disk("an exported file", &error))?)
    }
}

/// The files below `prefix` in a zip that a program wrote into `scratch`, of at most `max` bytes. They are unpacked under
/// numbers: names are a stranger's.
pub(crate) async fn unpacked(
    scratch: Scratch,
    zip: &str,
    prefix: &str,
    max: u64,
) -> Result<Files, DirectError> {
    let (file, folder) = (scratch.path().join(zip), scratch.path().join("files"));
    let (prefix, into) = (prefix.as_bytes().to_owned(), folder.clone());
    let unpack = move || -> io::Result<Result<(Vec<Entry>, HashMap<_, _>), DirectError>> {
        let mut zip = ZipArchive::new(io::BufReader::new(fs::File::open(file)?))?;
        fs::create_dir(&into)?;
        let (mut entries, mut numbers) = (Vec::new(), HashMap::new());
        let mut room = max;
        for number in 0..zip.len() {
            let entry = zip.by_index(number)?;
            let Some(name) = entry.name_raw().strip_prefix(&*prefix) else {
                continue;
            };
            let (name, size) = (name.to_owned(), entry.size());
            if entry.is_dir() || name.is_empty() {
                continue;
            }
            let Some(left) = room.checked_sub(size) else {
                return Ok(Err(outgrown("the files together are too large", max)));
            };
            room = left;
            let kind = if entry.is_symlink() {
                Kind::Symlink
            } else {
                Kind::Regular
            };
            if kind == Kind::Regular {
                let mut file = fs::File::create_new(into.join(number.to_string()))?;
                let written = io::copy(&mut entry.take(size + 1), &mut file)?;
                if written != size {
                    return Err(io::Error::other("a file is larger than it says"));
                }
            }
            numbers.insert(name.clone(), number);
            entries.push(Entry { name, kind, size });
        }
        Ok(Ok((entries, numbers)))
    };
    let (entries, numbers) = blocking(unpack).await??;
    Ok(Files {
        entries,
        content: Content::Exported(Box::new(Exported {
            folder,
            numbers: Some(numbers),
            file: None,
            _scratch: scratch,
        })),
        mirror: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_cannot_do_is_refused() {
        let with = |key: &str, value: &str| Way {
            url: "https://a.com/m".to_owned(),
            config: vec![(key.to_owned(), value.to_owned())],
            ..Way::default()
        };
        let kind = |error: DirectError| error.kind;
        let header = with(
            "http.https://a.com:443/.extraHeader",
            "Authorization: Bearer x",
        );
        let refused = usable("hg", &header, true).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Refused);
        assert!(!refused.text.contains("Bearer"), "{refused}");
        let certificate = with("http.sslCert", "/x");
        assert!(usable("hg", &certificate, true).is_ok());
        assert!(usable("svn", &certificate, false).is_err());
        let proxy = with("http.proxy", "http://u%40x:p%3Aq@proxy.corp:3128/");
        let parts = http_proxy("hg", &proxy).unwrap().unwrap();
        assert_eq!((&*parts.host, parts.port), ("proxy.corp", 3128));
        assert_eq!(parts.login, Some(("u@x".to_owned(), "p:q".to_owned())));
        let socks = with("http.proxy", "socks5://proxy.corp:1080");
        assert_eq!(
            http_proxy("hg", &socks).map_err(kind).err(),
            Some(ErrorKind::Refused)
        );
        assert!(http_proxy("hg", &with("http.proxy", "")).unwrap().is_none());
    }

    #[test]
    fn certificates_of_subversion_have_hints() {
        let way = Way::default();
        let hint = |why: &str| {
            let stderr = format!(
                "svn: E170013: Unable to connect to a repository at URL 'https://10.0.0.1/x'\n\
                 svn: E230001: Server SSL certificate verification failed: {why}"
            );
            let exit = Exit {
                code: Some(1),
                stderr,
                ..Exit::default()
            };
            let error = failed("x", &way, &exit);
            assert_eq!(error.kind, ErrorKind::Unavailable);
            error.hint.unwrap_or_default()
        };
        let not_trusted =
            hint("certificate issued for a different hostname, issuer is not trusted");
        assert_eq!(not_trusted, NOT_TRUSTED);
        let other = hint("certificate issued for a different hostname");
        assert!(other.contains("no IP addresses"), "{other}");
        let unfit = hint("and other reason(s)");
        assert!(unfit.contains("extendedKeyUsage"), "{unfit}");
    }

    #[test]
    fn meanings() {
        let way = Way::default();
        for (stderr, kind) in [
            ("abort: HTTP Error 404: Not Found", ErrorKind::NotFound),
            ("abort: repository /srv/x not found", ErrorKind::NotFound),
            (
                "remote: abort: repository x not found!",
                ErrorKind::NotFound,
            ),
            (
                "svn: E170000: URL 'https://a.com/x' doesn't exist",
                ErrorKind::NotFound,
            ),
            (
                "brz: ERROR: Not a branch: \"https://a.com/x/\".",
                ErrorKind::NotFound,
            ),
            ("abort: authorization failed", ErrorKind::Unauthorized),
            ("abort: HTTP Error 403: Forbidden", ErrorKind::Unauthorized),
            (
                "abort: HTTP Error 403: Forbidden: a.com is a host inside, and was named by one outside",
                ErrorKind::Refused,
            ),
            (
                "abort: HTTP Error 502: Bad Gateway: the forward proxy wants another user or password",
                ErrorKind::Unavailable,
            ),
            ("abort: HTTP Error 503: x", ErrorKind::Unavailable),
            // None of these says anything of what exists.
            ("/bin/sh: 1: ssh: not found", ErrorKind::Unavailable),
            (
                "remote: bash: hg: command not found",
                ErrorKind::Unavailable,
            ),
            (
                "abort: error: Name or service not known 'not found'",
                ErrorKind::Unavailable,
            ),
            (
                "svn: E170013: Unable to connect to a repository at URL 'https://a.com/E160013:/certificate'",
                ErrorKind::Unavailable,
            ),
        ] {
            let exit = Exit {
                code: Some(255),
                stderr: stderr.to_owned(),
                ..Exit::default()
            };
            assert_eq!(failed("x", &way, &exit).kind, kind, "{stderr}");
        }
    }
}
