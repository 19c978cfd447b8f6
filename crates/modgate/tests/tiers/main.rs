//! Storage tiers and replicas, through the front door, over real Redis, PostgreSQL and object storage.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod balanced;
mod clouds;
#[path = "../front_door/common.rs"]
#[expect(dead_code, reason = "what the front door's tests need more of")]
mod common;
mod faults;
mod matrix;
mod reads;
mod records_away;
mod removals;
mod replicas;
mod retired;
mod told;

use std::{path::PathBuf, time::Duration};

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options, Reply},
    lab::Lab,
    services::{Redis, S3},
};

/// The table of a bucket.
pub(crate) fn s3(s3: &S3, more: &str) -> String {
    format!(
        "[[storage]]\ntier = \"s3\"\nbucket = \"modgate\"\nprefix = \"go-modules\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
         access_key = {{ env = \"S3_KEY\" }}\nsecret_key = {{ env = \"S3_SECRET\" }}\ntimeout = \"1s\"\n{more}\n",
        s3.endpoint()
    )
}

/// The table of a Redis.
pub(crate) fn redis(redis: &Redis) -> String {
    format!("[[storage]]\ntier = \"redis\"\nurl = \"{}\"\n", redis.url())
}

pub(crate) const MEMORY: &str = "[[storage]]\ntier = \"memory\"\n";
pub(crate) const DISK: &str = "[[storage]]\ntier = \"disk\"\n";

/// A gateway over such storage, without a checksum database.
pub(crate) async fn gate(lab: &Lab, bucket: &S3, config: &str, data: Option<PathBuf>) -> Modgate {
    gate_with(lab, bucket, config, "off", data).await
}

/// The same with a checksum database.
pub(crate) async fn gate_with(
    lab: &Lab,
    bucket: &S3,
    config: &str,
    sumdb: &str,
    data: Option<PathBuf>,
) -> Modgate {
    start(lab, bucket, config, sumdb, data, Vec::new()).await
}

/// The same with more variables.
pub(crate) async fn gate_of(
    lab: &Lab,
    bucket: &S3,
    config: &str,
    env: Vec<(String, String)>,
) -> Modgate {
    start(lab, bucket, config, "off", None, env).await
}

async fn start(
    lab: &Lab,
    bucket: &S3,
    config: &str,
    sumdb: &str,
    data: Option<PathBuf>,
    mut env: Vec<(String, String)>,
) -> Modgate {
    let secret = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    env.extend([
        secret("S3_KEY", bucket.access_key()),
        secret("S3_SECRET", bucket.secret_key()),
    ]);
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.to_owned()),
        config: Some(config.to_owned()),
        data,
        env,
        ..Options::default()
    };
    Modgate::start(common::bin(), options).await
}

/// Where an artifact lies in the bucket.
pub(crate) fn in_bucket(bucket: &S3, module: &Module, ending: &str) -> PathBuf {
    let path = module.url_path(ending);
    bucket
        .bucket_dir()
        .join("go-modules/go")
        .join(path.trim_start_matches('/'))
}

/// A module whose zip is streamed: of several MiB.
pub(crate) fn large(name: &str) -> Module {
    fixture::big(&format!("lab.example/{name}"), "v1.0.0", 12)
}

/// All three files of a version, and that they are right.
pub(crate) async fn all_right(gate: &Modgate, module: &Module) {
    for (ending, want) in [("mod", module.mod_file()), ("zip", module.zip())] {
        let reply = gate.get(&module.url_path(ending)).await;
        assert_eq!(reply.status, 200, "{ending}: {}", reply.text());
        assert!(reply.body == want, "{ending}: other bytes");
    }
    let info = gate.get(&module.url_path("info")).await;
    assert_eq!(info.status, 200, "{}", info.text());
}

/// An answer without waiting for ever for one.
pub(crate) async fn soon(gate: &Modgate, path: &str) -> Reply {
    tokio::time::timeout(Duration::from_secs(20), gate.get(path))
        .await
        .unwrap()
}
