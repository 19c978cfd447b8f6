//! One record per request, made when its last byte is out (or the client gone): a log line and the metrics.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{access_log::AccessLog, metrics::Metrics, refusal::Code};

/// What was asked for, as logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
#[expect(missing_docs, reason = "each is the endpoint of its name")]
pub enum Kind {
    List,
    Latest,
    Info,
    Query,
    Mod,
    Zip,
    SumDb,
    Other,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::List,
        Self::Latest,
        Self::Info,
        Self::Query,
        Self::Mod,
        Self::Zip,
        Self::SumDb,
        Self::Other,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Latest => "latest",
            Self::Info => "info",
            Self::Query => "query",
            Self::Mod => "mod",
            Self::Zip => "zip",
            Self::SumDb => "sumdb",
            Self::Other => "other",
        }
    }
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Outcome {
    /// From what is kept.
    Hit,
    /// Fetched for this request.
    Miss,
    /// Fetched for another request at the same time.
    Coalesced,
    /// From what is kept, past its freshness.
    Stale,
    /// A recent "no" repeated.
    Negative,
    /// The client was sent elsewhere.
    Redirect,
    /// Not what was asked for.
    Refused,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Hit,
        Self::Miss,
        Self::Coalesced,
        Self::Stale,
        Self::Negative,
        Self::Redirect,
        Self::Refused,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Stale => "stale",
            Self::Negative => "negative",
            Self::Redirect => "redirect",
            Self::Refused => "refused",
        }
    }
}

/// What a request was about: `module` and `version` decoded, empty where there is none.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The endpoint.
    pub kind: Kind,
    /// Module path, or the raw path of a request that has none.
    pub module: String,
    /// Version or query.
    pub version: String,
}

/// Where records go.
#[derive(Debug)]
pub struct Recorder {
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// Written here, unless request lines are switched off.
    pub(crate) log: Arc<AccessLog>,
    logging: AtomicBool,
    /// JSON lines, or text for people.
    json: bool,
}

/// The record of one request, filled on the way; [`finish`](Self::finish) writes it.
#[derive(Debug)]
pub struct Record {
    /// When the head of the request was read.
    pub begin: Instant,
    /// The request id.
    pub id: u64,
    /// Who asked.
    pub client: SocketAddr,
    /// What for.
    pub subject: Subject,
    /// Status sent.
    pub status: u16,
    /// How it came about.
    pub outcome: Outcome,
    /// The code of a refusal.
    pub code: Option<Code>,
    /// The upstream that was asked, credentials left out.
    pub upstream: Option<Arc<str>>,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// Whether the body went out whole.
    pub complete: bool,
}

impl Recorder {
    /// Counts in `metrics` and writes request lines to `log`, as JSON or as text for people.
    pub fn new(metrics: Arc<Metrics>, log: Arc<AccessLog>, json: bool) -> Self {
        Self {
            metrics,
            log,
            logging: AtomicBool::new(true),
            json,
        }
    }

    /// Switches request lines on or off from now on; they are on at first.
    pub fn set_logging(&self, on: bool) {
        self.logging.store(on, Ordering::Relaxed);
    }

    /// Writes the line and counts.
    pub fn finish(&self, record: &Record, end: Instant) {
        let took = end.saturating_duration_since(record.begin);
        self.metrics.tally.end(record, took);
        if self.logging.load(Ordering::Relaxed) {
            self.log.line(|line| {
                if self.json {
                    json_line(line, record, took)
                } else {
                    text_line(line, record, took)
                }
            });
        }
    }
}

fn json_line(line: &mut Vec<u8>, record: &Record, took: Duration) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(line);
    line.extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\",\"request_id\":\"");
    hex16(line, record.id);
    line.extend_from_slice(b"\",\"kind\":\"");
    line.extend_from_slice(record.subject.kind.as_str().as_bytes());
    text_member(line, "module", &record.subject.module);
    text_member(line, "version", &record.subject.version);
    line.extend_from_slice(b"\",\"status\":");
    number(line, u64::from(record.status));
    line.extend_from_slice(b",\"outcome\":\"");
    line.extend_from_slice(record.outcome.as_str().as_bytes());
    if let Some(code) = record.code {
        text_member(line, "code", code.as_str());
    }
    if let Some(upstream) = &record.upstream {
        text_member(line, "upstream", upstream);
    }
    line.extend_from_slice(b"\",\"bytes\":");
    number(line, record.bytes);
    if !record.complete {
        line.extend_from_slice(b",\"complete\":false");
    }
    line.extend_from_slice(b",\"duration_us\":");
    number(line, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    line.extend_from_slice(b",\"client\":\"");
    address(line, record.client);
    line.extend_from_slice(b"\"}\n");
}

fn text_line(line: &mut Vec<u8>, record: &Record, took: Duration) {
    timestamp(line);
    line.extend_from_slice(b" ");
    address(line, record.client);
    let subject = &record.subject;
    let text = format!(
        " {} {}{}{} {} {}{}{} {} B {:.1} ms{} {:016x}\n",
        subject.kind.as_str(),
        printable(&subject.module),
        if subject.version.is_empty() { "" } else { "@" },
        printable(&subject.version),
        record.status,
        record.outcome.as_str(),
        record
            .code
            .map(|code| format!(" {}", code.as_str()))
            .unwrap_or_default(),
        record
            .upstream
            .as_ref()
            .map(|upstream| format!(" from {upstream}"))
            .unwrap_or_default(),
        record.bytes,
        took.as_secs_f64() * 1e3,
        if record.complete { "" } else { " incomplete" },
        record.id,
    );
    line.extend_from_slice(text.as_bytes());
}

/// `","name":"value` with the value escaped; the caller closes the quote.
fn text_member(line: &mut Vec<u8>, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    line.extend_from_slice(b"\",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":\"");
    if value
        .bytes()
        .all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\')
    {
        line.extend_from_slice(value.as_bytes());
    } else {
        let quoted = serde_json::Value::from(value).to_string();
        line.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn hex16(line: &mut Vec<u8>, id: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.extend(
        (0..16)
            .rev()
            .map(|place| DIGITS[usize::try_from(id >> (4 * place) & 15).unwrap_or(0)]),
    );
}

fn number(line: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

fn address(line: &mut Vec<u8>, client: SocketAddr) {
    use std::io::Write;
    match client.ip() {
        // Without the machinery of formatting: each line has one.
        IpAddr::V4(ip) => {
            for (at, part) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    line.push(b'.');
                }
                number(line, u64::from(part));
            }
        }
        // Writing to a Vec does not fail.
        IpAddr::V6(ip) => drop(write!(line, "{ip}")),
    }
}

/// RFC 3339 in UTC with milliseconds. The part up to the second is made once a second.
fn timestamp(line: &mut Vec<u8>) {
    use std::cell::RefCell;
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() || text.is_empty() {
            *second = now.as_secs();
            let time = time::OffsetDateTime::from_unix_timestamp(
                i64::try_from(now.as_secs()).unwrap_or(0),
            );
            let time = time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
            *text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.",
                time.year(),
                u8::from(time.month()),
                time.day(),
                time.hour(),
                time.minute(),
                time.second()
            );
        }
        line.extend_from_slice(text.as_bytes());
    });
    let milliseconds = now.subsec_millis();
    let digit = |value: u32| b'0' + u8::try_from(value % 10).unwrap_or(0);
    line.extend_from_slice(&[
        digit(milliseconds / 100),
        digit(milliseconds / 10),
        digit(milliseconds),
        b'Z',
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_whatever_the_path() {
        for module in ["github.com/pkg/errors", "/\"x\\\n\u{1b}é", ""] {
            let record = Record {
                begin: Instant::now(),
                id: 0x0123_4567_89ab_cdef,
                client: ([127, 0, 0, 1], 4000).into(),
                subject: Subject {
                    kind: Kind::Zip,
                    module: module.into(),
                    version: "v1.0.0".into(),
                },
                status: 502,
                outcome: Outcome::Refused,
                code: Some(Code::ChecksumMismatch),
                upstream: Some("https://a.example".into()),
                bytes: 1234,
                complete: false,
            };
            let mut line = Vec::new();
            json_line(&mut line, &record, Duration::from_millis(12));
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(
                value.get("module").and_then(|v| v.as_str()).unwrap_or(""),
                module
            );
            assert_eq!(value["request_id"], "0123456789abcdef");
            assert_eq!(value["bytes"], 1234);
            assert_eq!(value["duration_us"], 12000);
            assert_eq!(value["code"], "checksum_mismatch");
            let mut line = Vec::new();
            text_line(&mut line, &record, Duration::from_millis(12));
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
}
