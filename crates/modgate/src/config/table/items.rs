//! Settings of the items of `route`, `upstream`, `vcs` and `credential`.

use super::{
    super::setting::{
        Fallback::{Found, Required, Unset, Value},
        Kind::{
            Chain, Choice, Command, Count, Headers, Path, Patterns, Prefix, Secret, StatusMap,
            Switch, Text, Time, Url,
        },
        Setting,
    },
    HOUR, MINUTE, MODES, TENTH,
};

/// Keys of a `[[route]]`.
pub(super) static ROUTE: &[Setting] = &[
    Setting {
        name: "match",
        kind: Patterns,
        default: Required,
        doc: "Module paths the route holds for; at least one pattern.",
        example: "[\"git.corp.example/*\"]",
        restart: false,
    },
    Setting {
        name: "chain",
        kind: Chain,
        default: Found("the top-level `chain` for public modules, `direct` for private ones"),
        doc: "Upstreams of these modules, in order.",
        example: "\"direct\"",
        restart: false,
    },
    Setting {
        name: "mode",
        kind: Choice(MODES),
        default: Found("the top-level `mode`, though never a redirect for a private module"),
        doc: "Download mode of these modules. `redirect` and `async_redirect` are refused where a private module could match.",
        example: "\"sync\"",
        restart: false,
    },
];

/// Keys of an `[upstream."URL"]`.
pub(super) static UPSTREAM: &[Setting] = &[
    Setting {
        name: "base_url",
        kind: Url,
        default: Unset,
        doc: "Where requests really go, instead of to the URL of the chain.",
        example: "\"https://mirror.corp.example/goproxy\"",
        restart: false,
    },
    Setting {
        name: "headers",
        kind: Headers,
        default: Value("{}"),
        doc: "Headers of every request to it. They are never shown and not sent to another host.",
        example: "{ Authorization = { env = \"UPSTREAM_AUTH\" } }",
        restart: false,
    },
    Setting {
        name: "status_map",
        kind: StatusMap,
        default: Value("{}"),
        doc: "Read a status as another one, for mirrors that answer 403 for what they do not have.",
        example: "{ 403 = 404 }",
        restart: false,
    },
    Setting {
        name: "connect_timeout",
        kind: Time(TENTH, MINUTE),
        default: Value("\"3s\""),
        doc: "For connecting, TLS included, and for a free place under `max_concurrent`. An upstream that lets a request wait longer while the next one of the chain answers is taken for dead until it answers again.",
        example: "\"1s\"",
        restart: false,
    },
    Setting {
        name: "first_byte_timeout",
        kind: Time(TENTH, HOUR),
        default: Value("\"10s\""),
        doc: "For the head of the answer, connecting and redirects included.",
        example: "\"30s\"",
        restart: false,
    },
    Setting {
        name: "idle_timeout",
        kind: Time(TENTH, HOUR),
        default: Value("\"10s\""),
        doc: "Between two pieces of a body.",
        example: "\"30s\"",
        restart: false,
    },
    Setting {
        name: "max_concurrent",
        kind: Count(1, 10_000),
        default: Value("64"),
        doc: "Requests in flight at once.",
        example: "16",
        restart: false,
    },
    Setting {
        name: "retries",
        kind: Count(0, 10),
        default: Value("2"),
        doc: "Further tries after a failure that may pass, where no other upstream is next. Where one is, a request whose connection was lost is still tried once more; not with 0.",
        example: "0",
        restart: false,
    },
    Setting {
        name: "hedge",
        kind: Switch,
        default: Value("true"),
        doc: "Ask the next upstream too when this one is slower than its usual 95 %.",
        example: "false",
        restart: false,
    },
];

/// Keys of a `[[vcs]]`.
pub(super) static VCS: &[Setting] = &[
    Setting {
        name: "prefix",
        kind: Text,
        default: Required,
        doc: "Beginning of the module paths it holds for, in whole elements. The longest one wins.",
        example: "\"git.corp.example/team\"",
        restart: false,
    },
    Setting {
        name: "repo",
        kind: Text,
        default: Required,
        doc: "Where the repository is. `{1}` stands for the first path element behind `prefix`, `{2}` for the second, up to `{9}`; these elements belong to the path of the repository's root, what follows is a folder in it. A major version at the end, as in `/v2`, is no element; that of `gopkg.in/corp/lib.v1` belongs to the last one. Plain http only for what `network.insecure_hosts` lists. No user, token or query for http and https: clients are told where their modules are from. A host written here may have an internal address.",
        example: "\"ssh://git@git.corp.example/team/{1}.git\"",
        restart: false,
    },
    Setting {
        name: "vcs",
        kind: Choice(&["git", "hg", "svn", "bzr", "fossil"]),
        default: Value("\"git\""),
        doc: "The version control system.",
        example: "\"hg\"",
        restart: false,
    },
    Setting {
        name: "subdir",
        kind: Text,
        default: Unset,
        doc: "Folder in the repository that stands for its path, if that is not its root. What follows in a module's path is a folder in this one: with `subdir = \"go\"` the module `x` below it is in `go/x`, with tags such as `go/x/v1.0.0`.",
        example: "\"go\"",
        restart: false,
    },
];

/// Keys of a `[[vanity]]`.
pub(super) static VANITY: &[Setting] = &[Setting {
    name: "prefix",
    kind: Text,
    default: Required,
    doc: "Beginning of the module paths it holds for, in whole elements. The longest one wins. A private prefix is told to whoever asks for it by its whole name, as the others are.",
    example: "\"go.corp.example/team\"",
    restart: false,
}];

/// Keys of a `[[credential]]`.
pub(super) static CREDENTIAL: &[Setting] = &[
    Setting {
        name: "match",
        kind: Prefix,
        default: Found("must be set; with `netrc` and `helper` `\"*\"`, all hosts that these know"),
        doc: "What the credential is for: a host, a host and the beginning of a path, `*.domain`, with or without scheme and port. Without a scheme it is used for https and ssh; over plain http only if `http://` is written. The last path element also stands for the repository of that name with `.git`.",
        example: "\"https://git.corp.example/team\"",
        restart: false,
    },
    Setting {
        name: "username",
        kind: Text,
        default: Found("`git` with `password`, the user in the URL with `ssh_key`"),
        doc: "User of Basic authentication, or who logs in over ssh.",
        example: "\"ci\"",
        restart: false,
    },
    Setting {
        name: "password",
        kind: Secret,
        default: Unset,
        doc: "Basic authentication: where the password comes from. It is never shown. A file is read again when it changes, a command is asked again every 5 minutes and after a refusal.",
        example: "{ env = \"GIT_TOKEN\" }",
        restart: false,
    },
    Setting {
        name: "token",
        kind: Secret,
        default: Unset,
        doc: "A token, sent as `Authorization: Bearer`, or in the header that `header` names. Where it comes from, as for `password`.",
        example: "{ command = [\"vault\", \"read\", \"-field=token\", \"secret/git\"] }",
        restart: false,
    },
    Setting {
        name: "header",
        kind: Text,
        default: Unset,
        doc: "The header that carries `token`.",
        example: "\"Private-Token\"",
        restart: false,
    },
    Setting {
        name: "client_cert",
        kind: Path,
        default: Unset,
        doc: "TLS client certificate: PEM file, leaf first. May stand beside a password or token in a `[[credential]]` of its own.",
        example: "\"/etc/modgate/client.crt\"",
        restart: false,
    },
    Setting {
        name: "client_key",
        kind: Path,
        default: Unset,
        doc: "PEM file with the key of `client_cert`.",
        example: "\"/etc/modgate/client.key\"",
        restart: false,
    },
    Setting {
        name: "ssh_key",
        kind: Path,
        default: Unset,
        doc: "Private SSH key without passphrase, which nobody but modgate's user may read.",
        example: "\"/etc/modgate/id_ed25519\"",
        restart: false,
    },
    Setting {
        name: "known_hosts",
        kind: Path,
        default: Unset,
        doc: "The keys of SSH servers, as `ssh-keyscan` prints them. Without it those that modgate's user and the system know. A server with another key is never asked.",
        example: "\"/etc/modgate/known_hosts\"",
        restart: false,
    },
    Setting {
        name: "netrc",
        kind: Path,
        default: Unset,
        doc: "A `.netrc` with users and passwords by host; `default` in it does not count. Read again when it changes.",
        example: "\"/etc/modgate/netrc\"",
        restart: false,
    },
    Setting {
        name: "helper",
        kind: Command,
        default: Unset,
        doc: "A git credential helper: the program with its arguments, to which `get` is added. It has 15 s and no terminal. What it says is believed for 5 minutes.",
        example: "[\"git\", \"credential-store\", \"--file\", \"/etc/modgate/git-credentials\"]",
        restart: false,
    },
];
