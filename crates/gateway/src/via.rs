//! The proxies by which a request came: named on to upstreams, so that a loop is seen wherever it closes.

use std::{fmt, sync::Arc};

use http::{HeaderMap, header::VIA};
use upstream::names_gateway;

use crate::refusal::{Code, Refusal};

/// Most proxies on the way of one request, and the length of their names together.
const MAX_HOPS: usize = 10;
const MAX_BYTES: usize = 1024;

/// What `Via` headers said, comments left out. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Via(Option<Arc<str>>);

impl Via {
    /// Reads a request's headers. `own` is the name of this gateway, which must not be among them.
    pub(crate) fn read(headers: &HeaderMap, own: &str) -> Result<Self, Refusal> {
        let mut hops = Vec::new();
        let values = headers.get_all(VIA).iter();
        for entry in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut words = entry.split_ascii_whitespace();
            let (Some(protocol), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            if name == own {
                return Err(Refusal::new(Code::LoopDetected, "", "this gateway has asked itself, by way of another proxy")
                    .hint("an upstream in `chain` uses this gateway as its own upstream: take one out of the other's list"));
            }
            hops.push(format!("{protocol} {name}"));
        }
        let all = hops.join(", ");
        if hops.len() > MAX_HOPS || all.len() > MAX_BYTES {
            let why = format!("it came by way of {} proxies already", hops.len());
            return Err(Refusal::new(Code::LoopDetected, "", why).hint(
                "some of them ask each other in a circle: look at their lists of upstreams",
            ));
        }
        Ok(Self((!all.is_empty()).then(|| all.into())))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether another gateway of this kind waits for the answer.
    pub(crate) fn names_gateway(&self) -> bool {
        names_gateway(self.as_str())
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Via, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(VIA, value.parse().unwrap());
        }
        Via::read(&headers, "modgate-1")
    }

    #[test]
    fn hops_are_read_and_loops_seen() {
        assert_eq!(read(&[]).unwrap(), Via::default());
        let via = read(&["1.1 cache (squid), HTTP/2 modgate-10", "junk, ,1.0 x:80"]).unwrap();
        assert_eq!(via.as_str(), "1.1 cache, HTTP/2 modgate-10, 1.0 x:80");
        assert!(via.names_gateway() && !read(&["1.1 cache"]).unwrap().names_gateway());
        for looping in ["1.1 modgate-1", "1.1 a, 1.1 modgate-1 (me)"] {
            assert_eq!(read(&[looping]).unwrap_err().code, Code::LoopDetected);
        }
        assert!(read(&["1.1 a"; 10]).is_ok());
        assert_eq!(read(&["1.1 a"; 11]).unwrap_err().code, Code::LoopDetected);
        let long = format!("1.1 {}", "a".repeat(2000));
        assert_eq!(read(&[&long]).unwrap_err().code, Code::LoopDetected);
    }
}
