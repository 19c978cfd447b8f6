//! Asking the reference, and comparing.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::exceptions::Exception;

/// The arguments of one question.
pub(crate) type Case = Vec<Vec<u8>>;

/// What of a difference is fine, if it is.
pub(crate) type Excuse = fn(&Difference<'_>) -> Option<Exception>;

/// A fact on which the two do not agree.
#[derive(Debug)]
pub(crate) struct Difference<'a> {
    pub(crate) case: &'a Case,
    pub(crate) ours: &'a Value,
    pub(crate) theirs: &'a Value,
    /// The whole of our answer; what is said besides the compared facts begins with `_`.
    pub(crate) our_facts: &'a Map<String, Value>,
}

/// Makes a case of texts.
pub(crate) fn case<const N: usize>(args: [&str; N]) -> Case {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}

/// A case's argument as text.
pub(crate) fn text(case: &Case, at: usize) -> &str {
    std::str::from_utf8(&case[at]).unwrap()
}

/// Asks both for every case and fails on every difference that `excuse` does not explain, and on every one of
/// `expected` that was not met. Facts of the reference that `ours` does not have are not compared. Gives how many
/// facts were equal and neither null nor false: cases that are all refused prove little.
pub(crate) fn agree(
    operation: &str,
    cases: &[Case],
    ours: impl Fn(&Case) -> Value,
    excuse: Excuse,
    expected: &[Exception],
) -> usize {
    let answers = ask(operation, cases);
    let mut met: BTreeMap<Exception, usize> = BTreeMap::new();
    let (mut differences, mut positive) = (0, 0);
    for (case, all_theirs) in cases.iter().zip(&answers) {
        let Value::Object(our_facts) = ours(case) else {
            panic!("our answer is an object");
        };
        for (fact, ours) in our_facts.iter().filter(|(fact, _)| !fact.starts_with('_')) {
            let theirs = &all_theirs[fact];
            if ours == theirs {
                positive += usize::from(!ours.is_null() && ours != &Value::Bool(false));
                continue;
            }
            let difference = Difference {
                case,
                ours,
                theirs,
                our_facts: &our_facts,
            };
            if let Some(exception) = excuse(&difference) {
                *met.entry(exception).or_default() += 1;
                continue;
            }
            differences += 1;
            if differences <= 20 {
                eprintln!(
                    "{operation} {fact} of {}\n  ours:   {ours}\n  theirs: {theirs}\n  because {} / {}",
                    shown(case),
                    our_facts.get("_why").unwrap_or(&Value::Null),
                    all_theirs["why"],
                );
            }
        }
    }
    eprintln!(
        "{operation}: {} cases, exceptions met: {met:?}",
        cases.len()
    );
    assert_eq!(differences, 0, "differences from the reference, see above");
    for exception in expected {
        assert!(
            met.contains_key(exception),
            "no case met the exception {exception:?}: mend the cases or take it from the table"
        );
    }
    for exception in met.keys() {
        assert!(expected.contains(exception), "unexpected: {exception:?}");
    }
    positive
}

fn shown(case: &Case) -> String {
    let shown: Vec<String> = case
        .iter()
        .map(|arg| {
            let text = format!("{:?}", String::from_utf8_lossy(&arg[..arg.len().min(600)]));
            if arg.len() > 600 {
                format!("{text} and {} bytes more", arg.len() - 600)
            } else {
                text
            }
        })
        .collect();
    shown.join(", ")
}

/// The reference's answers, one for each case.
fn ask(operation: &str, cases: &[Case]) -> Vec<Value> {
    let mut child = Command::new(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the reference starts");
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            for case in cases {
                let args: Vec<String> = case.iter().map(|arg| STANDARD.encode(arg)).collect();
                let line = json!({"op": operation, "args": args}).to_string();
                if stdin.write_all(line.as_bytes()).is_err() || stdin.write_all(b"\n").is_err() {
                    return;
                }
            }
        });
        child.wait_with_output().expect("the reference answers")
    });
    assert!(output.status.success(), "the reference failed: see above");
    let answers: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("the reference speaks JSON");
    assert_eq!(answers.len(), cases.len(), "an answer for each case");
    answers
}

/// The Unicode tables of the Go release that built the reference.
pub(crate) fn unicode_tables() -> Value {
    let tables = ask("unicode", &[vec![]]).remove(0);
    assert_eq!(
        tables["version"], "15.0.0",
        "Go has other Unicode tables now: write crates/gomod/src/unicode.rs anew, see conformance/README.md"
    );
    tables
}

/// Builds the reference, once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-reference");
        // The environment's GOPROXY brings the pinned module; go.sum says what it must be.
        let built = Command::new("go")
            .args(["build", "-trimpath", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(source)
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .output()
            .expect("the go command, which the conformance tests need, does not start");
        assert!(
            built.status.success(),
            "`go build` in conformance/ failed: {}",
            String::from_utf8_lossy(&built.stderr)
        );
        program
    })
}
