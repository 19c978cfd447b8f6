use super::*;

const MOD: &str = "go/lab.example/m/@v/v1.0.0.mod";

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

fn make(path: &Path, files: &[(&str, &[u8])]) -> Manifest {
    let mut writer = Writer::create(path).unwrap();
    for (name, mut content) in files.iter().copied() {
        let size = content.len() as u64;
        let h1 = gomod::h1::hash_go_mod(content).to_string();
        let is_mod = std::path::Path::new(name).extension() == Some("mod".as_ref());
        let h1 = is_mod.then_some(h1);
        writer
            .add(&key(name), size, &mut content, h1, false)
            .unwrap();
    }
    let sumdb = Database {
        name: "sum.example".to_owned(),
        tree_size: 5,
        continues: vec![3],
    };
    writer
        .finish("2026-11-26T00:00:00Z".to_owned(), Some(sumdb))
        .unwrap()
}

#[test]
fn what_a_killed_command_left_goes_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let long_ago = std::time::SystemTime::now() - UNLOCKED * 2;
    let left = folder.path().join(".modgate-bundle-left");
    let other = folder.path().join("modgate-bundle.old");
    for path in [&left, &other] {
        let file = File::create(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let running = Writer::create(&folder.path().join("running")).unwrap();
    let unfinished = running.out.get_ref().path().to_owned();
    running
        .out
        .get_ref()
        .as_file()
        .set_modified(long_ago)
        .unwrap();

    make(&folder.path().join("bundle"), &[(MOD, b"module m")]);
    assert!(!left.exists());
    assert!(other.exists() && unfinished.exists());
}

fn opened(path: &Path) -> Result<Bundle, String> {
    let bundle = Bundle::open(path).map_err(|error| error.to_string())?;
    bundle.verify(&|_| {}).map_err(|error| error.to_string())?;
    Ok(bundle)
}

/// Writes an archive by hand, as somebody who means harm would.
fn forge(path: &Path, files: &[(&str, &[u8])], manifest: &serde_json::Value) {
    let mut out = Vec::new();
    let json = serde_json::to_vec(manifest).unwrap();
    for (name, content) in files.iter().copied().chain([(MANIFEST, json.as_slice())]) {
        tar::head(&mut out, name, content.len() as u64).unwrap();
        out.extend_from_slice(content);
        tar::pad(&mut out, content.len() as u64).unwrap();
    }
    tar::end(&mut out).unwrap();
    std::fs::write(path, out).unwrap();
}

#[test]
fn a_bundle_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar");
    let files: [(&str, &[u8]); 3] = [
        (MOD, b"module lab.example/m\n"),
        ("go/sumdb/sum.example/latest", b"a head"),
        ("go/sumdb/sum.example/tile/8/0/000.p/5", &[7; 160]),
    ];
    let manifest = make(&path, &files);
    let bundle = opened(&path).unwrap();
    assert_eq!(*bundle.manifest(), manifest);
    assert_eq!(bundle.database_file("latest").unwrap().unwrap(), b"a head");
    assert_eq!(bundle.database_file("lookup/x").unwrap(), None);
    let (file, at) = bundle.place(&manifest.files[0]).unwrap();
    let mut bytes = [0; 21];
    file.read_exact_at(&mut bytes, at).unwrap();
    assert_eq!(&bytes, files[0].1);
    // Nothing else is left in the folder, and a second one takes the place of the first.
    make(&path, &files[..1]);
    assert_eq!(opened(&path).unwrap().manifest().files.len(), 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn altered_bytes_are_found_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar");
    let content = b"module lab.example/m\n".repeat(50);
    let sha256 = hex::encode(Sha256::digest(&content));
    make(&path, &[(MOD, &content)]);
    let good = std::fs::read(&path).unwrap();
    let manifest = good.iter().position(|byte| *byte == b'{').unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        // What fills up the last block of a file is no part of anything. Of the manifest nothing but what it says of the
        // files is believed; hashes and the database are compared with what the importer knows.
        if let Ok(bundle) = opened(&path) {
            let file = &bundle.manifest().files[0];
            assert_eq!(
                (&*file.name, file.size),
                (MOD, content.len() as u64),
                "{at}"
            );
            assert_eq!(file.sha256, sha256, "{at}");
            assert!(good[at] == 0 || at > manifest, "{at}");
        }
    }
    for cut in [0, 1, 600, good.len() - 1024, good.len() / 2] {
        std::fs::write(&path, &good[..cut]).unwrap();
        assert!(opened(&path).is_err(), "{cut}");
    }
}

#[test]
fn names_that_lead_elsewhere_and_other_forms_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar");
    let sha256 = hex::encode(Sha256::digest(b"x"));
    let h1 = gomod::h1::hash_go_mod(b"x").to_string();
    let manifest = |form: u32, names: &[&str]| {
        let files: Vec<_> = names
            .iter()
            .map(|name| serde_json::json!({"name": name, "size": 1, "sha256": sha256, "h1": h1}))
            .collect();
        let sumdb = serde_json::json!({"name": "sum.example", "tree_size": 1, "continues": []});
        serde_json::json!({"form": form, "made_at": "", "sumdb": sumdb, "files": files})
    };
    forge(&path, &[(MOD, b"x")], &manifest(1, &[MOD]));
    assert!(opened(&path).is_ok());
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "go/../x",
        "go/lab.example/m/@v/../../../../x.mod",
        "go/lab.example/m/@v/.mod",
        "go/lab.example/m/@v/list",
        "go/lab.example/M/@v/v1.0.0.mod",
        "go/lab.example/m/@v/v2.0.0.mod",
        "go/lab.example/m/@v/v1.0.0.ziphash",
        "go/sumdb/other.example/latest",
        "go/sumdb/sum.example/fork",
        "records.db",
        "sumdb/sum.example/latest",
        "fresh/lab.example/m/@v/list",
    ] {
        forge(&path, &[(name, b"x")], &manifest(1, &[name]));
        let why = opened(&path).unwrap_err();
        assert!(why.starts_with("the bundle is refused"), "{name}: {why}");
    }
    let mut unhashed = manifest(1, &[MOD]);
    unhashed["files"][0]["h1"] = "h1:x".into();
    forge(&path, &[(MOD, b"x")], &unhashed);
    assert!(opened(&path).unwrap_err().contains("h1"));
    forge(&path, &[(MOD, b"x")], &manifest(2, &[MOD]));
    assert!(opened(&path).unwrap_err().contains("form 2"));
    forge(&path, &[(MOD, b"x"), (MOD, b"x")], &manifest(1, &[MOD]));
    assert!(opened(&path).unwrap_err().contains("twice"));
    forge(&path, &[(MOD, b"x")], &manifest(1, &[MOD, MOD]));
    assert!(opened(&path).unwrap_err().contains("twice"));
    forge(&path, &[], &manifest(1, &[MOD]));
    assert!(opened(&path).unwrap_err().contains("not there"));
    forge(&path, &[(MOD, b"xy")], &manifest(1, &[MOD]));
    assert!(opened(&path).unwrap_err().contains("length"));
    forge(&path, &[(MOD, b"y")], &manifest(1, &[MOD]));
    assert!(opened(&path).unwrap_err().contains("altered"));
    std::fs::write(&path, "no archive").unwrap();
    assert!(opened(&path).is_err());
}
