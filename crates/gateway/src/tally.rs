//! What every request is counted in.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::Counter, family::Family},
    registry::Unit,
};

use crate::{
    per_thread::PerThread,
    record::{Kind, Outcome, Record},
    refusal::Code,
};

/// Upper bounds of the durations that are counted together, in microseconds; what is longer comes last.
const BOUNDS: [u64; 17] = [
    100,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    120_000_000,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    outcome: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Requests by endpoint, outcome and code, their durations and bytes, and those under way.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    parts: PerThread<Counts>,
    refused: Family<RequestLabels, Counter>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Begun less ended. Ends on another thread than it began, a request leaves one part too high and one too low.
    in_flight: AtomicI64,
    kinds: [Of; Kind::ALL.len()],
}

/// Of one endpoint.
#[derive(Debug, Default)]
struct Of {
    answered: [AtomicU64; Outcome::ALL.len()],
    bytes: AtomicU64,
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Tally {
    /// A request's head was read.
    pub(crate) fn begin(&self) {
        self.parts.mine().in_flight.fetch_add(1, Relaxed);
    }

    /// A request is over.
    pub(crate) fn end(&self, record: &Record, took: Duration) {
        let counts = self.parts.mine();
        counts.in_flight.fetch_sub(1, Relaxed);
        let of = &counts.kinds[record.subject.kind as usize];
        match record.code {
            None => {
                of.answered[record.outcome as usize].fetch_add(1, Relaxed);
            }
            Some(code) => self.refused(record, code),
        }
        of.bytes.fetch_add(record.bytes, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        of.nanoseconds.fetch_add(nanoseconds, Relaxed);
        let within = BOUNDS.iter().position(|bound| nanoseconds <= bound * 1000);
        of.durations[within.unwrap_or(BOUNDS.len())].fetch_add(1, Relaxed);
    }

    fn refused(&self, record: &Record, code: Code) {
        let labels = RequestLabels {
            kind: record.subject.kind.as_str(),
            outcome: record.outcome.as_str(),
            code: code.as_str(),
        };
        self.refused.get_or_create(&labels).inc();
    }

    /// The sum of something over all parts.
    fn sum(&self, kind: Kind, what: impl Fn(&Of) -> &AtomicU64) -> u64 {
        let parts = self.parts.all();
        parts.fold(0, |sum: u64, part| {
            sum.wrapping_add(what(&part.kinds[kind as usize]).load(Relaxed))
        })
    }
}

impl Collector for Tally {
    fn encode(&self, mut page: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests answered, by endpoint, outcome and error code";
        let mut requests = page.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                let labels = RequestLabels {
                    kind: kind.as_str(),
                    outcome: outcome.as_str(),
                    code: "",
                };
                let count = self.sum(kind, |of| &of.answered[outcome as usize]);
                let mut sample = requests.encode_family(&labels)?;
                sample.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        self.refused.encode(requests)?;

        let (help, unit) = (
            "Time from the head of a request to its last byte",
            Unit::Seconds,
        );
        let kind = MetricType::Histogram;
        let mut durations = page.encode_descriptor("request_duration", help, Some(&unit), kind)?;
        for kind in Kind::ALL {
            let bounds = BOUNDS.iter().map(|bound| seconds(bound * 1000));
            let buckets: Vec<(f64, u64)> = bounds
                .chain([f64::INFINITY])
                .enumerate()
                .map(|(at, bound)| (bound, self.sum(kind, |of| &of.durations[at])))
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = seconds(self.sum(kind, |of| &of.nanoseconds));
            let labels = KindLabel {
                kind: kind.as_str(),
            };
            let mut sample = durations.encode_family(&labels)?;
            sample.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }

        let (help, unit) = ("Body bytes sent", Unit::Bytes);
        let kind = MetricType::Counter;
        let mut bytes = page.encode_descriptor("response", help, Some(&unit), kind)?;
        for kind in Kind::ALL {
            let labels = KindLabel {
                kind: kind.as_str(),
            };
            let sum = self.sum(kind, |of| &of.bytes);
            let mut sample = bytes.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
        }

        let help = "Requests whose answer is not out yet";
        let kind = MetricType::Gauge;
        let mut in_flight = page.encode_descriptor("requests_in_flight", help, None, kind)?;
        let parts = self.parts.all();
        let sum: i64 = parts.map(|part| part.in_flight.load(Relaxed)).sum();
        in_flight.encode_gauge(&sum)
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Instant};

    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;
    use crate::record::Subject;

    #[test]
    fn all_threads_are_counted_together() {
        let tally = Arc::new(Tally::default());
        let record = |code| Record {
            begin: Instant::now(),
            id: 1,
            client: ([127, 0, 0, 1], 1).into(),
            subject: Subject {
                kind: Kind::Zip,
                module: String::new(),
                version: String::new(),
            },
            status: 200,
            outcome: Outcome::Hit,
            code,
            upstream: None,
            bytes: 10,
            complete: true,
        };
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for took in [0, 100, 101, 200_000] {
                        tally.begin();
                        tally.end(&record(None), Duration::from_micros(took));
                    }
                    tally.begin();
                    tally.end(&record(Some(Code::NotCached)), Duration::from_secs(1000));
                    tally.begin();
                });
            }
        });
        let mut registry = Registry::with_prefix("modgate");
        registry.register_collector(Box::new(Arc::clone(&tally)));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for line in [
            "modgate_requests_total{kind=\"zip\",outcome=\"hit\",code=\"\"} 20",
            "modgate_requests_total{kind=\"zip\",outcome=\"hit\",code=\"not_cached\"} 5",
            "modgate_requests_total{kind=\"mod\",outcome=\"hit\",code=\"\"} 0",
            "modgate_response_bytes_total{kind=\"zip\"} 250",
            "modgate_requests_in_flight 5",
            "modgate_request_duration_seconds_bucket{le=\"0.0001\",kind=\"zip\"} 10",
            "modgate_request_duration_seconds_bucket{le=\"0.0005\",kind=\"zip\"} 15",
            "modgate_request_duration_seconds_bucket{le=\"120.0\",kind=\"zip\"} 20",
            "modgate_request_duration_seconds_bucket{le=\"+Inf\",kind=\"zip\"} 25",
            "modgate_request_duration_seconds_count{kind=\"zip\"} 25",
        ] {
            assert!(page.lines().any(|said| said == line), "{line}\n{page}");
        }
    }
}
