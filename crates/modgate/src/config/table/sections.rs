//! Headings of the reference.

/// A heading of the reference, with what its section is about.
#[derive(Debug)]
pub struct Section {
    /// Name before the dot; the setting's name for tables of items.
    pub name: &'static str,
    /// What it is about, in sentences.
    pub doc: &'static str,
}

/// Sections in the order of [`SETTINGS`](super::SETTINGS); the empty name is the top.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "",
        doc: "These stand at the top of the file, before any `[section]`.",
    },
    Section {
        name: "route",
        doc: "What holds for some modules. The first `[[route]]` whose patterns match a module path wins; without a match the top-level `chain` and `mode` hold.",
    },
    Section {
        name: "upstream",
        doc: "Settings of one upstream, by its URL as the chain has it: `[upstream.\"https://goproxy.cn\"]`. User and password of the URL and a slash at its end do not matter.",
    },
    Section {
        name: "sumdb",
        doc: "The checksum database every public module is verified against, and what happens where it does not help.",
    },
    Section {
        name: "freshness",
        doc: "How long answers that can change stay fresh, and how long they are served after that. What belongs to a canonical version never changes and is kept for ever.",
    },
    Section {
        name: "negative",
        doc: "How long negative answers are kept, so that a client that asks twice, or a crowd, costs upstream one request.",
    },
    Section {
        name: "cache",
        doc: "The memory tier above the disk.",
    },
    Section {
        name: "storage",
        doc: "Where what is kept is kept: tiers that are asked from the top, the last one of which keeps everything. What one finds is put into those above it. Without any `[[storage]]`: memory, then a disk in `data`. Which to use for what, and what happens when one is away: [storage.md](storage.md).",
    },
    Section {
        name: "records",
        doc: "The records: what is kept since when, retired versions, tree heads.",
    },
    Section {
        name: "replicas",
        doc: "Several processes that serve as one, over a shared bucket.",
    },
    Section {
        name: "backup",
        doc: "Backups on a schedule. `modgate backup` writes one at any time.",
    },
    Section {
        name: "limits",
        doc: "Bounds on clients, requests and downloads.",
    },
    Section {
        name: "tls",
        doc: "With `cert` and `key` the listener speaks TLS with HTTP/2; without them plain HTTP. Both files are read again when they change.",
    },
    Section {
        name: "log",
        doc: "What is logged, to standard error.",
    },
    Section {
        name: "async",
        doc: "Fetches that no client waits for: the modes `async` and `async_redirect`.",
    },
    Section {
        name: "metrics",
        doc: "Prometheus metrics.",
    },
    Section {
        name: "network",
        doc: "The way out, for upstreams, the checksum database and direct fetch.",
    },
    Section {
        name: "direct",
        doc: "Fetching from version control, where a chain says `direct`.",
    },
    Section {
        name: "vcs",
        doc: "Where the modules below a path prefix are, so that nothing needs to be discovered: for forges that do not answer `?go-get=1`, or that want ssh.",
    },
    Section {
        name: "vanity",
        doc: "Path prefixes whose modules clients get here without GOPROXY: `https://<path>?go-get=1` is answered with a `go-import` tag that names `public_url`, which must be set. The host of the prefix must lead to this gateway, with a certificate for it. Where the modules are is for a `[[route]]` or `[[vcs]]` to say: the host itself leads back here.",
    },
    Section {
        name: "credential",
        doc: "What is presented to whom: upstreams, pages that say where a module is, repositories. Each is one of a password, a token, a client certificate, an SSH key, a `.netrc` or a git credential helper. Of several that match, the one with the longest path counts. It goes to the origin it is for and to no other, also after redirects. An upstream's own `headers` and the user and password in its URL go before.",
    },
];
