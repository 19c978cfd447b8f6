//! The settings of the way out: `[network]`.

use super::super::setting::{
    Fallback::{Unset, Value},
    Kind::{Hosts, NoProxy, Path, PathsAndHosts, Proxy, Switch},
    Setting,
};

pub(super) const CA_FILE: Setting = Setting {
    name: "network.ca_file",
    kind: Path,
    default: Unset,
    doc: "PEM file with certificates that are trusted besides the system's. Read again when it changes.",
    example: "\"/etc/ssl/corp.pem\"",
    restart: false,
};

pub(super) const CA_ONLY: Setting = Setting {
    name: "network.ca_only",
    kind: Switch,
    default: Value("false"),
    doc: "Trust the certificates of `ca_file` instead of the system's.",
    example: "true",
    restart: false,
};

pub(super) const PROXY: Setting = Setting {
    name: "network.proxy",
    kind: Proxy,
    default: Unset,
    doc: "Egress proxy for everything modgate asks over http and https. A password in it is never shown. The proxy resolves names: what it lets pass to inside is its affair.",
    example: "\"http://user@egress:3128\"",
    restart: false,
};

pub(super) const HTTP_PROXY: Setting = Setting {
    name: "network.http_proxy",
    kind: Proxy,
    default: Unset,
    doc: "Another egress proxy for http.",
    example: "\"http://egress:3128\"",
    restart: false,
};

pub(super) const HTTPS_PROXY: Setting = Setting {
    name: "network.https_proxy",
    kind: Proxy,
    default: Unset,
    doc: "Another egress proxy for https.",
    example: "\"socks5h://egress:1080\"",
    restart: false,
};

pub(super) const NO_PROXY: Setting = Setting {
    name: "network.no_proxy",
    kind: NoProxy,
    default: Value("[]"),
    doc: "Hosts that are reached without the proxy: `host`, `*.domain`, an address or a network such as `10.0.0.0/8`.",
    example: "[\"*.corp.example\"]",
    restart: false,
};

pub(super) const INTERNAL_HOSTS: Setting = Setting {
    name: "network.internal_hosts",
    kind: Hosts,
    default: Value("[]"),
    doc: "Hosts that may have private or loopback addresses although module paths, pages and redirects name them: `host` or `*.domain`, with an optional `:port`. Upstreams and hosts in `[[vcs]]` need not be listed, nor where an upstream redirects to its own host on another port, or to another upstream.",
    example: "[\"git.corp.example\"]",
    restart: false,
};

pub(super) const INSECURE_HOSTS: Setting = Setting {
    name: "network.insecure_hosts",
    kind: PathsAndHosts,
    default: Value("[]"),
    doc: "Modules and hosts that direct fetch may ask over http and other schemes without encryption (GOINSECURE's patterns). Certificates are checked all the same.",
    example: "[\"old.corp.example\"]",
    restart: false,
};
