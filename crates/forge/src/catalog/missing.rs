//! Repositories that are not there, or not to be had, and a module proxy in place of one.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

use crate::Forge;
use crate::forge::Login;
use crate::site::{Fault, Pages};

/// Says what to ask.
pub(super) fn pages(forge: &Forge) -> Vec<(String, Vec<String>)> {
    let host = "git.golden.test";
    let nobody = Login {
        user: "nobody",
        secret: "knows",
    };
    let status = |address: &str, status: u16| {
        forge.fault(address, Some(Fault::Status(status)));
    };
    let page = |address: &str| {
        let page = Pages {
            body: "a page about it".to_owned(),
            status: 200,
            below: false,
        };
        forge.page(address, page);
    };
    let mut asks = Vec::new();
    // What its references are answered, and what its address is: a page or nothing, which is 404.
    for (name, refs, there) in [
        ("no401", 401, false),
        ("no403", 403, false),
        ("no404", 404, false),
        ("no410", 410, false),
        ("no500", 500, false),
        ("page401", 401, true),
        ("page403", 403, true),
        ("page404", 404, true),
        ("page500", 500, true),
    ] {
        let path = format!("{host}/{name}.git");
        forge.import(
            &format!("golden.test/{name}"),
            &format!("git https://{path}"),
        );
        let below = format!("{path}/info");
        match refs {
            401 => forge.guard(&below, nobody),
            refs => status(&below, refs),
        }
        if there {
            page(&path);
        }
        asks.push(format!("golden.test/{name}"));
    }
    let path = format!("{host}/outage.git");
    forge.import("golden.test/outage", &format!("git https://{path}"));
    status(&path, 503);
    asks.push("golden.test/outage".to_owned());
    let queries = ["v1.2.0", "main", "latest"].map(str::to_owned).to_vec();
    let mut asks: Vec<_> = asks
        .into_iter()
        .map(|module| (module, queries.clone()))
        .collect();
    asks.push(module_proxy(forge));
    asks
}

/// A page whose entry is a module proxy, which is asked for the whole module path.
fn module_proxy(forge: &Forge) -> (String, Vec<String>) {
    let module = "golden.test/byproxy";
    forge.import(module, "mod https://git.golden.test/mods");
    let origin = r#""Origin":{"VCS":"git","URL":"https://elsewhere.test/x","Hash":"0123"}"#;
    let base = format!("git.golden.test/mods/{module}/@v");
    let put = |name: &str, content: &[u8]| forge.file(&format!("{base}/{name}"), content);
    put(
        "list",
        b"v1.0.0\nv1.2.0\nv1.3.0-pre\nv0.0.0-20240101000000-0123456789ab\n",
    );
    for version in ["v1.0.0", "v1.2.0"] {
        let info = format!(r#"{{"Version":"{version}","Time":"2024-01-01T00:00:00Z",{origin}}}"#);
        put(&format!("{version}.info"), info.as_bytes());
        let go_mod = format!("module {module}\n");
        put(&format!("{version}.mod"), go_mod.as_bytes());
        put(&format!("{version}.zip"), &zip(module, version, &go_mod));
    }
    let info = br#"{"Version":"v1.2.0","Time":"2024-01-01T00:00:00Z"}"#;
    put("main.info", info);
    let queries = ["v1.0.0", "v1.2.0", "v1.9.0", "main", "none", "latest"];
    (module.to_owned(), queries.map(str::to_owned).to_vec())
}

fn zip(module: &str, version: &str, go_mod: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in [("a.go", "package a\n"), ("go.mod", go_mod)] {
        let name = format!("{module}@{version}/{name}");
        let done = writer.start_file(name, SimpleFileOptions::default());
        done.expect("it is in memory");
        writer.write_all(text.as_bytes()).expect("it is in memory");
    }
    writer.finish().expect("it is in memory").into_inner()
}
