//! The way out, credentials and version control.

use std::os::unix::fs::PermissionsExt as _;

use egress::{Kind, Secret};

use modgate::config::VcsMapping;

use super::{Bench, CERT, KEY};

const SSH_KEY: &str =
    "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";

/// A bench with these files, and the configuration with their folder for `DIR`.
fn bench(toml: &str, files: &[(&str, &str)]) -> Bench {
    let bench = Bench::new("").var("TOKEN", "hunter2");
    for (name, text) in files {
        let path = bench.write(name, text);
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).unwrap();
    }
    let dir = bench
        .path("")
        .to_string_lossy()
        .trim_end_matches('/')
        .to_owned();
    bench.write("modgate.toml", &toml.replace("DIR", &dir));
    bench
}

const FILES: &[(&str, &str)] = &[
    ("cert.pem", CERT),
    ("key.pem", KEY),
    ("id", SSH_KEY),
    (
        "locked",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
    ),
    ("hosts", "git.corp.example ssh-ed25519 AAAA\n"),
    ("netrc", "machine a.example login a password b\n"),
    ("token", "t0ken\n"),
];

#[test]
fn credentials_of_every_kind() {
    let toml = r#"
[[credential]]
match = "git.corp.example"
password = { file = "DIR/token" }

[[credential]]
match = "git.corp.example/team"
token = { command = ["vault", "read"] }

[[credential]]
match = "gitlab.corp.example"
header = "Private-Token"
token = { env = "TOKEN" }

[[credential]]
match = "git.corp.example"
client_cert = "DIR/cert.pem"
client_key = "DIR/key.pem"

[[credential]]
match = "ssh://git.corp.example"
username = "git"
ssh_key = "DIR/id"
known_hosts = "DIR/hosts"

[[credential]]
netrc = "DIR/netrc"

[[credential]]
match = "*.lab.example"
helper = ["git", "credential-store"]
"#;
    let loaded = bench(toml, FILES).loaded();
    let all = &loaded.config.credentials;
    let shown: Vec<String> = all
        .iter()
        .map(|credential| credential.matches.to_string())
        .collect();
    assert_eq!(
        shown,
        [
            "git.corp.example",
            "git.corp.example/team",
            "gitlab.corp.example",
            "git.corp.example",
            "ssh://git.corp.example",
            "*",
            "*.lab.example"
        ]
    );
    assert!(
        matches!(&all[0].kind, Kind::Basic { username, password: Secret::File(_) } if username == "git")
    );
    assert!(matches!(&all[1].kind, Kind::Bearer(Secret::Command(words)) if words.len() == 2));
    assert!(
        matches!(&all[2].kind, Kind::Header { name, value: Secret::Env { .. } } if name == "Private-Token")
    );
    assert!(matches!(&all[3].kind, Kind::ClientCertificate(_)));
    assert!(
        matches!(&all[4].kind, Kind::Ssh(key) if key.known_hosts.is_some() && key.username.as_deref() == Some("git"))
    );
    assert!(matches!(&all[5].kind, Kind::Netrc(_)));
    assert!(matches!(&all[6].kind, Kind::Helper(words) if words[0] == "git"));
    let text = format!("{:?} {:?}", loaded.config, loaded.origins);
    assert!(
        !text.contains("hunter2") && !text.contains("t0ken"),
        "{text}"
    );
}

#[test]
fn mistakes_in_credentials() {
    for (body, line, message, hint) in [
        (
            "username = \"ci\"\npassword = { env = \"TOKEN\" }",
            1,
            "`match` is missing",
            "for example",
        ),
        (
            "match = \"h.example\"",
            1,
            "nothing to present",
            "`ssh_key`",
        ),
        (
            "match = \"h.example\"\ntoken = { env = \"TOKEN\" }\nnetrc = \"DIR/netrc\"",
            4,
            "`token` and `netrc`",
            "a [[credential]] for each",
        ),
        (
            "match = \"h.example\"\ntoken = \"t0ps3cret\"",
            3,
            "not written into the configuration",
            "{ env =",
        ),
        (
            "match = \"h.example\"\ntoken = { evn = \"TOKEN\" }",
            3,
            "no source of a secret",
            "`env`",
        ),
        (
            "match = \"h.example\"\nheader = \"A B\"\ntoken = { env = \"TOKEN\" }",
            3,
            "no name of a header",
            "",
        ),
        (
            "match = \"h.example\"\nheader = \"X\"\npassword = { env = \"TOKEN\" }",
            3,
            "`header` means nothing here",
            "`token`",
        ),
        (
            "match = \"h.example\"\nclient_cert = \"DIR/cert.pem\"",
            3,
            "`client_key` is not",
            "both",
        ),
        (
            "match = \"h.example\"\nclient_cert = \"DIR/key.pem\"\nclient_key = \"DIR/key.pem\"",
            3,
            "no certificate",
            "swapped",
        ),
        (
            "match = \"h.example\"\nssh_key = \"DIR/locked\"",
            3,
            "passphrase",
            "ssh-keygen",
        ),
        (
            "match = \"h.example\"\nssh_key = \"DIR/hosts\"",
            3,
            "no private SSH key",
            ".pub",
        ),
        (
            "match = \"h.example\"\nssh_key = \"DIR/none\"",
            3,
            "cannot be read",
            "check that",
        ),
        (
            "match = \"https://h.example\"\nssh_key = \"DIR/id\"",
            2,
            "over ssh only",
            "ssh://",
        ),
        (
            "match = \"ssh://h.example\"\ntoken = { env = \"TOKEN\" }",
            2,
            "only a key is used over ssh",
            "`ssh_key`",
        ),
        (
            "match = \"*\"\ntoken = { env = \"TOKEN\" }",
            2,
            "to every host",
            "name the host",
        ),
        (
            "match = \"ftp://h.example\"\ntoken = { env = \"TOKEN\" }",
            2,
            "carries no credentials",
            "",
        ),
        (
            "match = \"https://u:t0ps3cret@h.example\"\ntoken = { env = \"TOKEN\" }",
            2,
            "password does not belong",
            "",
        ),
        (
            "match = \"h.example\"\nhelper = []",
            3,
            "the command is empty",
            "",
        ),
        (
            "match = \"h.example\"\ntoken = { env = \"TOKEN\" }\n[[credential]]\nmatch = \"h.example\"\ntoken = { env = \"TOKEN\" }",
            4,
            "is for `h.example` too",
            "the first",
        ),
        (
            "match = \"h.example\"\ntokn = { env = \"TOKEN\" }\nnetrc = \"DIR/netrc\"",
            3,
            "unknown key `tokn`",
            "`token`",
        ),
    ] {
        only(&format!("[[credential]]\n{body}\n"), line, message, hint);
    }
}

/// Checks the only mistake of a configuration.
#[track_caller]
fn only(toml: &str, line: usize, message: &str, hint: &str) {
    let mistakes = bench(toml, FILES).load().unwrap_err();
    let text = mistakes.to_string();
    assert_eq!(mistakes.iter().count(), 1, "{toml}\n{text}");
    let mistake = mistakes.iter().next().unwrap();
    assert_eq!(mistake.spot.as_ref().unwrap().line, line, "{text}");
    assert!(mistake.message.contains(message), "{text}");
    assert!(
        mistake.hint.as_deref().unwrap_or_default().contains(hint),
        "{text}"
    );
    assert!(!text.contains("t0ps3cret"), "{text}");
}

#[test]
fn the_way_out() {
    let toml = "[network]\nca_file = \"DIR/cert.pem\"\nca_only = true\nproxy = \"http://me:hunter2@egress:3128\"\n\
        https_proxy = \"socks5h://egress:1080\"\ninsecure_hosts = [\"old.corp.example/*\", \"git.corp.example:8080\"]\n";
    let loaded = bench(toml, FILES).loaded();
    let network = &loaded.config.network;
    assert!(network.ca_only && network.ca.is_some());
    assert_eq!(
        network.proxy.as_ref().unwrap().expose(),
        "http://me:hunter2@egress:3128"
    );
    assert_eq!(
        network.https_proxy.as_ref().unwrap().expose(),
        "socks5h://egress:1080"
    );
    assert!(network.http_proxy.is_none());
    assert!(network.insecure_hosts.matches_str("old.corp.example/x/y"));
    let text = format!("{:?} {:?}", loaded.config, loaded.origins);
    assert!(
        !text.contains("hunter2") && text.contains("egress:3128"),
        "{text}"
    );
    for (body, message, hint) in [
        (
            "ca_only = true",
            "no certificate would be trusted",
            "`network.ca_file`",
        ),
        ("proxy = \"egress:3128\"", "a URL with a scheme", "http://"),
        (
            "proxy = \"sock5://egress:1080\"",
            "no scheme of a proxy",
            "`socks5`",
        ),
        (
            "http_proxy = \"http://me:t0ps3cret@\"",
            "not the URL of a proxy",
            "%XX",
        ),
        // What matches nothing would be found out one refusal after the other.
        (
            "internal_hosts = [\"git.corp.example/team\"]",
            "`git.corp.example/team` is not a host",
            "without a path",
        ),
        (
            "internal_hosts = [\"*\"]",
            "`*` is not a host",
            "`*.domain`",
        ),
        (
            "no_proxy = [\"10.0.0.0/33\"]\nproxy = \"http://egress:3128\"",
            "`10.0.0.0/33` is not a host",
            "10.0.0.0/8",
        ),
        ("insecure_hosts = [\"http://h\"]", "no scheme", "host/path"),
        ("insecure_hosts = [\"me@h:80/x\"]", "without port", "leave"),
    ] {
        only(&format!("[network]\n{body}\n"), 2, message, hint);
    }
}

#[test]
fn direct_and_vcs() {
    let toml = "chain = \"direct\"\nprivate = [\"git.corp.example/*\", \"hg.corp.example\", \"gopkg.in/corp\"]\n[direct]\nrefs_life = \"5s\"\nmax_mirror_bytes = \"1GiB\"\n\
        [[vcs]]\nprefix = \"git.corp.example/team/\"\nrepo = \"ssh://git@git.corp.example:2222/team/{1}.git\"\n\
        [[vcs]]\nprefix = \"hg.corp.example\"\nrepo = \"https://hg.corp.example/{1}/{2}\"\nvcs = \"hg\"\nsubdir = \"pkgs/go\"\n\
        [[vcs]]\nprefix = \"go.corp.example\"\nrepo = \"git@git.corp.example:all/{1}.git\"\n\
        [[vcs]]\nprefix = \"gopkg.in/corp\"\nrepo = \"https://gopkg.corp.example/{1}\"\n";
    let loaded = bench(toml, &[]).loaded();
    let direct = &loaded.config.direct;
    assert_eq!(
        (direct.refs_life.as_secs(), direct.max_mirror_bytes),
        (5, 1 << 30)
    );
    assert_eq!((direct.max_mirrors, direct.max_processes), (2000, 32));
    let vcs = &loaded.config.vcs;
    assert_eq!(
        (vcs[0].prefix.as_str(), vcs[0].vcs),
        ("git.corp.example/team", "git")
    );
    assert_eq!((vcs[1].vcs, vcs[1].subdir.as_str()), ("hg", "pkgs/go"));
    let hosts: Vec<_> = vcs.iter().filter_map(VcsMapping::host).collect();
    assert_eq!(
        hosts,
        [
            "git.corp.example:2222",
            "hg.corp.example:443",
            "git.corp.example:22",
            "gopkg.corp.example:443"
        ]
    );
    assert_eq!(loaded.notices.len(), 1);
    assert!(
        loaded.notices[0].contains("[[vcs]] `go.corp.example` are public"),
        "{:?}",
        loaded.notices
    );

    // All modules of the mapping are so far below its prefix.
    for (private, told) in [("git.corp.example/*/*", 0), ("git.corp.example/*/*/*", 1)] {
        let toml = format!(
            "private = [\"{private}\"]\n[[vcs]]\nprefix = \"git.corp.example\"\nrepo = \"https://git.corp.example/{{1}}/{{2}}\"\n"
        );
        assert_eq!(bench(&toml, &[]).loaded().notices.len(), told, "{private}");
    }

    // Without encryption nothing is asked of a repository that is not listed.
    for (repo, insecure, told) in [
        ("http://10.0.0.1:8080/{1}.git", "", true),
        ("git://git.corp.example/{1}.git", "other.example", true),
        ("http://10.0.0.1:8080/{1}.git", "10.0.0.1", false),
        ("http://10.0.0.1:8080/{1}.git", "10.0.0.1:8080", false),
        ("http://10.0.0.1:8080/{1}.git", "go.corp.example/x", false),
        ("http://git-{1}.corp.example/a", "a.corp.example", false),
        ("https://git.corp.example/{1}.git", "", false),
        ("git@git.corp.example:{1}.git", "", false),
    ] {
        let toml = format!(
            "private = [\"go.corp.example/*\"]\n[network]\ninsecure_hosts = [{}]\n\
             [[vcs]]\nprefix = \"go.corp.example\"\nrepo = \"{repo}\"\n",
            if insecure.is_empty() {
                String::new()
            } else {
                format!("{insecure:?}")
            }
        );
        let notices = bench(&toml, &[]).loaded().notices;
        assert_eq!(notices.len(), usize::from(told), "{repo}: {notices:?}");
        assert!(
            notices
                .iter()
                .all(|notice| notice.contains("is not encrypted")),
            "{notices:?}"
        );
    }

    let mapping = "repo = \"https://h.example/{1}\"";
    for (body, line, message, hint) in [
        (
            "prefix = \"h.example\"".to_owned(),
            1,
            "`repo` is missing",
            "for example",
        ),
        (
            format!("prefix = \"https://h.example\"\n{mapping}"),
            2,
            "begins no module path",
            "without scheme",
        ),
        (
            format!("prefix = \"h.example/*\"\n{mapping}"),
            2,
            "begins no module path",
            "`*`",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"https://h.example/{0}\"".to_owned(),
            3,
            "a number from 1 to 9",
            "{1}",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"https://h.example/{1\"".to_owned(),
            3,
            "a number from 1 to 9",
            "",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"file:///srv/{1}\"".to_owned(),
            3,
            "over this scheme",
            "",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"ext::sh\"".to_owned(),
            3,
            "it is no URL",
            "",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"ssh://-oX/{1}\"".to_owned(),
            3,
            "names no host",
            "",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"https://{1}/x\"".to_owned(),
            3,
            "names no host",
            "",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"https://t0ps3cret@h.example/{1}\"".to_owned(),
            3,
            "token",
            "[[credential]]",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"https://h.example/{1}?private_token=t0ps3cret\""
                .to_owned(),
            3,
            "none of a repository",
            "[[credential]]",
        ),
        (
            "prefix = \"h.example\"\nrepo = \"https://u:t0ps3cret@h.example/{1}\"".to_owned(),
            3,
            "password",
            "[[credential]]",
        ),
        (
            format!("prefix = \"h.example\"\n{mapping}\nvcs = \"gti\""),
            4,
            "not possible",
            "\"git\"",
        ),
        (
            format!("prefix = \"h.example\"\n{mapping}\nsubdir = \"../x\""),
            4,
            "no folder",
            "pkgs/go",
        ),
        (
            format!(
                "prefix = \"h.example\"\n{mapping}\n[[vcs]]\nprefix = \"h.example/\"\n{mapping}"
            ),
            5,
            "another [[vcs]]",
            "one of them",
        ),
    ] {
        only(&format!("[[vcs]]\n{body}\n"), line, message, hint);
    }
}
