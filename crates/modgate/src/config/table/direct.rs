//! The settings of direct fetch: `[direct]`.

use super::super::setting::{
    Fallback::Value,
    Kind::{Count, Size, Time, Vcs},
    Setting,
};
use super::{DAY, GIB, HOUR, MIB, MONTH, SECOND, ZERO};

pub(super) const VCS: Setting = Setting {
    name: "direct.vcs",
    kind: Vcs,
    default: Value("\"public:git|hg,private:all\""),
    doc: "Which version control may be used for which modules.",
    example: "\"public:git,private:all\"",
    restart: false,
};

pub(super) const REFS_LIFE: Setting = Setting {
    name: "direct.refs_life",
    kind: Time(ZERO, HOUR),
    default: Value("\"60s\""),
    doc: "How long the branches and tags of a repository are believed for single versions. Lists and branches always ask anew.",
    example: "\"10s\"",
    restart: false,
};

pub(super) const DISCOVERY_LIFE: Setting = Setting {
    name: "direct.discovery_life",
    kind: Time(ZERO, MONTH),
    default: Value("\"1h\""),
    doc: "How long a module's repository, once found, is believed.",
    example: "\"1d\"",
    restart: false,
};

pub(super) const DISCOVERY_NEGATIVE_LIFE: Setting = Setting {
    name: "direct.discovery_negative_life",
    kind: Time(ZERO, DAY),
    default: Value("\"60s\""),
    doc: "How long it is believed that a path has no repository.",
    example: "\"10s\"",
    restart: false,
};

pub(super) const MAX_MIRRORS: Setting = Setting {
    name: "direct.max_mirrors",
    kind: Count(1, 1_000_000),
    default: Value("2000"),
    doc: "Mirrors of repositories kept; the least recently used goes.",
    example: "100",
    restart: false,
};

pub(super) const MAX_MIRROR_BYTES: Setting = Setting {
    name: "direct.max_mirror_bytes",
    kind: Size(16 * MIB, 64 * 1024 * GIB),
    default: Value("\"20GiB\""),
    doc: "All mirrors together; the least recently used goes.",
    example: "\"100GiB\"",
    restart: false,
};

pub(super) const MAX_REPOSITORY_BYTES: Setting = Setting {
    name: "direct.max_repository_bytes",
    kind: Size(16 * MIB, 64 * 1024 * GIB),
    default: Value("\"5GiB\""),
    doc: "One mirror; a repository that has more is not fetched. Never more than `max_mirror_bytes`.",
    example: "\"20GiB\"",
    restart: false,
};

pub(super) const PROCESS_TIMEOUT: Setting = Setting {
    name: "direct.process_timeout",
    kind: Time(SECOND, DAY),
    default: Value("\"10m\""),
    doc: "For one run of a version control program, such as a fetch.",
    example: "\"2m\"",
    restart: false,
};

pub(super) const MAX_PROCESSES: Setting = Setting {
    name: "direct.max_processes",
    kind: Count(1, 1024),
    default: Value("32"),
    doc: "Version control programs at once; more wait. One host gets at most half of them, and at most 8 over ssh: a default sshd closes connections when more than 10 log in at once (`MaxStartups`).",
    example: "4",
    restart: false,
};
