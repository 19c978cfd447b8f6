//! Paths, versions, pseudo-versions.

use gomod::{ModulePath, Request, Version, semver};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    exceptions::Exception,
    random::Random,
    reference::{Case, Difference, agree, case, text},
};

/// What paths are made of, good and bad.
const PATH_PIECES: &[&str] = &[
    "a",
    "Z",
    "9",
    "0",
    ".",
    "-",
    "_",
    "~",
    "~1",
    "~12x",
    "/",
    "//",
    "v2",
    "/v2",
    "/v1",
    "/v0",
    "/v02",
    "/v",
    "/v2.1",
    "/v.",
    ".v1",
    ".v0",
    ".v01",
    "-unstable",
    "com",
    "COM1",
    "con",
    "CON.x",
    "aux",
    "nul",
    "lpt9",
    "lpt0",
    "com\u{b9}",
    "\u{e9}",
    "\u{212a}",
    "\u{130}",
    "\u{661}",
    "\u{0301}",
    "\u{1f600}",
    "\0",
    "\n",
    " ",
    "!",
    "!a",
    "!A",
    "!!",
    "+",
    "@",
    "\\",
    ":",
    "*",
    "?",
    "%",
    "..",
    "\u{fffd}",
    "\u{feff}",
    "\u{202e}",
    "\u{ff0e}",
    "\u{2215}",
    "prn",
    "gopkg.in/",
];

const REAL_PATHS: &[&str] = &[
    "github.com/BurntSushi/toml",
    "github.com/Azure/azure-sdk-for-go/sdk/azcore",
    "golang.org/x/mod",
    "gopkg.in/yaml.v3",
    "gopkg.in/check.v1",
    "gopkg.in/src-d/go-git.v4",
    "gopkg.in/x.v1-unstable",
    "git.sr.ht/~sircmpwn/getopt",
    "k8s.io/client-go",
    "example.com/m/v2",
    "example.com/m/v10",
    "a.b",
    "rsc.io/quote/v3",
    "github.com/!azure/go-autorest",
    "modernc.org/sqlite",
    "xn--mller-kva.example/x",
    "sigs.k8s.io/controller-runtime",
    "github.com/a/b/v2/c",
];

const VERSION_PIECES: &[&str] = &[
    "v",
    "0",
    "1",
    "9",
    "00",
    "01",
    ".",
    "-",
    "+",
    "a",
    "B",
    "rc",
    "-0",
    "-0.",
    ".0.",
    "-rc.1",
    "+incompatible",
    "+meta",
    "20190101000000",
    "-20190101000000-abcdefabcdef",
    "99991231235959",
    "20190229000000",
    "00000000000000",
    "20190101000060",
    "20190101240000",
    "abcdefabcdef",
    "-abcdefabcdef",
    "99999999999999999999999",
    "000000000000",
    "\u{e9}",
    "\u{661}",
    " ",
    "/",
    "_",
    "!r",
    "!!",
    "!A",
    "con",
    "nul.x",
    "#$%&()",
    "[]^_{}",
    "\\",
    "\u{7f}",
    "!",
    "~",
    "\0",
];

const REAL_VERSIONS: &[&str] = &[
    "v0.0.0",
    "v1.2.3",
    "v1.2",
    "v1",
    "v2.0.0+incompatible",
    "v1.2.3+meta",
    "v1.0.0-rc.1",
    "v1.0.0-RC1",
    "v1.0.0-alpha.beta.11",
    "v0.0.0-20190101000000-abcdefabcdef",
    "v1.2.4-0.20190101000000-abcdefabcdef",
    "v1.2.0-0.20190101000000-abcdefabcdef",
    "v1.2.10-0.20190101000000-abcdefabcdef+incompatible",
    "v1.2.3-pre.0.20190101000000-abcdefabcdef",
    "v1.2.3-a-b.0.20190101000000-abcdefabcdef",
    "v1.2.3-a-0.20190101000000-abcdefabcdef",
    "v1.2.3-a.b-0.20190101000000-abcdefabcdef",
    "v2.0.0-20190101000000-abcdefabcdef+incompatible",
    "v2.0.0-0.20190101000000-000000000003",
    "v10.20.0-20230229111111-x",
    "v0.0.1-go1.25.5.linux-amd64",
    "master",
    "latest",
    "",
    "v",
    "v1.2.3+incompatible.1",
    "v1.2.3-+incompatible",
    "v1.2.3-0.0.20190101000000-abcdefabcdef",
    "v1.2.3-00.20190101000000-abcdefabcdef",
    "v1.2.3--0.20190101000000-abcdefabcdef",
    "v1.2.3-0.20190101000000-abcdefabcdef+a.b-c",
];

pub(crate) fn some_path(random: &mut Random) -> String {
    match random.below(3) {
        0 => random.sentence(PATH_PIECES, 1, 8),
        1 => {
            let path = random.pick(REAL_PATHS);
            random.mutate(path, PATH_PIECES)
        }
        _ => {
            let hosts = ["a.com", "gopkg.in", "A.com", "nodot", "-a.com", "a-b.c9"];
            format!(
                "{}/{}",
                random.pick(&hosts),
                random.sentence(PATH_PIECES, 1, 5)
            )
        }
    }
}

fn some_version(random: &mut Random) -> String {
    match random.below(3) {
        0 => random.sentence(VERSION_PIECES, 1, 8),
        1 => {
            let version = random.pick(REAL_VERSIONS);
            random.mutate(version, VERSION_PIECES)
        }
        _ => format!(
            "v{}.{}.{}{}",
            random.below(12),
            random.below(12),
            random.below(12),
            random.sentence(VERSION_PIECES, 0, 4)
        ),
    }
}

#[test]
fn paths() {
    let mut random = Random::new(1);
    let mut cases: Vec<Case> = REAL_PATHS.iter().map(|path| case([path])).collect();
    for base in ["a.com/x", "gopkg.in/x"] {
        for piece in PATH_PIECES {
            for joined in [
                format!("{base}{piece}"),
                format!("{base}/{piece}"),
                format!("{piece}{base}"),
                format!("{base}/{piece}.x"),
                format!("{base}/x{piece}"),
            ] {
                cases.push(case([&joined]));
            }
        }
    }
    for ascii in 0..128u8 {
        let c = char::from(ascii);
        cases.push(case([&format!("a.com/x{c}y")]));
        cases.push(case([&format!("a{c}.com/x")]));
    }
    cases.extend((0..20_000).map(|_| case([&some_path(&mut random)])));
    agree("path", &cases, our_path, |_| None, &[]);
}

fn our_path(case: &Case) -> Value {
    let text = text(case, 0);
    let parsed = ModulePath::parse(text).ok();
    json!({
        "path": parsed.is_some(),
        "escape": parsed.as_ref().map(ModulePath::escaped),
        "split": parsed.as_ref().map(ModulePath::split_major),
        "unescape": ModulePath::from_escaped(text).ok().as_ref().map(ModulePath::as_str),
    })
}

#[test]
fn versions() {
    let mut random = Random::new(2);
    let mut cases: Vec<Case> = REAL_VERSIONS.iter().map(|v| case([v])).collect();
    cases.extend((0..30_000).map(|_| case([&some_version(&mut random)])));
    agree("version", &cases, our_version, |_| None, &[]);
}

fn our_version(case: &Case) -> Value {
    let text = text(case, 0);
    let parts = semver::parse(text);
    let module = semver::canonical(text).unwrap_or_default();
    let canonical = module.strip_suffix("+incompatible").unwrap_or(&module);
    let mut facts = json!({
        "valid": parts.is_some(),
        "canonical": canonical,
        "major": parts.map_or_else(String::new, |parts| format!("v{}", parts.major)),
        "prerelease": parts.map_or("", |parts| parts.prerelease),
        "build": parts.map_or("", |parts| parts.build),
    });
    // The type holds canonical versions alone; what it says of them is compared, and that it holds all of them.
    facts["module"] = json!(module);
    match Version::parse(text) {
        Ok(version) => {
            assert_eq!(module, text);
            facts["pseudo"] = json!(version.is_pseudo());
            facts["escape"] = json!(version.escaped());
            facts["rev"] = json!(version.pseudo().map(|pseudo| pseudo.rev));
            let time = version.pseudo().and_then(|pseudo| pseudo.time());
            facts["time"] = json!(time.map(OffsetDateTime::unix_timestamp));
            let base = version.pseudo_base().ok();
            let base = base.map(|base| base.map_or_else(String::new, |base| base.to_string()));
            facts["base"] = json!(base);
        }
        Err(_) => assert!(module != text || text.is_empty(), "{text}"),
    }
    facts["unescape"] = json!(asked(text));
    if let Ok(version) = Version::from_escaped(text) {
        assert_eq!(facts["unescape"], version.as_str());
    }
    facts
}

/// What a request for this escaped version asks for: a version or a query.
fn asked(escaped: &str) -> Option<String> {
    let encoded: String = escaped
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    match Request::parse(&format!("/a.com/m/@v/{encoded}.info")).ok()? {
        Request::Info(_, version) => Some(version.to_string()),
        Request::Query(_, query) => Some(query.to_string()),
        other => panic!("{escaped:?} became {other:?}"),
    }
}

#[test]
fn order() {
    let mut random = Random::new(3);
    let mut cases = Vec::new();
    for a in REAL_VERSIONS {
        cases.extend(REAL_VERSIONS.iter().map(|b| case([a, b])));
    }
    for _ in 0..15_000 {
        let a = some_version(&mut random);
        let b = if random.chance(2) {
            some_version(&mut random)
        } else {
            random.mutate(&a, VERSION_PIECES)
        };
        cases.push(case([&a, &b]));
    }
    let ours = |case: &Case| json!({"order": semver::compare(text(case, 0), text(case, 1)) as i8});
    agree("compare", &cases, ours, |_| None, &[]);
}

#[test]
fn majors() {
    let mut random = Random::new(4);
    let mut cases = Vec::new();
    for path in REAL_PATHS {
        cases.extend(REAL_VERSIONS.iter().map(|version| case([path, version])));
    }
    for _ in 0..15_000 {
        let suffixes = [
            "",
            "/v2",
            "/v3",
            "/v10",
            ".v0",
            ".v1",
            ".v2",
            "/v1",
            ".v1-unstable",
            ".v2-unstable",
            ".v-unstable",
            ".v0-unstable",
        ];
        let path = format!(
            "{}/x{}",
            random.pick(&["a.com", "gopkg.in", "gopkg.in/u"]),
            random.pick(&suffixes)
        );
        cases.push(case([&path, &some_version(&mut random)]));
    }
    agree("check", &cases, our_check, |_| None, &[]);
}

/// `module.Check` knows short and tagged versions too; the type does not, so those are not compared.
fn our_check(case: &Case) -> Value {
    let (path, version) = (text(case, 0), text(case, 1));
    if semver::parse(version).is_some_and(|parts| !parts.full)
        || semver::parse(version).is_some() && Version::parse(version).is_err()
    {
        return json!({});
    }
    let fits = ModulePath::parse(path).is_ok_and(|path| {
        Version::parse(version).is_ok_and(|version| version.check_major(&path).is_ok())
    });
    json!({"ok": fits})
}

#[test]
fn pseudo_versions() {
    let mut random = Random::new(6);
    let mut cases = Vec::new();
    let times = [
        "0",
        "1546300800",
        "-62135596800",
        "253402300799",
        "951782400",
        "-1",
    ];
    for older in REAL_VERSIONS {
        for major in ["", "v0", "v1", "v2"] {
            cases.push(case([major, older, random.pick(&times), "abcdefabcdef"]));
        }
    }
    for _ in 0..10_000 {
        let older = match random.below(4) {
            0 => String::new(),
            1 => format!("v1.2.{}", "9".repeat(random.below(5) + 1)),
            _ => some_version(&mut random),
        };
        let seconds = random.below(4_000_000_000).to_string();
        let time = if random.chance(4) {
            random.pick(&times)
        } else {
            &seconds
        };
        let rev = random.pick(&["abcdefabcdef", "000000000003", "x", "", "a-b", "\u{e9}"]);
        cases.push(case([
            random.pick(&["", "v0", "v1", "v2", "v33", "1"]),
            &older,
            time,
            rev,
        ]));
    }
    let expected = [
        Exception::PseudoOfNoVersion,
        Exception::PseudoOfBadParts,
        Exception::PseudoWithMetadata,
    ];
    agree("pseudo", &cases, our_pseudo, excuse_pseudo, &expected);
}

fn our_pseudo(case: &Case) -> Value {
    let seconds = text(case, 2).parse().unwrap();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let older = Some(text(case, 1)).filter(|older| !older.is_empty());
    let major = match text(case, 0) {
        "" => "v0",
        major => major,
    };
    let made = Version::pseudo_version(major, older, time, text(case, 3));
    json!({"version": made.ok().map(|version| version.to_string())})
}

fn excuse_pseudo(difference: &Difference<'_>) -> Option<Exception> {
    let older = text(difference.case, 1);
    let build = semver::parse(older).map(|parts| parts.build);
    if let Some(ours) = difference.ours.as_str() {
        let metadata = build.filter(|build| !matches!(*build, "" | "+incompatible"))?;
        return (difference.theirs == &json!(format!("{ours}{metadata}")))
            .then_some(Exception::PseudoWithMetadata);
    }
    if !older.is_empty() && build.is_none() {
        return Some(Exception::PseudoOfNoVersion);
    }
    // What the reference made is then no pseudo-version, or not one that a module may have.
    let theirs = difference.theirs.as_str()?;
    let pseudo = Version::parse(theirs).is_ok_and(|version| version.is_pseudo());
    (!pseudo).then_some(Exception::PseudoOfBadParts)
}
