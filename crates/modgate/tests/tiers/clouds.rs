//! Google Cloud Storage and Azure Blob Storage through the front door.

use testkit::{
    gate::{Modgate, Options},
    lab::Lab,
    services::{Cloud, Interface},
};

use crate::{
    MEMORY, all_right,
    common::{self, eventually, module},
    large,
};

/// Replicas without a disk, with records of their own.
fn config(cloud: &Cloud) -> String {
    let table = match cloud.interface() {
        Interface::Google => "tier = \"gcs\"\n".to_owned(),
        Interface::Azure => format!("tier = \"azure\"\naccess_key = \"{}\"\n", Cloud::BUCKET),
    };
    format!(
        "{MEMORY}[[storage]]\n{table}bucket = \"{}\"\nprefix = \"go-modules\"\nendpoint = \"{}\"\n\
         secret_key = {{ env = \"CLOUD_KEY\" }}\n[replicas]\ncoordinate = \"storage\"\n",
        Cloud::BUCKET,
        cloud.endpoint()
    )
}

async fn gate(cloud: &Cloud, upstream: String) -> (Modgate, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        upstream: Some(upstream),
        sumdb: Some("off".to_owned()),
        config: Some(config(cloud)),
        data: Some(folder.path().to_owned()),
        env: vec![("CLOUD_KEY".to_owned(), cloud.secret_key().to_owned())],
        ..Options::default()
    };
    (Modgate::start(common::bin(), options).await, folder)
}

async fn shared_by_replicas(interface: Interface) {
    let cloud = Cloud::start(interface).await;
    let lab = Lab::start().await;
    let modules = [module("small"), large("large")];
    for module in &modules {
        lab.add(module.clone());
    }
    let (one, folder) = gate(&cloud, lab.url()).await;
    for module in &modules {
        all_right(&one, module).await;
    }
    // The other one has nobody to ask but the bucket.
    let (other, _folder) = gate(&cloud, "off".to_owned()).await;
    for module in &modules {
        all_right(&other, module).await;
    }

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, config(&cloud)).unwrap();
    let mut retire = common::command();
    retire
        .args(["retire", "lab.example/small@v1.0.0", "--reason", "leaks"])
        .arg("--config")
        .arg(file.path())
        .arg("--data")
        .arg(folder.path())
        .env("CLOUD_KEY", cloud.secret_key());
    let done = retire.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let path = modules[0].url_path("mod");
    for replica in [&one, &other] {
        eventually("it is retired on both", async || {
            replica.get(&path).await.status == 410
        })
        .await;
    }

    // That is no reason to say that there is no such version.
    let (fresh, _folder) = gate(&cloud, "off".to_owned()).await;
    cloud.remove_bucket();
    let reply = fresh.get(&modules[1].url_path("zip")).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
}

#[tokio::test]
async fn replicas_share_a_bucket_of_google() {
    shared_by_replicas(Interface::Google).await;
}

#[tokio::test]
async fn replicas_share_a_container_of_azure() {
    shared_by_replicas(Interface::Azure).await;
}
