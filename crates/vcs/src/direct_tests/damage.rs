//! Mirrors that are damaged on disk.

use super::*;

#[tokio::test]
async fn a_damaged_mirror_is_made_anew() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    repo.release("test.example/m", "v1.0.0", T);
    assert_eq!(
        lab.query("test.example/m", "v1.0.0").await.unwrap(),
        "v1.0.0"
    );
    let packs = lab.mirror().join("objects/pack");
    for entry in fs::read_dir(&packs).unwrap() {
        let file = entry.unwrap().path();
        let length = fs::metadata(&file).unwrap().len();
        let mut permissions = fs::metadata(&file).unwrap().permissions();
        #[expect(
            clippy::permissions_set_readonly_false,
            reason = "of a file that goes at once"
        )]
        permissions.set_readonly(false);
        fs::set_permissions(&file, permissions).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let middle = usize::try_from(length / 2).unwrap();
        bytes[middle..].fill(0x55);
        fs::write(&file, bytes).unwrap();
    }
    assert_eq!(
        lab.query("test.example/m", "v1.0.0").await.unwrap(),
        "v1.0.0"
    );
    assert_eq!(
        lab.names("test.example/m", "v1.0.0").await.unwrap(),
        ["go.mod", "x.go"]
    );
    fs::remove_dir_all(lab.mirror().join("objects")).unwrap();
    assert_eq!(
        lab.names("test.example/m", "v1.0.0").await.unwrap(),
        ["go.mod", "x.go"]
    );
    // Locks that a killed git left behind are in nobody's way.
    repo.release("test.example/m", "v1.1.0", T + 60);
    let again = Lab {
        direct: crate::Direct::new(settings(&lab), crate::fixture::no_network()),
        folder: lab.folder,
    };
    fs::write(again.mirror().join("shallow.lock"), "").unwrap();
    fs::write(again.mirror().join("objects/pack/tmp_pack_x"), "x").unwrap();
    assert_eq!(
        again.query("test.example/m", "v1.1.0").await.unwrap(),
        "v1.1.0"
    );
    assert!(!again.mirror().join("objects/pack/tmp_pack_x").exists());
}

#[tokio::test]
async fn a_file_in_the_place_of_a_folder_is_damage_and_the_other_way_round() {
    for part in [
        "HEAD",
        "config",
        "packed-refs",
        "shallow",
        "complete",
        "info/attributes",
        "objects",
        "objects/pack",
        "refs",
        "refs/kept",
    ] {
        let lab = Lab::new();
        let repo = lab.repository("m");
        let first = repo.release("test.example/m", "v1.0.0", T);
        repo.commit(T + 30);
        lab.query("test.example/m", "main").await.unwrap();
        let place = lab.mirror().join(part);
        if place.is_dir() {
            fs::remove_dir_all(&place).unwrap();
            fs::write(&place, "x").unwrap();
        } else {
            let _ = fs::remove_file(&place);
            fs::create_dir_all(place.join("x")).unwrap();
        }
        repo.write("new.go", "package m\n");
        repo.commit(T + 60);
        for query in ["main", first.as_str()] {
            let got = lab.query("test.example/m", query).await;
            assert!(got.is_ok(), "{part}: {got:?}");
        }
        let names = lab.names("test.example/m", "v1.0.0").await;
        assert_eq!(names.unwrap(), ["go.mod", "x.go"], "{part}");
    }
}

#[tokio::test]
async fn damage_that_shows_in_the_middle_of_a_zip_is_mended_on_the_way() {
    let lab = Lab::new();
    let repo = lab.repository("m");
    let noise = |seed: u64| {
        let mut state = seed;
        let mut letters = String::new();
        while letters.len() < 1 << 20 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            letters.extend(format!("{:016x}", state ^ (state >> 29)).chars());
        }
        letters
    };
    for file in 0..6 {
        repo.write(&format!("file{file}.txt"), &noise(file));
    }
    repo.release("test.example/m", "v1.0.0", T);
    let good = lab.zip("test.example/m", "v1.0.0").await.unwrap();
    // The last file but one, so that much of the zip has gone out when it is read.
    let blob = repo.git(&["rev-parse", "HEAD:file4.txt"]);
    let harm = || {
        let mirror = crate::fixture::Repo(lab.mirror());
        let packs = fs::read_dir(mirror.0.join("objects/pack")).unwrap();
        for pack in packs.map(|entry| entry.unwrap().path()) {
            if pack.extension().is_none_or(|ending| ending != "pack") {
                continue;
            }
            let listed = mirror.git(&["verify-pack", "-v", pack.to_str().unwrap()]);
            let Some(line) = listed.lines().find(|line| line.starts_with(&blob)) else {
                continue;
            };
            let numbers: Vec<u64> = line
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let mut mode = fs::metadata(&pack).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
            fs::set_permissions(&pack, mode).unwrap();
            let file = fs::File::options().write(true).open(&pack).unwrap();
            let middle = numbers[2] + numbers[1] / 2;
            std::os::unix::fs::FileExt::write_all_at(&file, b"\x55\xaa\x55\xaa", middle).unwrap();
            return;
        }
        panic!("no pack has the blob");
    };
    harm();
    let mended = lab.zip("test.example/m", "v1.0.0").await.unwrap();
    assert!(
        mended == good,
        "other bytes: {} {}",
        mended.len(),
        good.len()
    );
    // Without the repository there is nothing to mend it with.
    harm();
    fs::rename(&repo.0, lab.folder.path().join("away")).unwrap();
    let error = lab.zip("test.example/m", "v1.0.0").await.unwrap_err();
    assert_ne!(error.kind, crate::ErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_mirror_with_the_hashes_that_the_repository_had_before() {
    let lab = Lab::new();
    let folder = lab.folder.path().join("m");
    let repo = crate::fixture::Repo(folder);
    for (minor, format) in [(0, "sha1"), (1, "sha256"), (2, "sha1")] {
        if repo.0.exists() {
            fs::remove_dir_all(&repo.0).unwrap();
        }
        fs::create_dir(&repo.0).unwrap();
        let format = format!("--object-format={format}");
        repo.git(&["init", "-q", "-b", "main", &format]);
        let version = format!("v1.{minor}.0");
        repo.release("test.example/m", &version, T);
        repo.write("x.go", "package x // more\n");
        let tip = repo.commit(T + 60);
        let names = lab.names("test.example/m", &version).await.unwrap();
        assert_eq!(names, ["go.mod", "x.go"], "{format}");
        let pseudo = lab.query("test.example/m", "main").await.unwrap();
        assert!(pseudo.ends_with(&tip[..12]), "{format}: {pseudo}");
    }
}
