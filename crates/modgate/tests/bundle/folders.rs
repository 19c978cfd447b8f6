//! What comes from folders, and what folders are without a server: caches, data folders, unpacked bundles.

use records::{Filter, Records, RecordsSettings};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_go_cache_is_taken_over_without_what_was_only_asked_about() {
    let pseudo = Module::new("lab.example/p", "v0.0.0-20240501120000-0123456789ab");
    let modules = [module("a"), module("b"), pseudo];
    let (_lab, sumdb): (Lab, LabSumDb) = verified_lab(&modules).await;
    let folders = Folders::new();
    let put = |module: &Module, ending: &str, content: &[u8]| {
        let path = folders.at("cache").join(&module.url_path(ending)[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    put(&modules[0], "info", &modules[0].info());
    put(&modules[1], "info", &modules[1].info());
    put(&modules[1], "mod", &modules[1].mod_file());
    // Upstreams have such: the time is not the one that the version names.
    let version = modules[2].version();
    let info = format!("{{\"Version\":{version:?},\"Time\":\"2024-05-02T00:00:00Z\"}}");
    put(&modules[2], "info", info.as_bytes());
    put(&modules[2], "mod", &modules[2].mod_file());
    put(&modules[2], "zip", &modules[2].zip());
    let url = folders.text("modgate.toml");
    let key = sumdb.key().to_string();
    let database = format!("[sumdb]\nname = {key:?}\nurl = {:?}\n", sumdb.url());
    std::fs::write(&url, database).unwrap();
    let with = ["--config", &url, "--upstream", "off", "--json"];
    let import = || command(&["import", &folders.text("cache")], &folders.at("b"), &with);
    let done = import();
    assert!(done.status.success(), "{}", said(&done));
    let report = json(&done);
    assert_eq!(report["kept"], 5, "{report}");
    assert_eq!(report["left_out"], 1, "{report}");
    assert!(!folders.at("b/go/lab.example/a/@v/v1.0.0.info").exists());
    let mut gate = without_a_line(&folders.at("b"), &sumdb).await;
    let go = client(&gate, &sumdb);
    let wanted = format!("lab.example/p@{version}");
    let done = go.run(&["mod", "download", &wanted]).await;
    assert!(done.ok, "{}", done.stderr);
    gate.terminate().await;

    // One that was killed has kept what it did not note; the next one makes up for that.
    for file in ["records.db", "records.db-wal", "records.db-shm"] {
        let _ = std::fs::remove_file(folders.at("b").join(file));
    }
    let report = json(&import());
    assert_eq!(
        (&report["kept"], &report["present"]),
        (&0.into(), &5.into())
    );
    let path = folders.at("b/records.db");
    let records = Records::open(&RecordsSettings::Sqlite { path }).await;
    let records = records.unwrap();
    let noted = records.objects("", 10, &Filter::default()).await.unwrap();
    assert_eq!(noted.len(), 5, "{noted:?}");
    records.close().await;

    // Beside what is refused it is refused too.
    put(&modules[0], "mod", b"module lab.example/other\n");
    let done = import();
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    let report = json(&done);
    assert_eq!(report["left_out"], 0, "{report}");
    assert_eq!(report["refused"].as_array().unwrap().len(), 2, "{report}");
    assert!(said(&done).contains("vouches"), "{report}");

    let empty = folders.at("empty");
    std::fs::create_dir(&empty).unwrap();
    let done = command(
        &["import", empty.to_str().unwrap()],
        &folders.at("b"),
        &with,
    );
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(
        said(&done).contains("nothing to take over"),
        "{}",
        said(&done)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_the_graph_that_is_gone_is_left_out_if_that_is_said() {
    let gone = module("gone");
    let used = Module::new("lab.example/used", "v1.0.0")
        .file("a.go", "package used\n")
        .file(
            "go.mod",
            "module lab.example/used\n\ngo 1.16\n\nrequire lab.example/gone v1.0.0\n",
        );
    let (lab, sumdb) = verified_lab(&[used, gone]).await;
    lab.remove("lab.example/gone", "v1.0.0");
    let folders = Folders::new();
    let go_mod = "module lab.example/main\n\ngo 1.16\n\nrequire lab.example/used v1.0.0\n";
    std::fs::write(folders.at("go.mod"), go_mod).unwrap();
    let (key, upstream) = (sumdb.key().to_string(), lab.url());
    let from = ["--upstream", &upstream, "--sumdb", &key, "--json"];
    let (bundle, go_mod) = (folders.text("x.bundle"), folders.text("go.mod"));
    let what = ["export", "--out", &bundle, "--go-mod", &go_mod];
    let done = command(&what, &folders.at("a"), &from);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    let told = said(&done);
    assert!(told.contains("--allow-missing"), "{told}");
    assert_eq!(told.matches("lab.example/gone").count(), 1, "{told}");
    let what = [&what[..], &["--allow-missing"]].concat();
    let done = command(&what, &folders.at("a"), &from);
    assert!(done.status.success(), "{}", said(&done));
    let report = json(&done);
    assert_eq!(report["versions"], 1, "{report}");
    let left_out = report["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 1, "{report}");
    assert_eq!(left_out[0][0], "lab.example/gone@v1.0.0", "{report}");

    // Trouble is no absence.
    lab.stop().await;
    let done = command(&what, &folders.at("none"), &from);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(!said(&done).contains("hint: --allow-missing"));
    // Where nobody is, is said without the password.
    let nobody = [&what[..], &["--from", "http://me:s3cret@127.0.0.1:9"]].concat();
    let done = command(&nobody, &folders.at("none"), &from);
    let told = said(&done);
    assert!(
        told.contains("http://127.0.0.1:9 cannot be asked") && !told.contains("s3cret"),
        "{told}"
    );

    let done = command(
        &["export", "--out", &bundle, "lab.example/used@v9.0.0"],
        &folders.at("a"),
        &from,
    );
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(said(&done).contains("major"), "{}", said(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_and_an_unpacked_bundle_are_proxies_with_their_database() {
    let (lab, sumdb) = verified_lab(&[module("a")]).await;
    let folders = Folders::new();
    let (key, upstream) = (sumdb.key().to_string(), lab.url());
    let from = ["--upstream", &upstream, "--sumdb", &key];
    let bundle = folders.text("x.bundle");
    let what = ["export", "--out", &bundle, "lab.example/a@v1.0.0"];
    let done = command(&what, &folders.at("data"), &from);
    assert!(done.status.success(), "{}", said(&done));
    std::fs::create_dir(folders.at("unpacked")).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.args(["-xf", &bundle, "-C", &folders.text("unpacked")]);
    assert!(tar.status().unwrap().success());
    let offline = ["--upstream", "off", "--sumdb", &key];
    let done = command(&["import", &bundle], &folders.at("imported"), &offline);
    assert!(done.status.success(), "{}", said(&done));
    lab.stop().await;
    let before = sumdb.requests();
    for folder in ["data", "unpacked", "imported"] {
        let proxy = format!("file://{}", folders.at(folder).join("go").display());
        let go = Go::new().proxy(&proxy).sumdb(&key);
        let done = go.run(&["mod", "download", "lab.example/a@v1.0.0"]).await;
        assert!(done.ok, "{folder}: {}", done.stderr);
        if folder != "unpacked" {
            let done = command(&["fsck", "--json"], &folders.at(folder), &offline);
            assert!(done.status.success(), "{}", said(&done));
        }
    }
    assert_eq!(sumdb.requests(), before, "the database was asked");
}

#[test]
fn commands_beside_a_server_make_no_data_folder() {
    let folders = Folders::new();
    let version = "lab.example/a@v1.0.0";
    for arguments in [
        &["retire", version, "--reason", "x"][..],
        &["unretire", version],
        &["pin", version],
        &["unpin", version],
        &["fsck", "--repair"],
        &["gc", "--older-than", "1d"],
        &["backup", &folders.text("backups")],
    ] {
        let done = command(arguments, &folders.at("wrong"), &["--upstream", "off"]);
        assert_eq!(
            done.status.code(),
            Some(1),
            "{arguments:?}: {}",
            said(&done)
        );
        let told = said(&done);
        assert!(told.contains("there is no modgate data in"), "{told}");
        assert!(told.contains("(from flag --data)"), "{told}");
        assert!(!folders.at("wrong").exists(), "{arguments:?}");
    }
    // What another gateway on this machine listens on by default is no address of a command.
    let what = ["import", &folders.text("nothing")];
    let other = ["--upstream", "http://127.0.0.1:3000"];
    let told = said(&command(&what, &folders.at("wrong"), &other));
    assert!(!told.contains("this gateway itself"), "{told}");
    assert!(told.contains("nothing"), "{told}");
}
