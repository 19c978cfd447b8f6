//! Private names stay inside, and the download modes.

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
};

use crate::common::{bin, code, eventually, gate, kept_zips, module, verified_lab};

/// What is private here begins so; a client that probes prefixes asks for the host alone too.
const SECRET: &str = "corp.example/secret";

fn paths() -> Vec<String> {
    let module = "corp.example/secret/repo";
    let mut paths: Vec<String> = [
        "@v/list",
        "@latest",
        "@v/v1.0.0.info",
        "@v/v1.0.0.mod",
        "@v/v1.0.0.zip",
        "@v/master.info",
        "@v/v1.info",
        "@v/latest.info",
        "@v/0123456789ab.info",
    ]
    .iter()
    .flat_map(|what| {
        [
            format!("/{module}/{what}"),
            format!("/corp.example/secret/{what}"),
            format!("/corp.example/secret/!repo/pkg/v2/{what}"),
            format!("/cached-only/{module}/{what}"),
        ]
    })
    .collect();
    for database in ["sum.lab.example", "sum.golang.org"] {
        paths.push(format!("/sumdb/{database}/lookup/{module}@v1.0.0"));
    }
    paths.push(format!("/{module}/@v/v1.0.0.zip?x=1"));
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn no_private_name_leaves() {
    let open = module("open");
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&open)).await;
    // Were it asked, the public upstream would have it.
    lab.add(Module::new("corp.example/secret/repo", "v1.0.0"));
    for mode in ["sync", "async", "redirect", "async_redirect", "none"] {
        for route in [
            String::new(),
            format!("[[route]]\nmatch = [\"*\"]\nchain = \"{}\"\n", lab.url()),
            // Wider than what is private, though they say something of the host.
            format!(
                "[[route]]\nmatch = [\"*.example\", \"corp.e*\"]\nchain = \"{}\"\n",
                lab.url()
            ),
        ] {
            let config = format!("private = [\"corp.example/*\"]\nmode = \"{mode}\"\n{route}");
            println!("{config}");
            let gate = gate(&lab, &sumdb.gosumdb(), &config).await;
            for path in paths() {
                let reply = gate.get(&path).await;
                assert_ne!(reply.status, 200, "{path}");
                assert_eq!(reply.header("location"), "", "{path}");
            }
            let go = || {
                Go::new()
                    .proxy(&gate.url())
                    .sumdb(&sumdb.key().to_string())
                    .env("GONOSUMDB", "corp.example/*")
                    .module("module x\n")
            };
            for args in [
                ["get", "corp.example/secret/repo/pkg/deep@v1.0.0"],
                ["get", "corp.example/secret/repo/pkg@master"],
                ["get", "corp.example/secret/repo@latest"],
            ] {
                assert!(!go().run(&args).await.ok, "{args:?}");
            }
            // A client that does not know it is private asks for its record.
            let naive = Go::new()
                .proxy(&gate.url())
                .sumdb(&sumdb.key().to_string())
                .module("module x\n");
            let done = naive.run(&["get", "corp.example/secret/repo@v1.0.0"]).await;
            assert!(!done.ok);
            for told in lab.requests().iter().map(|request| &request.path) {
                assert!(!told.contains("corp.example"), "upstream was told {told}");
            }
            for told in sumdb.requests().keys() {
                assert!(
                    !told.contains("corp.example"),
                    "the database was told {told}"
                );
            }
        }
    }
    // The recorders do record.
    let gate = gate(&lab, &sumdb.gosumdb(), "private = [\"corp.example/*\"]\n").await;
    assert_eq!(gate.get(&open.url_path("zip")).await.status, 200);
    assert!(lab.count("/lab.example/") > 0 && !sumdb.requests().is_empty());
}

/// A private module goes by the route that names it, unverified and unknown to all others.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_module_comes_by_its_own_route() {
    let (lab, sumdb) = verified_lab(&[]).await;
    let own = Lab::start().await;
    let secret = Module::new("corp.example/secret/repo", "v1.0.0").file("a.go", "package a\n");
    own.add(secret.clone());
    let config = format!(
        "private = [\"corp.example/*\"]\n\
         [[route]]\nmatch = [\"*\"]\nchain = \"{}\"\n\
         [[route]]\nmatch = [\"{SECRET}\"]\nchain = \"{}\"\n",
        lab.url(),
        own.url()
    );
    let gate = gate(&lab, &sumdb.gosumdb(), &config).await;
    let go = Go::new()
        .proxy(&gate.url())
        .sumdb(&sumdb.key().to_string())
        .env("GONOSUMDB", "corp.example/*")
        .module("module x\n");
    let done = go.run(&["get", "corp.example/secret/repo@latest"]).await;
    assert!(done.ok, "{}\n{}", done.stderr, gate.logs());
    let reply = gate.get(&secret.url_path("zip")).await;
    assert!(reply.body == secret.zip());
    let cached = reply.header("cache-control");
    assert!(
        cached.contains("private"),
        "shared caches may keep it: {cached}"
    );
    assert_eq!((lab.count("secret"), own.count("/sumdb/")), (0, 0));
    assert!(!sumdb.requests().keys().any(|path| path.contains("secret")));
}

/// What the public chain said of a module is nobody's word once it is private: not fresh, not stale, not after a start.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_module_became_private_is_not_told() {
    let (lab, own) = (Lab::start().await, Lab::start().await);
    let path = "corp.example/secret/repo";
    for (lab, version) in [(&lab, "v1.99.0"), (&own, "v1.0.0")] {
        lab.add(Module::new(path, version));
        lab.resolve(path, "main", version);
    }
    let asked = ["@v/list", "@latest", "@v/main.info"];
    let public = format!("chain = \"{}\"\n[sumdb]\nname = \"off\"\n", lab.url());
    let route = format!(
        "[[route]]\nmatch = [\"corp.example/*\"]\nchain = \"{}\"\n",
        own.url()
    );
    let start = async || {
        let options = Options {
            config: Some(public.clone()),
            ..Options::default()
        };
        Modgate::start(bin(), options).await
    };
    let says = async |gate: &Modgate, version: &str| {
        for asked in asked {
            let reply = gate.get(&format!("/{path}/{asked}")).await;
            assert!(reply.text().contains(version), "{asked} {}", reply.text());
        }
    };
    for private in ["private = [\"corp.example/*\"]\n", ""] {
        let gate = start().await;
        says(&gate, "v1.99.0").await;
        gate.rewrite_config(&format!("{private}{public}{route}"));
        gate.logged("configuration read again", 1).await;
        says(&gate, "v1.0.0").await;
        // And back.
        gate.rewrite_config(&public);
        gate.logged("configuration read again", 2).await;
        says(&gate, "v1.99.0").await;
        own.stop().await;
        gate.rewrite_config(&format!("{private}{public}{route}"));
        gate.logged("configuration read again", 3).await;
        for asked in ["@latest", "@v/main.info"] {
            let reply = gate.get(&format!("/{path}/{asked}")).await;
            // For a public module another upstream's word stands in, as stale.
            let told = reply.text().contains("v1.99.0");
            assert_eq!(told, private.is_empty(), "{}", reply.text());
            assert_eq!(reply.header("warning").is_empty(), !told, "{asked}");
        }
        own.restart().await;
    }
    // Without anybody to ask, what was said last is told as long as the module is public.
    let gate = start().await;
    says(&gate, "v1.99.0").await;
    let off = public.replace(&lab.url(), "off");
    gate.rewrite_config(&off);
    gate.logged("configuration read again", 1).await;
    let main = format!("/{path}/@v/main.info");
    assert!(gate.get(&main).await.text().contains("v1.99.0"));
    gate.rewrite_config(&format!(
        "private = [\"corp.example/*\"]\n{off}{}",
        route.replace(&own.url(), "off")
    ));
    gate.logged("configuration read again", 2).await;
    assert!(!gate.get(&main).await.text().contains("v1.99.0"));
}

/// Before chains were noted beside what they said, it was of the general chain.
#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_chain_is_of_public_modules() {
    let list = "/corp.example/secret/repo/@v/list";
    let off = "chain = \"off\"\n[sumdb]\nname = \"off\"\n";
    for (private, status) in [("", 200), ("private = [\"corp.example/*\"]\n", 404)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(format!("fresh{list}"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "1700000000000\nv1.99.0\n").unwrap();
        let options = Options {
            config: Some(format!("{private}{off}")),
            data: Some(folder.path().to_owned()),
            ..Options::default()
        };
        let gate = Modgate::start(bin(), options).await;
        let reply = gate.get(&format!("/cached-only{list}")).await;
        assert_eq!(reply.status, status, "{private}{}", reply.text());
    }
}

async fn in_mode(lab: &Lab, mode: &str) -> Modgate {
    let config = format!("mode = \"{mode}\"\n[negative]\nabsent = \"0s\"\n");
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(config),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn download_modes() {
    let lab = Lab::start().await;
    let upper = Module::new("lab.example/Upper", "v1.0.0").file("a.go", "package a\n");
    lab.add(upper.clone());
    let zip = upper.url_path("zip");
    let location = format!("{}{}", lab.url(), zip.replace('!', "%21"));
    let download = ["mod", "download", "lab.example/Upper@v1.0.0"];
    let go = |gate: &Modgate| {
        let go = Go::new().proxy(&gate.url()).sumdb("off");
        go.module("module x\n")
    };

    let gate = in_mode(&lab, "none").await;
    let reply = gate.get(&zip).await;
    assert_eq!((reply.status, &*code(&reply)), (404, "not_cached"));
    assert_eq!(lab.requests().len(), 0);

    let gate = in_mode(&lab, "redirect").await;
    let reply = gate.get(&zip).await;
    assert_eq!((reply.status, reply.header("location")), (302, &*location));
    assert!(go(&gate).run(&download).await.ok);
    assert_eq!(kept_zips(gate.data_dir()), 0);

    for mode in ["async", "async_redirect"] {
        let gate = in_mode(&lab, mode).await;
        lab.reset_counts();
        let hold = lab.hold(".zip");
        for _ in 0..3 {
            let reply = gate.get(&zip).await;
            if mode == "async" {
                assert_eq!((reply.status, &*code(&reply)), (404, "fetch_queued"));
            } else {
                assert_eq!((reply.status, reply.header("location")), (302, &*location));
            }
        }
        hold.arrived(1).await;
        hold.release();
        eventually("it is kept", async || gate.get(&zip).await.status == 200).await;
        assert_eq!(lab.count(".zip"), 1, "{mode}");
        for ending in ["info", "mod"] {
            gate.get(&upper.url_path(ending)).await;
            let path = upper.url_path(ending);
            eventually("it is kept", async || gate.get(&path).await.status == 200).await;
        }
        assert!(go(&gate).run(&download).await.ok);
    }

    // With nobody to send them to, clients are served in redirect mode too, or told of the outage.
    lab.stop().await;
    let gate = in_mode(&lab, "redirect").await;
    let reply = gate.get(&zip).await;
    assert!(
        reply.status == 302 || reply.status == 502,
        "{}",
        reply.status
    );
}
