//! Modules whose repositories the configuration tells.

use super::*;
use crate::discover::{Kind, Mapping};

/// `prefix` is the folder `subdir` of the repository `m`.
fn lab(prefix: &str, subdir: &str) -> Lab {
    Lab::with(|settings| {
        let folder = settings.folder.parent().unwrap();
        let mapping = Mapping {
            prefix: prefix.to_owned(),
            repo: format!("file://{}/m", folder.display()),
            vcs: Kind::Git,
            subdir: subdir.to_owned(),
        };
        settings.mappings.push(mapping);
    })
}

#[tokio::test]
async fn modules_below_a_folder() {
    let lab = lab("corp.example/mono", "go");
    let repo = lab.repository("m");
    for (folder, module) in [
        ("go", "mono"),
        ("go/foo", "mono/foo"),
        ("go/foo/v2", "mono/foo/v2"),
        ("go/a/b", "mono/a/b/v3"),
    ] {
        let text = format!("module corp.example/{module}\n");
        repo.write(&format!("{folder}/go.mod"), &text);
        repo.write(&format!("{folder}/x.go"), "package x\n");
    }
    repo.commit(T);
    for tag in [
        "go/v1.1.0",
        "go/foo/v1.0.0",
        "go/foo/v2.0.0",
        "go/a/b/v3.1.0",
        "foo/go/v1.9.0",
        "v1.8.0",
    ] {
        repo.tag(tag);
    }
    for (module, version, folder) in [
        ("corp.example/mono", "v1.1.0", "go"),
        ("corp.example/mono/foo", "v1.0.0", "go/foo"),
        ("corp.example/mono/foo/v2", "v2.0.0", "go/foo"),
        ("corp.example/mono/a/b/v3", "v3.1.0", "go/a/b"),
    ] {
        assert_eq!(lab.versions(module).await, [version], "{module}");
        let asked = crate::fixture::module(module);
        for query in ["latest", version, "main"] {
            let revision = lab.direct.revision(&asked, query).await.unwrap();
            assert_eq!(revision.version.as_str(), version, "{module}@{query}");
            assert_eq!(revision.origin.unwrap().subdir, folder, "{module}@{query}");
        }
        let names = lab.names(module, version).await.unwrap();
        // Those of the folder alone, but for `v2/`, which is another module.
        assert_eq!(names, ["go.mod", "x.go"], "{module}");
    }
}

#[tokio::test]
async fn a_prefix_with_a_major_version() {
    let lab = lab("corp.example/m/v3", "");
    let repo = lab.repository("m");
    repo.release("corp.example/m/v3", "v3.0.0", T);
    assert_eq!(lab.versions("corp.example/m/v3").await, ["v3.0.0"]);
    let names = lab.names("corp.example/m/v3", "v3.0.0").await.unwrap();
    assert_eq!(names, ["go.mod", "x.go"]);
}
