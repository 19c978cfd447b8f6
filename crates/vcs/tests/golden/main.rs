//! Direct fetch answers as the real `go` does in direct mode: versions, queries, times, origins, go.mod files and zips of
//! a repository for every rule. Where it does so on purpose otherwise, the table below says why, and that is proven too.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

#[path = "../common/mod.rs"]
mod common;
mod differences;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use common::{Lab, go_mod, info, list, zip};
use differences::{report, settle};
use forge::truth::{Go, Questions, Truth, h1};
use forge::{Others, catalog};
use gomod::{ModulePath, Version};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vcs::{Direct, DirectError, ErrorKind};

/// A difference that is meant: of one question (`info v1.0.0`), or of all about a module (`*`).
struct Deliberate {
    module: &'static str,
    what: &'static str,
    why: &'static str,
}

const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        module: "golden.test/overhttp",
        what: "*",
        why: "a page over https may not send modgate to a repository without encryption; go lets it",
    },
    Deliberate {
        module: "pages.golden.test/userinfo",
        what: "*",
        why: "a password that a page tells everybody is no password of ours, and go passes it on in the origin",
    },
    Deliberate {
        module: "pages.golden.test/late",
        what: "*",
        why: "64 KiB of a page are read; go reads on",
    },
    Deliberate {
        module: "pages.golden.test/broken",
        what: "*",
        why: "pages are read leniently, as HTML; go ends where they are no XML any more",
    },
    Deliberate {
        module: "pages.golden.test/script",
        what: "*",
        why: "a script is no markup; go reads it as such, and ends at its first comparison",
    },
    Deliberate {
        module: "pages.golden.test/subdirup",
        what: "list",
        why: "a folder outside of the repository is refused at once; go finds nothing in it",
    },
    Deliberate {
        module: "golden.test/no500",
        what: "info latest",
        why: "a server in trouble says nothing of what it has; go takes the missing page at the repository's address for an answer",
    },
    Deliberate {
        module: "golden.test/big",
        what: "info v1.2.0",
        why: "a go.mod of more than 16 MiB is not read; go refuses it when it makes the zip",
    },
    Deliberate {
        module: "golden.test/big",
        what: "mod v1.2.0",
        why: "a go.mod of more than 16 MiB is not read",
    },
    Deliberate {
        module: "golden.test/big",
        what: "info latest",
        why: "it is the version with that go.mod",
    },
    Deliberate {
        module: "golden.test/big",
        what: "info HEAD",
        why: "it is the version with that go.mod",
    },
    Deliberate {
        module: "golden.test/latemodule",
        what: "info v2",
        why: "chosen from the list, as by a client of a proxy; go in direct mode looks at the tags v2.* alone",
    },
    Deliberate {
        module: "golden.test/latemodule",
        what: "info v4",
        why: "chosen from the list, as by a client of a proxy; go in direct mode looks at the tags v4.* alone",
    },
    Deliberate {
        module: "golden.test/lines",
        what: "zip v1.0.16",
        why: "that it is too new for this go is for the client to say",
    },
    Deliberate {
        module: "plain.golden.test/bazaar/lib",
        what: "zip v0.1.0",
        why: "go makes a zip without any file for a module in a folder of Bazaar's; this one has them",
    },
    Deliberate {
        module: "plain.golden.test/bazaar/lib",
        what: "zip v0.0.0-20240101010000-000000000002",
        why: "go makes a zip without any file for a module in a folder of Bazaar's; this one has them",
    },
    Deliberate {
        module: "plain.golden.test/bazaar/lib",
        what: "zip v0.0.0-20240101020000-000000000003",
        why: "go makes a zip without any file for a module in a folder of Bazaar's; this one has them",
    },
];

impl Deliberate {
    fn is(&self, module: &str, what: &str) -> bool {
        self.module == module && (self.what == "*" || self.what == what)
    }
}

/// What is compared, in both forms as text: the program under test may say it in its own words only when it refuses.
type Answers = BTreeMap<(String, String), Answer>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Said(String),
    Refused {
        why: String,
        /// Whether one goes on to the next prefix or proxy after it, where that is known.
        absent: Option<bool>,
    },
}

/// Refusals whose kind is not compared. All but the last end a search of `go`, though there is just no such version: a proxy says
/// so (protocol.md 2.2, 3). By the last `go` takes all trouble with a page for absence; an outage is never that, nor is an
/// address that is not asked.
const OTHER_KINDS: [&str; 5] = [
    "invalid module version",
    "no matching versions for query",
    "invalid pseudo-version",
    "invalid version",
    "unrecognized import path",
];

impl Answer {
    /// Whether `go`, which is the one asked, and the other agree. Of what it takes from a list it does not always tell the
    /// origin.
    fn same(&self, other: &Answer) -> bool {
        match (self, other) {
            (Answer::Said(one), Answer::Said(other)) => {
                one == other
                    || one
                        .strip_suffix("null")
                        .is_some_and(|one| other.starts_with(one))
            }
            (Answer::Refused { absent: one, .. }, Answer::Refused { absent: other, .. }) => {
                one.zip(*other).is_none_or(|(one, other)| one == other)
            }
            _ => false,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_fetch_answers_as_go_does() {
    let start = Instant::now();
    let lab = Lab::start().await;
    let mut questions = Vec::new();
    let only = std::env::var("GOLDEN_ONLY").ok();
    for entry in catalog::all() {
        let installed = entry.install(&lab.forge).1;
        if only.as_ref().is_none_or(|only| only == entry.name) {
            questions.push(installed);
        }
    }
    let all = only.is_none();
    let mut others = None;
    if only.as_ref().is_none_or(|only| only == "pages") {
        questions.extend(catalog::pages(&lab.forge));
    }
    if only.is_none_or(|only| only == "others") {
        let started = Others::start(&lab.forge).await;
        questions.extend(started.questions.clone());
        others = Some(started);
    }
    let mut go = Go::new(&lab.forge);
    let hosts = ["golden.test", "pages.golden.test", "plain.golden.test"];
    go.judge(&lab.forge, &hosts);
    let mut asked: JoinSet<(Questions, Truth)> = JoinSet::new();
    for questions in questions {
        let go = go.clone();
        asked.spawn(async move {
            let truth = go.ask(&questions).await;
            (questions, truth)
        });
    }
    let mut truths = asked.join_all().await;
    println!("go answered after {:?}", start.elapsed());
    truths.sort_by(|(one, _), (other, _)| one.modules.cmp(&other.modules));

    let mut differences = Vec::new();
    let mut compared = 0;
    // Twice: with no mirror, and a third of them with those of the first time, in another order and by another process, so
    // to say.
    for round in ["no mirrors", "kept mirrors"] {
        let direct = Arc::new(lab.direct());
        let slots = Arc::new(Semaphore::new(6));
        let mut tasks = JoinSet::new();
        let share = if all && round == "kept mirrors" { 3 } else { 1 };
        for (questions, truth) in truths.iter().step_by(share) {
            let (questions, truth) = (questions.clone(), truth.clone());
            let (direct, slots) = (Arc::clone(&direct), Arc::clone(&slots));
            let back = round == "kept mirrors";
            tasks.spawn(async move {
                let _slot = slots.acquire().await.unwrap();
                let ours = ask(&direct, &questions, &truth, back).await;
                (ours, expected(&questions, &truth))
            });
        }
        let done = tasks.join_all().await;
        for (ours, theirs) in done {
            compared += ours.len();
            let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
            for key in keys {
                let (one, other) = (theirs.get(key), ours.get(key));
                if let (Some(one), Some(other)) = (one, other)
                    && one.same(other)
                {
                    continue;
                }
                differences.push((round, key.clone(), one.cloned(), other.cloned()));
            }
        }
        println!(
            "with {round}: done after {:?}, {} requests to the forge so far",
            start.elapsed(),
            lab.forge.requests().len()
        );
    }
    let differences = settle(&go, differences).await;
    drop(others);
    report(compared, &differences, all);
}

type Difference = (
    &'static str,
    (String, String),
    Option<Answer>,
    Option<Answer>,
);

/// What go says, by module and what was asked.
fn expected(questions: &Questions, truth: &Truth) -> Answers {
    let mut answers = Answers::new();
    for (module, queries) in &questions.modules {
        let list = truth.versions.get(module).map(|list| match list {
            Ok(versions) => Answer::Said(sorted(versions.clone())),
            Err(error) => refused(error, None),
        });
        answers.extend(list.map(|list| ((module.clone(), "list".to_owned()), list)));
        for query in queries {
            let key = (module.clone(), query.clone());
            let said = match &truth.revisions[&key] {
                Ok(said) => Answer::Said(revision(
                    query,
                    &said.version,
                    said.time.clone(),
                    said.origin.clone().unwrap_or_default(),
                )),
                Err(error) => {
                    if canonical(query) {
                        for what in ["mod", "zip"] {
                            let key = (module.clone(), format!("{what} {query}"));
                            answers.insert(key, refused(error, None));
                        }
                    }
                    let known = !OTHER_KINDS.iter().any(|text| error.contains(text));
                    let absent = truth.absent.get(&key).copied().filter(|_| known);
                    refused(error, absent)
                }
            };
            answers.insert((module.clone(), format!("info {query}")), said);
        }
    }
    for ((module, version), artifact) in &truth.artifacts {
        let (go_mod, sum) = (artifact.go_mod.as_deref(), artifact.sum.clone());
        let mut put = |what: &str, said: Option<String>| {
            let said = said.map_or_else(|| refused(&artifact.error, None), Answer::Said);
            answers.insert((module.clone(), format!("{what} {version}")), said);
        };
        put("mod", go_mod.map(shown));
        put("zip", sum);
    }
    answers
}

/// Asks the same of the program under test.
async fn ask(direct: &Arc<Direct>, questions: &Questions, truth: &Truth, back: bool) -> Answers {
    let mut todo: Vec<(String, String, String)> = Vec::new();
    for (module, queries) in &questions.modules {
        todo.push((module.clone(), "list".to_owned(), String::new()));
        for query in queries {
            todo.push((module.clone(), "info".to_owned(), query.clone()));
            let refused = truth.revisions[&(module.clone(), query.clone())].is_err();
            if refused && canonical(query) {
                todo.push((module.clone(), "mod".to_owned(), query.clone()));
                todo.push((module.clone(), "zip".to_owned(), query.clone()));
            }
        }
    }
    for (module, version) in truth.artifacts.keys() {
        todo.push((module.clone(), "mod".to_owned(), version.clone()));
        todo.push((module.clone(), "zip".to_owned(), version.clone()));
    }
    if back {
        todo.reverse();
    }
    let mut answers = Answers::new();
    for (module, what, query) in todo {
        let said = if ModulePath::parse(&module).is_err() {
            // No such request gets this far.
            refused("it is no module path", Some(true))
        } else {
            answer(direct, &module, &what, &query).await
        };
        let key = if what == "list" {
            what
        } else {
            format!("{what} {query}")
        };
        answers.insert((module, key), said);
    }
    answers
}

async fn answer(direct: &Arc<Direct>, module: &str, what: &str, query: &str) -> Answer {
    let refused = |error: DirectError| {
        assert!(!error.text.is_empty(), "{module} {what} {query}: {error:?}");
        // None of these is a refusal: the forge works.
        let broken = matches!(
            error.kind,
            ErrorKind::Timeout
                | ErrorKind::Overloaded
                | ErrorKind::MissingProgram
                | ErrorKind::Disk
        );
        assert!(!broken, "{module} {what} {query}: {error:?}");
        let absent = matches!(error.kind, ErrorKind::NotFound | ErrorKind::Invalid);
        self::refused(&format!("{:?}: {}", error.kind, error.text), Some(absent))
    };
    match what {
        "list" => list(direct, module)
            .await
            .map_or_else(refused, |versions| Answer::Said(sorted(versions))),
        "info" => match info(direct, module, query).await {
            Ok(said) => {
                let json: Value = serde_json::from_slice(&said.info_json()).unwrap();
                let time = json["Time"].as_str().map(str::to_owned);
                let version = json["Version"].as_str().unwrap();
                assert_eq!(version, said.version.as_str());
                Answer::Said(revision(query, version, time, json["Origin"].clone()))
            }
            Err(error) => refused(error),
        },
        "mod" => go_mod(direct, module, query)
            .await
            .map_or_else(refused, |bytes| Answer::Said(shown(&bytes))),
        _ => zip(direct, module, query)
            .await
            .map_or_else(refused, |bytes| Answer::Said(h1(bytes))),
    }
}

fn refused(why: &str, absent: Option<bool>) -> Answer {
    Answer::Refused {
        why: why.to_owned(),
        absent,
    }
}

/// A query that a client asks `.mod` and `.zip` of.
fn canonical(query: &str) -> bool {
    Version::parse(query).is_ok()
}

fn sorted(mut versions: Vec<String>) -> String {
    versions.sort();
    versions.join(" ")
}

fn shown(go_mod: &[u8]) -> String {
    if go_mod.len() > 1000 {
        format!("{} bytes", go_mod.len())
    } else {
        format!("{:?}", String::from_utf8_lossy(go_mod))
    }
}

/// What is compared of a revision. Where the answer is chosen from a list, `go` adds to the origin what it needs to know
/// when to choose anew, which is a matter of its own cache.
fn revision(query: &str, version: &str, time: Option<String>, mut origin: Value) -> String {
    if let Some(fields) = origin
        .as_object_mut()
        .filter(|fields| fields.get("VCS").is_some_and(|vcs| vcs == "hg"))
    {
        // It depends on the order in which hg has its branches in memory, and modgate gives none.
        fields.remove("RepoSum");
    }
    if let ("HEAD", Some(fields)) = (query, origin.as_object_mut()) {
        // go names it only if it had the commit before it asked, by another question; modgate always does.
        fields.remove("Ref");
    }
    let chosen = query == "latest"
        || (version != query && query.starts_with('v') && query.matches('.').count() < 2);
    if let (true, Some(fields)) = (chosen, origin.as_object_mut()) {
        fields.retain(|name, _| matches!(name.as_str(), "VCS" | "URL" | "Subdir" | "Hash"));
    }
    format!("{version} {} {origin}", time.unwrap_or_default())
}
