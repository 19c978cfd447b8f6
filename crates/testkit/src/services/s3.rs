//! Object storage that speaks S3.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::INSTALL;
use super::process::{Ready, Recipe, Service, find, text};

const PROGRAM: &str = "versitygw";

const ACCESS_KEY: &str = "testkey";
const SECRET_KEY: &str = "testsecret";

/// An S3 server with one empty bucket, which is a folder. It is killed when it is dropped.
#[derive(Debug)]
pub struct S3 {
    service: Service,
    bucket: PathBuf,
    _folder: TempDir,
}

impl S3 {
    /// The name of the bucket.
    pub const BUCKET: &str = "modgate";

    /// The region it says it is in.
    pub const REGION: &str = "us-east-1";

    /// Starts an empty one and waits until it is ready.
    ///
    /// # Panics
    /// If there is no `versitygw` in `$MODGATE_TEST_BIN`, `target/test-tools` or on the PATH, or it does not start.
    pub async fn start() -> S3 {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let objects = folder.path().join("objects");
        S3::run(&objects, folder).await
    }

    /// Starts one whose objects lie in this folder, such as one on a small disk, and waits until it is ready.
    ///
    /// # Panics
    /// As [`start`](S3::start).
    pub async fn start_in(objects: &Path) -> S3 {
        let folder = TempDir::new().expect("a temporary folder can be made");
        S3::run(objects, folder).await
    }

    async fn run(objects: &Path, folder: TempDir) -> S3 {
        let bucket = objects.join(S3::BUCKET);
        let attributes = folder.path().join("attributes");
        for made in [&bucket, &attributes] {
            std::fs::create_dir_all(made).expect("a folder can be made");
        }
        let program = text(&program());
        let (objects, attributes) = (text(objects), text(&attributes));
        let recipe = Recipe {
            name: PROGRAM,
            command: Box::new(move |port| {
                let listen = format!("127.0.0.1:{port}");
                [
                    program.as_str(),
                    "--port",
                    &listen,
                    "--region",
                    S3::REGION,
                    "--quiet",
                    "posix",
                    "--sidecar",
                    &attributes,
                    &objects,
                ]
                .map(str::to_owned)
                .to_vec()
            }),
            env: vec![
                ("ROOT_ACCESS_KEY", ACCESS_KEY.to_owned()),
                ("ROOT_SECRET_KEY", SECRET_KEY.to_owned()),
            ],
            ready: Ready::Accepts,
        };
        S3 {
            service: Service::start(recipe).await,
            bucket,
            _folder: folder,
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The key's public half.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The key's secret half.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The bucket's folder: an object is a file with its key as path, and its content may be read and altered there.
    /// What is said of an object beside its content lies elsewhere.
    pub fn bucket_dir(&self) -> &Path {
        &self.bucket
    }
}

service_methods!(S3);

fn program() -> PathBuf {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("MODGATE_TEST_BIN").map(PathBuf::from));
    folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools"));
    let program = find(PROGRAM, &folders);
    program.unwrap_or_else(|| panic!("{PROGRAM} is missing: {INSTALL}"))
}
