//! What others do to the data folder while it is in use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, sync::Arc};

use bytes::Bytes;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use store::{Committed, Folder, Key, Store, StoreSettings};

fn open(folder: &tempfile::TempDir) -> Arc<Store> {
    let settings = StoreSettings {
        folder: folder.path().to_owned(),
        hot_bytes: 1 << 20,
        hot_ttl: None,
    };
    Arc::new(Store::open(&settings).unwrap())
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

#[tokio::test]
async fn a_folder_that_somebody_tidied_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    fs::remove_dir_all(folder.path().join("tmp")).unwrap();
    let put = store.put_small(&key("go/a"), &Bytes::from_static(b"x"));
    assert_eq!(put.unwrap(), Committed::New);
    fs::remove_dir_all(folder.path().join("tmp")).unwrap();
    store.spool(Some(10)).await.unwrap();
    assert!(store.get(&key("go/a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_folder_that_is_another_one_meanwhile_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.probe().await.unwrap();
    // As something that is mounted over it only later.
    let aside = folder.path().with_extension("aside");
    fs::rename(folder.path(), &aside).unwrap();
    fs::create_dir(folder.path()).unwrap();
    let other = open(&folder);
    other.probe().await.unwrap();
    let error = store.probe().await.unwrap_err().to_string();
    assert!(error.contains("start it again"), "{error}");
    // Or emptied.
    fs::remove_file(folder.path().join("lock")).unwrap();
    other.probe().await.unwrap_err();
    fs::remove_dir_all(folder.path()).unwrap();
    fs::rename(&aside, folder.path()).unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_pipe_is_no_file_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    fs::create_dir(folder.path().join("go")).unwrap();
    let pipe = folder.path().join("go/pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(store.at_hand("go/pipe".to_owned()).is_none());
    assert!(store.get(&key("go/pipe")).await.unwrap().is_none());
    // Nor by those who work beside the owner.
    let beside = Folder::new(folder.path());
    let error = beside.open(&key("go/pipe")).unwrap_err().to_string();
    assert!(error.contains("go/pipe is a folder, a pipe"), "{error}");
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_file_is_no_copy_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    fs::create_dir_all(folder.path().join("go/folder")).unwrap();
    let nowhere = folder.path().join("nowhere");
    std::os::unix::fs::symlink(&nowhere, folder.path().join("go/link")).unwrap();
    let body = Bytes::from_static(b"x");
    for name in ["go/folder", "go/link"] {
        let error = store.put_small(&key(name), &body).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("remove it"),
            "{error}"
        );
    }
    // Kept elsewhere, by somebody's choice.
    fs::write(&nowhere, "x").unwrap();
    let put = store.put_small(&key("go/link"), &body);
    assert_eq!(put.unwrap(), Committed::Present);
}
