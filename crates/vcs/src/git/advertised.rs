//! References by one GET, where a server speaks http.
//!
//! `git ls-remote` starts three programs and asks twice. What a server advertises first to those who ask for no newer version of
//! the protocol are all references, with what annotated tags are about (gitprotocol-pack, "Reference Discovery"), so the
//! question costs one request. Whatever is not quite that is left to git itself, and so is every error but a server that is silent.

use std::time::Duration;

use egress::{Answer, Ask, EgressErrorKind};
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use super::failure::Page;
use super::packet::{Packet, Packets, text};
use super::refs::{Reader, Refs};
use super::remote::MAX_LINES;
use crate::DirectError;
use crate::discover::page::from_egress;
use crate::process::within;
use crate::reach::Way;

/// What a server of git's smart protocol says it sends.
const KIND: &str = "application/x-git-upload-pack-advertisement";
/// The line in front.
const SERVICE: &[u8] = b"# service=git-upload-pack";

/// What came of the question.
#[derive(Debug)]
pub(crate) enum Advertised {
    Refs(Refs),
    /// Something else, such as a page for people or a server's word that it is out of order. git is to ask: it may be what
    /// a server of files alone has, but it takes some of it for a repository without references.
    Page,
    /// git is to ask.
    Nothing,
}

/// Asks for the references.
pub(crate) async fn advertised(
    page: &Page,
    way: &Way,
    limit: Duration,
) -> Result<Advertised, DirectError> {
    let what = format!("the references of {}", way.url);
    let Some(url) = service_url(&way.url, "info/refs?service=git-upload-pack") else {
        return Ok(Advertised::Nothing);
    };
    let ask = Ask {
        plain_http: url.scheme() == "http",
        url,
        timeout: limit,
        credentials: page.credentials,
    };
    within(limit, &what, async {
        // git follows no redirect either; where one leads is found out elsewhere.
        match page.egress.as_git().open_here(ask, None).await {
            Ok(answer) if answer.status() == 200 && is_smart(&answer) => {
                let refs = read(answer).await?;
                Ok(refs.map_or(Advertised::Nothing, Advertised::Refs))
            }
            Ok(answer) if (200..300).contains(&answer.status()) => is_page(answer).await,
            Err(error) if error.kind == EgressErrorKind::Timeout => Err(from_egress(&what, error)),
            Ok(_) | Err(_) => Ok(Advertised::Nothing),
        }
    })
    .await
}

/// Where a repository answers `question`; none if git alone knows how to ask.
pub(super) fn service_url(repository: &str, question: &str) -> Option<Url> {
    let url: Url = repository.parse().ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let service = format!("{}/{question}", repository.trim_end_matches('/'));
    plain.then(|| service.parse().ok())?
}

fn is_smart(answer: &Answer) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind == KIND)
}

/// What an answer that is not of the smart protocol may be: a list without references is an empty file of text.
async fn is_page(mut answer: Answer) -> Result<Advertised, DirectError> {
    let kind = answer.headers().get(CONTENT_TYPE);
    let kind = kind.map(|kind| kind.as_bytes().to_ascii_lowercase());
    if !kind.is_some_and(|kind| kind.starts_with(b"text/plain")) {
        return Ok(Advertised::Page);
    }
    loop {
        match answer.next_chunk().await {
            Ok(Some(chunk)) if chunk.is_empty() => {}
            Ok(None) => return Ok(Advertised::Nothing),
            Ok(Some(_)) | Err(_) => return Ok(Advertised::Page),
        }
    }
}

/// Reads lines until the end; `None` if it is not what it should be, or ends too early.
async fn read(mut answer: Answer) -> Result<Option<Refs>, DirectError> {
    let mut packets = Packets::default();
    let mut advertisement = Advertisement::default();
    while let Ok(Some(chunk)) = answer.next_chunk().await {
        packets.push(&chunk);
        while let Some(packet) = packets.next() {
            match advertisement.take(&packet)? {
                Step::More => {}
                Step::End => {
                    answer.finish().await;
                    return Ok(Some(advertisement.reader.finish()));
                }
                Step::Junk => return Ok(None),
            }
        }
    }
    Ok(None)
}

/// What was read of an advertisement.
#[derive(Debug, Default)]
struct Advertisement {
    reader: Reader,
    lines: usize,
    /// The service was named.
    begun: bool,
    /// The mark behind that line came.
    named: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    More,
    /// All references have come.
    End,
    /// This is none.
    Junk,
}

impl Advertisement {
    fn take(&mut self, packet: &Packet) -> Result<Step, DirectError> {
        match packet {
            Packet::Line(line) if !self.begun => {
                self.begun = true;
                Ok(if text(line) == SERVICE {
                    Step::More
                } else {
                    Step::Junk
                })
            }
            Packet::Flush if self.named => Ok(Step::End),
            Packet::Flush if self.begun => {
                self.named = true;
                Ok(Step::More)
            }
            Packet::Line(line) if self.named => {
                self.lines += 1;
                if self.lines > MAX_LINES {
                    let text = format!("more than {MAX_LINES} lines");
                    return Err(DirectError::too_large(text));
                }
                // Behind the first name stand the server's capabilities.
                let named = text(line).split(|byte| *byte == 0).next();
                let named = named.unwrap_or_default();
                if named.starts_with(b"ERR ") || named.starts_with(b"version ") {
                    return Ok(Step::Junk);
                }
                self.reader.line(named)?;
                Ok(Step::More)
            }
            _ => Ok(Step::Junk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a text that comes at once.
    fn read(text: &[u8]) -> (Step, Refs) {
        let mut packets = Packets::default();
        packets.push(text);
        let mut advertisement = Advertisement::default();
        let mut step = Step::More;
        while step == Step::More
            && let Some(packet) = packets.next()
        {
            step = advertisement.take(&packet).unwrap();
        }
        (step, advertisement.reader.finish())
    }

    #[test]
    fn an_advertisement() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "001e# service=git-upload-pack\n0000\
             0036{a} HEAD\0cap\n0039{b} refs/heads/x0000"
        );
        let (step, refs) = read(text.as_bytes());
        assert_eq!(step, Step::End);
        let refs: Vec<_> = refs.iter().collect();
        assert_eq!(refs, [("HEAD", &*a), ("refs/heads/x", &*b)]);
    }

    #[test]
    fn what_is_none() {
        for junk in [
            &b"0000"[..],
            b"<!doctype html>",
            b"0001",
            b"000eversion 1\n0000",
            b"001f# service=git-receive-pack\n0000",
            b"001e# service=git-upload-pack\n0010ab HEAD",
            b"001e# service=git-upload-pack\n0000000dversion 20000",
            b"001e# service=git-upload-pack\n0000000bERR no0000",
            b"001e# service=git-upload-pack\n00000001",
        ] {
            assert_ne!(read(junk).0, Step::End, "{junk:?}");
        }
    }

    #[test]
    fn where_references_are() {
        let asked = |url| service_url(url, "info/refs?service=git-upload-pack").map(String::from);
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
