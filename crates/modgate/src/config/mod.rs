//! Configuration: raw values, then checked ones.
//!
//! [`Config::load`] reads the file, lays the environment over it and flags over
//! both (`layers`), and checks everything into a [`Config`] (`check`). It
//! reports every [`Mistake`] at once and remembers the [`Origin`] of each value.
//! All that can be set is in one table ([`SETTINGS`]), from which come the names
//! that are known, the environment variables, `docs/configuration.md` and the
//! output of `modgate check`.

mod check;
mod checked;
mod env;
mod goenv;
mod itself;
mod kinds;
mod layers;
mod mistake;
mod module_patterns;
mod nearest;
mod origin;
mod overlap;
mod reader;
mod redact;
mod reference;
mod reload;
mod secret;
mod setting;
mod source;
mod stamp;
mod table;
mod unit_hint;
mod units;

pub use check::Loaded;
pub use checked::{
    Background, Backup, BackupTarget, CaFile, Cache, Config, Coordinate, Database, Direct,
    DiskTier, Freshness, Limits, Log, LogFormat, LogLevel, Metrics, Mode, Negative, Network,
    ObjectService, ObjectTier, Persist, Records, RedisTier, Replicas, Route, Sumdb, Tier, Tls,
    Unknown, Unreachable, Upstream, VcsMapping, VcsRule,
};
pub use env::Env;
pub use itself::upstream_key;
pub use layers::{Flags, Sources, Uses};
pub use mistake::{Mistake, Mistakes, Spot};
pub use origin::{Effective, Origin, Origins};
pub use reference::reference;
pub use reload::{changes_needing_restart, lost_its_file};
pub use secret::{Secret, SecretSource};
pub use setting::{Fallback, Kind, Setting};
pub use source::Place;
pub use stamp::Stamp;
pub use table::{SECTIONS, SETTINGS, Section};
pub use unit_hint::{duration_of_flag, size_of_flag};
pub use units::{UnitError, format_duration, format_size, parse_duration, parse_size};
