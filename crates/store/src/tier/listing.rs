//! Listings of a bucket, over names that the client library cannot carry.
//!
//! The library refuses a page as a whole for one name with an empty element, a `.` or `..`, or a control character.
//! Somebody else may put such an object anywhere. So it is taken out of the page before the library reads it, and
//! travels beside it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
        ReqwestConnector,
    },
    path::Path,
};

/// What stands in a page of a listing, and where its name is: objects and folders, of S3 and Google, and of Azure.
const ITEMS: [(&str, &str, &str); 4] = [
    ("<Contents>", "</Contents>", "Key"),
    ("<CommonPrefixes>", "</CommonPrefixes>", "Prefix"),
    ("<Blob>", "</Blob>", "Name"),
    ("<BlobPrefix>", "</BlobPrefix>", "Name"),
];

/// The names that were taken out of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strays(pub(super) Arc<[String]>);

/// Makes connections whose listings are sifted.
#[derive(Debug)]
pub(super) struct Sifting;

impl HttpConnector for Sifting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Sifted(client)))
    }
}

#[derive(Debug)]
struct Sifted(HttpClient);

impl HttpService for Sifted {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            let lists = lists(&request);
            let response = self.0.execute(request).await?;
            if !lists || !response.status().is_success() {
                return Ok(response);
            }
            let (mut parts, body) = response.into_parts();
            // The library reads a page as a whole, too.
            let body = body.bytes().await?;
            let Some((sifted, strays)) = std::str::from_utf8(&body).ok().and_then(sift) else {
                return Ok(HttpResponse::from_parts(parts, body.into()));
            };
            tracing::warn!(
                names = ?&strays[..strays.len().min(5)],
                all = strays.len(),
                "the bucket has objects with names that nobody can read by; left alone"
            );
            parts.extensions.insert(Strays(strays.into()));
            Ok(HttpResponse::from_parts(parts, sifted.into()))
        })
    }
}

fn lists(request: &HttpRequest) -> bool {
    let asked = request.uri().query().unwrap_or_default();
    request.method() == "GET"
        && asked
            .split('&')
            .any(|pair| pair == "list-type=2" || pair == "comp=list")
}

/// The page without what has a name that the library refuses, and those names; `None` if there is none.
fn sift(page: &str) -> Option<(String, Vec<String>)> {
    let (mut rest, mut good, mut strays) = (page, String::new(), Vec::new());
    // In the text of an XML document there is no `<`.
    while let Some((at, (begin, end, tag))) = ITEMS
        .into_iter()
        .filter_map(|item| Some((rest.find(item.0)?, item)))
        .min_by_key(|(at, _)| *at)
    {
        let Some(len) = rest[at..].find(end) else {
            break;
        };
        let after = at + len + end.len();
        let name = name_in(&rest[at + begin.len()..at + len], tag);
        match name.filter(|name| Path::parse(name).is_err()) {
            Some(name) => {
                good.push_str(&rest[..at]);
                strays.push(name);
            }
            None => good.push_str(&rest[..after]),
        }
        rest = &rest[after..];
    }
    if strays.is_empty() {
        return None;
    }
    good.push_str(rest);
    Some((good, strays))
}

fn name_in(item: &str, tag: &str) -> Option<String> {
    let (_, rest) = item.split_once(&format!("<{tag}>"))?;
    let (name, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(unescape(name))
}

/// The text of an XML element. What is no entity stays as it is.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('&') {
        plain.push_str(before);
        let entity = from
            .split_once(';')
            .and_then(|(name, after)| Some((char_of(name)?, after)));
        if let Some((char, after)) = entity {
            plain.push(char);
            rest = after;
        } else {
            plain.push('&');
            rest = from;
        }
    }
    plain.push_str(rest);
    plain
}

fn char_of(entity: &str) -> Option<char> {
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_library_refuses_are_taken_out() {
        let s3 = |key: &str| {
            format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>")
        };
        let page = |items: &[String]| {
            let items = items.concat();
            format!(
                "<ListBucketResult><Name>b</Name>{items}<IsTruncated>false</IsTruncated></ListBucketResult>"
            )
        };
        let good = [
            s3("go/a"),
            s3("go/%ff/b"),
            s3("go/a&amp;b"),
            s3("go/folder/"),
        ];
        assert_eq!(sift(&page(&good)), None);
        let mut mixed = good.to_vec();
        for (at, bad) in [
            "go//a",
            "go/ex.test/%ff/../x",
            "go/.",
            "go/x&#x1;&lt;",
            "go/a&amp;//b",
            "//",
        ]
        .into_iter()
        .enumerate()
        {
            mixed.insert(at * 2 % mixed.len(), s3(bad));
        }
        let (sifted, mut strays) = sift(&page(&mixed)).unwrap();
        assert_eq!(sifted, page(&good));
        strays.sort();
        let wanted = [
            "//",
            "go/.",
            "go//a",
            "go/a&//b",
            "go/ex.test/%ff/../x",
            "go/x\u{1}<",
        ];
        assert_eq!(strays, wanted);
    }

    #[test]
    fn so_are_folders_and_what_azure_lists() {
        let folders = "<L><Prefix>go/</Prefix><CommonPrefixes><Prefix>go//</Prefix></CommonPrefixes>\
                       <CommonPrefixes><Prefix>go/a/</Prefix></CommonPrefixes></L>";
        let (sifted, strays) = sift(folders).unwrap();
        assert_eq!(strays, ["go//"]);
        assert_eq!(
            sifted,
            "<L><Prefix>go/</Prefix><CommonPrefixes><Prefix>go/a/</Prefix></CommonPrefixes></L>"
        );
        let azure = "<Blobs><Blob><Name>go/../a</Name><Properties/></Blob><Blob><Name>go/a</Name></Blob>\
                     <BlobPrefix><Name>..</Name></BlobPrefix></Blobs><NextMarker/>";
        let (sifted, strays) = sift(azure).unwrap();
        assert_eq!(strays, ["go/../a", ".."]);
        assert_eq!(
            sifted,
            "<Blobs><Blob><Name>go/a</Name></Blob></Blobs><NextMarker/>"
        );
        assert_eq!(sift("<Blob><Name>//"), None, "cut off");
        assert_eq!(unescape("&a;&#65;&#x42;&#xd800;&"), "&a;AB&#xd800;&");
    }
}
