//! Pages for `?go-get=1`: they send the go command to this gateway for the modules below some path prefixes, so that
//! a company's vanity paths work for clients without GOPROXY too (protocol.md 8.1, number 3).

use http::{Request, header::HOST};

/// The prefixes that pages are given for. They are told one by one: what is private is not listed by a pattern for
/// something else. A page is made of the configuration alone, so it does not tell which modules exist.
#[derive(Clone, Debug, Default)]
pub struct Vanity {
    /// Beginnings of module paths, in whole elements.
    pub prefixes: Vec<String>,
    /// The URL under which clients reach this gateway, without secrets.
    pub url: String,
}

impl Vanity {
    /// The page for a request, if it is one of the go command for a path below a prefix. Of several prefixes the longest
    /// counts, since a page may have one tag for a path.
    pub(crate) fn page<B>(&self, request: &Request<B>) -> Option<String> {
        if self.prefixes.is_empty() || !asks_go_get(request.uri().query()?) {
            return None;
        }
        let path = format!("{}{}", host(request)?, request.uri().path());
        let path = path.trim_end_matches('/');
        let below = |prefix: &&String| {
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let prefix = self.prefixes.iter().filter(below).max_by_key(|p| p.len())?;
        let (prefix, url) = (escaped(prefix), escaped(&self.url));
        Some(format!(
            "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\">\n\
             <meta name=\"go-import\" content=\"{prefix} mod {url}\">\n\
             </head><body>go get {prefix}</body></html>\n"
        ))
    }
}

fn asks_go_get(query: &str) -> bool {
    query.split('&').any(|pair| pair == "go-get=1")
}

/// The host that is asked, without its port: a module path has none.
fn host<B>(request: &Request<B>) -> Option<String> {
    let named = request.uri().authority().map(http::uri::Authority::as_str);
    let host = named.or_else(|| request.headers().get(HOST)?.to_str().ok())?;
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((host, digits)) if port(digits) => host,
        _ => host,
    };
    Some(host.to_ascii_lowercase())
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_page() {
        let vanity = Vanity {
            prefixes: ["corp.example/x", "corp.example/x/own", "go.corp.example"]
                .map(str::to_owned)
                .to_vec(),
            url: "https://modgate.corp.example/a?b=\"<&'>".to_owned(),
        };
        for (host, uri, want) in [
            ("corp.example", "/x?go-get=1", Some("corp.example/x")),
            (
                "CORP.example:8443",
                "/x/sub?a=b&go-get=1",
                Some("corp.example/x"),
            ),
            ("corp.example", "/x/?go-get=1", Some("corp.example/x")),
            (
                "corp.example",
                "/x/own/y?go-get=1",
                Some("corp.example/x/own"),
            ),
            ("go.corp.example", "/?go-get=1", Some("go.corp.example")),
            (
                "ignored",
                "http://go.corp.example/y?go-get=1",
                Some("go.corp.example"),
            ),
            ("corp.example", "/xy?go-get=1", None),
            ("corp.example", "/?go-get=1", None),
            ("corp.example", "/x?go-get=10", None),
            ("corp.example", "/x", None),
            ("evil.example", "/x?go-get=1", None),
            ("evilcorp.example", "/x?go-get=1", None),
        ] {
            let request = Request::get(uri).header(HOST, host).body(()).unwrap();
            let page = vanity.page(&request);
            let url = "https://modgate.corp.example/a?b=&#34;&lt;&amp;&#39;&gt;";
            let tag = want.map(|prefix| format!("content=\"{prefix} mod {url}\">"));
            match (&page, &tag) {
                (Some(page), Some(tag)) => assert!(page.contains(tag), "{host} {uri}: {page}"),
                (page, tag) => assert_eq!(page.is_some(), tag.is_some(), "{host} {uri}"),
            }
        }
        let asked = Request::get("/x?go-get=1")
            .header(HOST, "corp.example")
            .body(());
        assert_eq!(Vanity::default().page(&asked.unwrap()), None);
    }
}
