//! References by one GET, where a server speaks http.
//!
//! `git ls-remote` starts three programs and asks twice. What a server advertises first to those who ask for no newer version of
//! the protocol are all references, with what annotated tags are about (gitprotocol-pack, "Reference Discovery"), so the
//! question costs one request. Whatever is not quite that is left to git itself, and so is every error but a server that is silent.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use egress::{Answer, Ask, EgressErrorKind};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use super::failure::Page;
use super::refs::{Reader, Refs};
use super::remote::MAX_LINES;
use crate::DirectError;
use crate::discover::page::from_egress;
use crate::process::within;
use crate::reach::Way;

/// What a server of git's smart protocol says it sends.
const KIND: &str = "application/x-git-upload-pack-advertisement";
/// Digits of a line's length; it counts them too.
const LENGTH: usize = 4;

/// Asks for the references. `None`: git is to ask for them.
pub(crate) async fn advertised(
    page: &Page,
    way: &Way,
    limit: Duration,
) -> Result<Option<Refs>, DirectError> {
    let what = format!("the references of {}", way.url);
    let Some(url) = refs_url(&way.url) else {
        return Ok(None);
    };
    let ask = Ask {
        plain_http: url.scheme() == "http",
        url,
        timeout: limit,
        credentials: page.credentials,
    };
    within(limit, &what, async {
        // git follows no redirect either; where one leads is found out elsewhere.
        match page.egress.open_here(ask).await {
            Ok(answer) if answer.status() == 200 && is_smart(&answer) => Ok(read(answer).await?),
            Err(error) if error.kind == EgressErrorKind::Timeout => Err(from_egress(&what, error)),
            Ok(_) | Err(_) => Ok(None),
        }
    })
    .await
}

/// Where a repository's references are; none if git alone knows how to ask.
fn refs_url(repository: &str) -> Option<Url> {
    let url: Url = repository.parse().ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let refs = format!(
        "{}/info/refs?service=git-upload-pack",
        repository.trim_end_matches('/')
    );
    plain.then(|| refs.parse().ok())?
}

fn is_smart(answer: &Answer) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind == KIND)
}

/// Reads lines until the end; `None` if it is not what it should be, or ends too early.
async fn read(mut answer: Answer) -> Result<Option<Refs>, DirectError> {
    let mut lines = Lines::default();
    let mut reader = Reader::default();
    let mut count = 0;
    while let Ok(Some(chunk)) = answer.next_chunk().await {
        lines.buffer.extend_from_slice(&chunk);
        while let Some(line) = lines.next() {
            count += 1;
            match line {
                Line::Text(text) if count <= MAX_LINES => {
                    // Behind the first name stand the server's capabilities.
                    let named = text[..].split(|byte| *byte == 0).next().unwrap_or_default();
                    if named.starts_with(b"ERR ") || named.starts_with(b"version ") {
                        return Ok(None);
                    }
                    reader.line(named)?;
                }
                Line::Text(_) => {
                    return Err(DirectError::too_large(format!(
                        "more than {MAX_LINES} lines"
                    )));
                }
                Line::Service => {}
                Line::End => return Ok(Some(reader.finish())),
                Line::Junk => return Ok(None),
            }
        }
    }
    Ok(None)
}

/// A line of the protocol ("pkt-line").
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// `HASH NAME`, maybe more, without its end.
    Text(BytesMut),
    /// The first one, which names the service, or the mark behind it.
    Service,
    /// The mark behind all references.
    End,
    /// No line.
    Junk,
}

/// Takes lines from what has come.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// The service was named, and the mark behind that line came.
    named: bool,
    begun: bool,
}

impl Lines {
    /// The next line that is whole.
    fn next(&mut self) -> Option<Line> {
        let digits = std::str::from_utf8(self.buffer.get(..LENGTH)?).ok();
        let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(length) = length.filter(|length| *length == 0 || *length > LENGTH) else {
            return Some(Line::Junk);
        };
        if length == 0 {
            self.buffer.advance(LENGTH);
            if self.named {
                return Some(Line::End);
            }
            if !self.begun {
                return Some(Line::Junk);
            }
            self.named = true;
            return Some(Line::Service);
        }
        if self.buffer.len() < length {
            return None;
        }
        let mut line = self.buffer.split_to(length);
        line.advance(LENGTH);
        if line.last() == Some(&b'\n') {
            line.truncate(line.len() - 1);
        }
        if !self.begun {
            self.begun = true;
            let service = &line[..] == b"# service=git-upload-pack";
            return Some(if service { Line::Service } else { Line::Junk });
        }
        Some(if self.named {
            Line::Text(line)
        } else {
            Line::Junk
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Line> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        // As badly cut as can be.
        for byte in text {
            lines.buffer.extend_from_slice(&[*byte]);
            while let Some(line) = lines.next() {
                all.push(line);
                if matches!(all.last(), Some(Line::Junk | Line::End)) {
                    return all;
                }
            }
        }
        all
    }

    #[test]
    fn an_advertisement_in_pieces() {
        let text = b"001e# service=git-upload-pack\n0000000eab HEAD\0cap000bab refs/h0000";
        let name = |text: &[u8]| Line::Text(BytesMut::from(text));
        assert_eq!(
            lines(text),
            [
                Line::Service,
                Line::Service,
                name(b"ab HEAD\0ca"),
                Line::Junk
            ],
            "a length that cuts a line short is seen at the next"
        );
        let text = b"001e# service=git-upload-pack\n00000010ab HEAD\0cap\n000fab refs/h/a0000";
        let right = [
            Line::Service,
            Line::Service,
            name(b"ab HEAD\0cap"),
            name(b"ab refs/h/a"),
            Line::End,
        ];
        assert_eq!(lines(text), right);
    }

    #[test]
    fn what_is_none() {
        for junk in [
            &b"0000"[..],
            b"<!doctype html>",
            b"0001",
            b"0004",
            b"zzzz",
            b"-001",
            b"\xff\xff\xff\xff",
            b"000eversion 1\n0000",
            b"001f# service=git-receive-pack\n0000",
            b"001e# service=git-upload-pack\n0010ab HEAD",
        ] {
            assert!(!lines(junk).contains(&Line::End), "{junk:?}");
        }
    }

    proptest::proptest! {
        /// Whatever a server sends and however it is cut: no panic, no line longer than the protocol's, and nothing lost of what
        /// is no line yet.
        #[test]
        fn hostile_servers(pieces: Vec<Vec<u8>>, lengths: Vec<u16>) {
            let mut lines = Lines::default();
            lines.buffer.extend_from_slice(b"001e# service=git-upload-pack\n0000");
            for length in lengths {
                lines.buffer.extend_from_slice(format!("{length:04x}").as_bytes());
            }
            for piece in pieces {
                lines.buffer.extend_from_slice(&piece);
                while let Some(line) = lines.next() {
                    match line {
                        Line::Text(text) => proptest::prop_assert!(text.len() < 1 << 16),
                        Line::Service => {}
                        Line::End | Line::Junk => return Ok(()),
                    }
                }
            }
        }
    }

    #[test]
    fn where_references_are() {
        let asked = |url| refs_url(url).map(String::from);
        let refs = "https://a.example/m.git/info/refs?service=git-upload-pack";
        assert_eq!(asked("https://a.example/m.git").as_deref(), Some(refs));
        assert_eq!(asked("https://a.example/m.git/").as_deref(), Some(refs));
        for other in [
            "ssh://git@a.example/m",
            "git@a.example:m",
            "file:///m",
            "https://user@a.example/m",
            "https://a.example/m?x",
            "https://a.example/m#x",
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
