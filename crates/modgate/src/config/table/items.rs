//! Settings of the items of `route`, `upstream` and `credential`.

use super::{
    super::setting::{
        Fallback::{Found, Required, Unset, Value},
        Kind::{
            Chain, Choice, Count, Headers, Patterns, Secret, StatusMap, Switch, Text, Time, Url,
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
        doc: "For connecting, TLS included.",
        example: "\"1s\"",
        restart: false,
    },
    Setting {
        name: "first_byte_timeout",
        kind: Time(TENTH, HOUR),
        default: Value("\"10s\""),
        doc: "From the request sent to the head of the answer.",
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
        doc: "Further tries after a failure that may pass, where no other upstream is next.",
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

/// Keys of a `[[credential]]`.
pub(super) static CREDENTIAL: &[Setting] = &[
    Setting {
        name: "match",
        kind: Url,
        default: Required,
        doc: "URL prefix the credential is for.",
        example: "\"https://git.corp.example/team\"",
        restart: false,
    },
    Setting {
        name: "username",
        kind: Text,
        default: Unset,
        doc: "User name of Basic authentication.",
        example: "\"ci\"",
        restart: false,
    },
    Setting {
        name: "password",
        kind: Secret,
        default: Required,
        doc: "Where the password comes from. It is never shown.",
        example: "{ env = \"GIT_TOKEN\" }",
        restart: false,
    },
];
