//! Direct fetch through the front door answers as the real `go` does in direct mode: what is there with 200 and the same
//! content, what is absent with 404, and what is refused with what stops a client.

use forge::{
    Forge, Others, catalog,
    truth::{Go, Truth, h1},
};
use gomod::{ModulePath, Version};
use serde_json::Value;
use testkit::gate::{Modgate, Options, Reply};

use crate::common::{bin, code};

/// Repositories of the catalogue that together have most forms of paths, versions and refusals.
const ENTRIES: [&str; 6] = [
    "UpperCase",
    "plain",
    "incompatible",
    "badnames",
    "attributes",
    "overssh",
];

/// Refusals of `go` whose kind is not compared: it takes versions that cannot be for errors that end its search, and all
/// trouble with a page for absence (protocol.md 2.2, 3).
const OTHER_KINDS: [&str; 3] = [
    "invalid version",
    "invalid pseudo-version",
    "unrecognized import path",
];

async fn gateway(forge: &Forge, vcs: &str) -> Modgate {
    let config = format!(
        "chain = \"direct\"\n\
         private = [\"plain.golden.test/*\", \"golden.test/over*\"]\n\
         [negative]\nabsent = \"0s\"\ntrouble = \"0s\"\n\
         [network]\nca_file = \"{}\"\nca_only = true\nproxy = \"{}\"\nno_proxy = [\"127.0.0.1\"]\n\
         internal_hosts = [\"127.0.0.1\"]\ninsecure_hosts = [\"plain.golden.test/*\"]\n\
         [direct]\nvcs = \"{vcs}\"\n\
         [[credential]]\nmatch = \"{}\"\nssh_key = \"{}\"\nknown_hosts = \"{}\"\n",
        forge.ca_file().display(),
        forge.proxy(),
        forge.ssh(),
        forge.ssh_key().display(),
        forge.known_hosts().display(),
    );
    let options = Options {
        sumdb: Some("off".to_owned()),
        config: Some(config),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

fn path(module: &str, what: &str) -> String {
    let module = ModulePath::parse(module).unwrap();
    format!("/{}/{what}", module.escaped())
}

/// The path of a query as clients send it, if they can.
fn info(module: &str, query: &str) -> Option<String> {
    if query == "latest" {
        return Some(path(module, "@latest"));
    }
    let sent = |c: char| c.is_ascii_alphanumeric() || "._~+-".contains(c);
    if !query.chars().all(sent) {
        return None;
    }
    let asked = query.chars().fold(String::new(), |mut asked, c| {
        if c.is_ascii_uppercase() {
            asked.push('!');
        }
        asked.push(c.to_ascii_lowercase());
        asked
    });
    Some(path(module, &format!("@v/{asked}.info")))
}

/// What a client does after an answer: takes it, goes on, or stops.
fn verdict(reply: &Reply) -> &'static str {
    match reply.status {
        200 => "found",
        404 | 410 => "absent",
        _ => "refused",
    }
}

async fn compare(gate: &Modgate, truth: &Truth, wrong: &mut Vec<String>) -> usize {
    let mut compared = 0;
    let mut check = |what: &str, ours: String, theirs: String| {
        compared += 1;
        if ours != theirs {
            wrong.push(format!("{what}\n  modgate: {ours}\n  go:      {theirs}"));
        }
    };
    for (module, listed) in &truth.versions {
        let reply = gate.get(&path(module, "@v/list")).await;
        if let Ok(versions) = listed {
            let mut ours: Vec<String> = reply.text().lines().map(str::to_owned).collect();
            ours.sort();
            let mut theirs = versions.clone();
            theirs.sort();
            check(module, ours.join(" "), theirs.join(" "));
        }
    }
    for ((module, query), said) in &truth.revisions {
        let Some(path) = info(module, query) else {
            continue;
        };
        let reply = gate.get(&path).await;
        let what = format!("{module}@{query}: {}", reply.text());
        match said {
            Ok(said) => {
                let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let ours = format!("{} {}", json["Version"], json["Time"]);
                let time = said.time.clone().unwrap_or_default();
                check(&what, ours, format!("{:?} {time:?}", said.version));
            }
            Err(error) => {
                let known = !OTHER_KINDS.iter().any(|text| error.contains(text));
                let absent = truth.absent.get(&(module.clone(), query.clone()));
                let absent = absent.filter(|_| known);
                // Where it cannot be told, anything but an answer will do.
                let theirs = match absent {
                    Some(true) => "absent",
                    Some(false) => "refused",
                    None if verdict(&reply) == "found" => "no answer",
                    None => verdict(&reply),
                };
                check(&what, verdict(&reply).to_owned(), theirs.to_owned());
                assert!(reply.text().contains("[modgate: "), "{what}");
            }
        }
    }
    for ((module, version), artifact) in &truth.artifacts {
        let version = Version::parse(version).unwrap().escaped().into_owned();
        let go_mod = gate.get(&path(module, &format!("@v/{version}.mod"))).await;
        if let Some(theirs) = &artifact.go_mod {
            let theirs = String::from_utf8_lossy(theirs).into_owned();
            check(&format!("{module}@{version} mod"), go_mod.text(), theirs);
        }
        let zip = gate.get(&path(module, &format!("@v/{version}.zip"))).await;
        let ours = match zip.status {
            200 => h1(zip.body.to_vec()),
            _ => format!("none: {}", zip.text()),
        };
        match &artifact.sum {
            Some(theirs) => check(&format!("{module}@{version} zip"), ours, theirs.clone()),
            None => check(
                &format!("{module}@{version} zip: {ours}"),
                verdict(&zip).to_owned(),
                "absent".to_owned(),
            ),
        }
    }
    compared
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_door_answers_as_go_does() {
    let forge = Forge::start().await;
    let mut questions = Vec::new();
    for entry in catalog::all() {
        if ENTRIES.contains(&entry.name) {
            questions.push(entry.install(&forge).1);
        }
    }
    assert_eq!(questions.len(), ENTRIES.len());
    let mut go = Go::new(&forge);
    go.judge(&forge, &["golden.test", "plain.golden.test"]);
    let gate = gateway(&forge, "*:all").await;
    let (mut compared, mut wrong) = (0, Vec::new());
    for questions in questions {
        let truth = go.ask(&questions).await;
        compared += compare(&gate, &truth, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "of {compared}:\n{}", wrong.join("\n"));
    println!("{compared} answers compared");
    assert!(compared > 100, "{compared}");
}

/// GOVCS, by the names it has in Go: what is not allowed is a refusal that stops a client, for go and for modgate.
#[tokio::test(flavor = "multi_thread")]
async fn govcs_refuses_as_go_does() {
    let forge = Forge::start().await;
    let others = Others::start(&forge).await;
    for entry in catalog::all() {
        if entry.name == "plain" {
            entry.install(&forge);
        }
    }
    for rules in [
        "public:git|hg,private:all",
        "public:off,private:all",
        "private:svn,*:git",
        "golden.test/plain:off,*:all",
    ] {
        let mut go = Go::new(&forge);
        go.set("GOVCS", rules);
        go.set("GOPRIVATE", "plain.golden.test/*,golden.test/over*");
        let gate = gateway(&forge, rules).await;
        for (module, query) in [
            ("golden.test/plain", "v1.0.0"),
            ("plain.golden.test/mercurial", "v1.0.0"),
            ("plain.golden.test/subversion", "latest"),
            ("plain.golden.test/bazaar", "v1.0.0"),
        ] {
            let asked = forge::truth::Questions {
                modules: vec![(module.to_owned(), vec![query.to_owned()])],
                no_lists: true,
            };
            let truth = go.ask(&asked).await;
            let said = &truth.revisions[&(module.to_owned(), query.to_owned())];
            let reply = gate.get(&info(module, query).unwrap()).await;
            let text = reply.text();
            match said {
                Ok(_) => assert_eq!(reply.status, 200, "{rules} {module}: {text}"),
                // go lists the tags of svn, and then cannot find them (protocol.md 8.3).
                Err(error) if error.contains("unknown revision") => {
                    assert_eq!(reply.status, 404, "{rules} {module}: {text}");
                }
                Err(error) => {
                    assert!(error.contains("GOVCS"), "{rules} {module}: {error}");
                    let got = (reply.status, code(&reply));
                    assert_eq!(got, (403, "direct_refused".to_owned()), "{rules} {module}");
                    assert!(
                        text.contains("direct.vcs") || text.contains("GOVCS"),
                        "{text}"
                    );
                }
            }
        }
    }
    drop(others);
}
