//! Counters with one label, `result`, whose values are closed lists.
//!
//! Each value is on the page with 0 from the start: `increase()` sees nothing of a series that begins with 1.

use std::marker::PhantomData;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

/// The values of a label.
pub trait Values: Copy + 'static {
    /// All that are counted.
    const ALL: &'static [Self];

    /// As the page has it.
    fn as_str(self) -> &'static str;
}

macro_rules! values {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = $text] $value,)+
        }

        impl Values for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }
    };
}

values! {
    /// Why a connection was cut.
    Cut {
        SlowHandshake = "slow_handshake",
        SlowHead = "slow_head",
        Stalled = "stalled",
    }
}

values! {
    /// How a verification ended.
    Verification {
        Verified = "verified",
        Exempt = "exempt",
        Unknown = "unknown",
        UnknownRefused = "unknown_refused",
        Unverified = "unverified",
        Mismatch = "mismatch",
        Invalid = "invalid",
    }
}

values! {
    /// What an operator should look at.
    Incident {
        ChecksumMismatch = "checksum_mismatch",
        ServedUnverifiedAltered = "served_unverified_altered",
        ServedUnverifiedUnknown = "served_unverified_unknown",
        UnverifiedNotNoted = "unverified_not_noted",
        MovedTag = "moved_tag",
        OtherBytesKept = "other_bytes_kept",
        DiskFull = "disk_full",
    }
}

values! {
    /// What became of something that was to be kept.
    Commit {
        Kept = "kept",
        Present = "present",
        Failed = "failed",
        NotIndexed = "not_indexed",
        AsyncQueueFull = "async_queue_full",
    }
}

values! {
    /// What became of a new configuration.
    Reload {
        Taken = "taken",
        Refused = "refused",
    }
}

values! {
    /// What became of a backup on the schedule.
    Backup {
        Written = "written",
        Failed = "failed",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    result: &'static str,
}

/// Counts by result.
#[derive(Clone, Debug)]
pub struct Results<V> {
    family: Family<ResultLabel, Counter>,
    values: PhantomData<V>,
}

impl<V: Values> Default for Results<V> {
    fn default() -> Self {
        let results = Self {
            family: Family::default(),
            values: PhantomData,
        };
        for value in V::ALL {
            results.add(*value, 0);
        }
        results
    }
}

impl<V: Values> Results<V> {
    /// Counts one.
    pub fn count(&self, value: V) {
        self.add(value, 1);
    }

    /// Counts as many.
    pub(crate) fn add(&self, value: V, many: u64) {
        let result = value.as_str();
        self.family
            .get_or_create(&ResultLabel { result })
            .inc_by(many);
    }

    pub(crate) fn family(&self) -> Family<ResultLabel, Counter> {
        self.family.clone()
    }
}
