//! `go-import` tags in a page, read as leniently as the go command reads them.

use std::borrow::Cow;

/// One `<meta name="go-import" content="prefix vcs url [subdir]">`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) prefix: String,
    pub(crate) vcs: String,
    pub(crate) url: String,
    pub(crate) subdir: String,
}

/// A page in another encoding than UTF-8, named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Charset(pub(crate) String);

/// The tags up to `</head>` or `<body>`, `mod` entries first; entries that a `mod` entry of the same prefix supersedes
/// are left out.
pub(crate) fn imports(page: &[u8]) -> Result<Vec<Import>, Charset> {
    let text = String::from_utf8_lossy(page);
    let mut found = Vec::new();
    for token in Tokens(&text) {
        match token {
            Token::Xml(declaration) => {
                let encoding = declaration.attribute("encoding").unwrap_or_default();
                if !matches!(
                    encoding.to_ascii_lowercase().as_str(),
                    "" | "utf-8" | "ascii"
                ) {
                    // Nothing behind it can be read; nothing stands before it.
                    return Err(Charset(encoding.chars().take(40).collect()));
                }
            }
            Token::Close(name) if name.eq_ignore_ascii_case("head") => break,
            Token::Open(tag) if tag.name.eq_ignore_ascii_case("body") => break,
            Token::Open(tag) if tag.name.eq_ignore_ascii_case("meta") => found.extend(import(&tag)),
            Token::Open(_) | Token::Close(_) => {}
        }
    }
    let (mods, mut rest): (Vec<Import>, Vec<Import>) =
        found.into_iter().partition(|import| import.vcs == "mod");
    rest.retain(|import| mods.iter().all(|other| other.prefix != import.prefix));
    Ok(mods.into_iter().chain(rest).collect())
}

fn import(tag: &Tag<'_>) -> Option<Import> {
    if tag.attribute("name").as_deref() != Some("go-import") {
        return None;
    }
    let content = tag.attribute("content")?;
    let mut fields = content.split_whitespace().map(str::to_owned);
    let import = Import {
        prefix: fields.next()?,
        vcs: fields.next()?,
        url: fields.next()?,
        subdir: fields.next().unwrap_or_default(),
    };
    fields.next().is_none().then_some(import)
}

/// What matters of a page.
enum Token<'a> {
    /// `<?xml …?>`
    Xml(Tag<'a>),
    /// `<name …>`
    Open(Tag<'a>),
    /// `</name>`
    Close(&'a str),
}

struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, Cow<'a, str>)>,
}

impl Tag<'_> {
    /// The first attribute of that name.
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self
            .attributes
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| Cow::Borrowed(&**value))
    }
}

/// What is left of the page. Never fails: what is no tag is text.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.0 = &self.0[self.0.find('<')? + 1..];
            if let Some(rest) = self.0.strip_prefix("!--") {
                self.0 = after(rest, "-->");
            } else if self.0.starts_with("![CDATA[") {
                self.0 = after(self.0, "]]>");
            } else if let Some(rest) = self.0.strip_prefix('/') {
                let end = rest.find('>').unwrap_or(rest.len());
                self.0 = &rest[end..];
                return Some(Token::Close(rest[..end].trim()));
            } else if let Some(rest) = self.0.strip_prefix("?xml") {
                let end = rest.find("?>").unwrap_or(rest.len());
                self.0 = &rest[end..];
                let mut inside = &rest[..end];
                let (attributes, _) = attributes(&mut inside);
                return Some(Token::Xml(Tag {
                    name: "xml",
                    attributes,
                }));
            } else if self.0.starts_with(|c: char| c.is_ascii_alphabetic()) {
                let end = self.0.find(|c: char| c.is_whitespace() || "/>".contains(c));
                let (name, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
                self.0 = rest;
                let (attributes, end) = attributes(&mut self.0);
                // Of a page that was cut the last value may be half of one: another repository's name.
                if end == End::Missing {
                    return None;
                }
                // Their content is no markup; in XHTML they may have none.
                let raw = name.eq_ignore_ascii_case("script") || name.eq_ignore_ascii_case("style");
                if raw && end == End::Tag {
                    self.0 = skip_raw(self.0, name);
                }
                return Some(Token::Open(Tag { name, attributes }));
            }
        }
    }
}

fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.find(end).map_or("", |at| &text[at + end.len()..])
}

/// From the closing tag of an element on.
fn skip_raw<'a>(text: &'a str, name: &str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        let close = &rest[at + 2..];
        if close
            .get(..name.len())
            .is_some_and(|other| other.eq_ignore_ascii_case(name))
        {
            return &rest[at..];
        }
        rest = close;
    }
    ""
}

/// How a tag ends.
#[derive(PartialEq, Eq)]
enum End {
    /// `>`
    Tag,
    /// `/>`
    Element,
    /// Not at all.
    Missing,
}

/// Reads attributes up to and with the closing `>`: with quoted values, bare values, or none.
fn attributes<'a>(rest: &mut &'a str) -> (Vec<(&'a str, Cow<'a, str>)>, End) {
    let mut all = Vec::new();
    loop {
        let before = *rest;
        *rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if let Some(behind) = rest.strip_prefix('>') {
            let between = &before[..before.len() - rest.len()];
            let end = if between.ends_with('/') {
                End::Element
            } else {
                End::Tag
            };
            *rest = behind;
            return (all, end);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=/>".contains(c));
        let (name, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let Some(value) = behind.trim_start().strip_prefix('=') else {
            if name.is_empty() && behind.is_empty() {
                *rest = behind;
                return (all, End::Missing);
            }
            all.push((name, Cow::Borrowed(name)));
            *rest = behind;
            continue;
        };
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, behind) = if let Some(quote) = quote {
            value[1..].split_once(quote).unwrap_or((&value[1..], ""))
        } else {
            let end = value.find(|c: char| c.is_whitespace() || c == '>');
            value.split_at(end.unwrap_or(value.len()))
        };
        all.push((name, unescape(value)));
        *rest = behind;
    }
}

/// Replaces XML's own entities and numbers; others stay as they are.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        out.push_str(before);
        // The longest is `&#x10ffff;`.
        let entity = behind.split_once(';').filter(|(name, _)| name.len() <= 8);
        let decoded = entity.and_then(|(name, after)| Some((character(name)?, after)));
        let (c, after) = decoded.unwrap_or(('&', behind));
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(number.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(page: &str) -> String {
        match imports(page.as_bytes()) {
            Ok(all) => all
                .iter()
                .map(|i| {
                    format!("{} {} {} {}", i.prefix, i.vcs, i.url, i.subdir)
                        .trim_end()
                        .to_owned()
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(Charset(name)) => format!("charset {name}"),
        }
    }

    #[test]
    fn pages() {
        for (page, want) in [
            (
                r#"<meta name="go-import" content="a.com/x git https://h/x">"#,
                "a.com/x git https://h/x",
            ),
            (
                r"<META Name='go-import' CONTENT='a.com/x git https://h/x'/>",
                "a.com/x git https://h/x",
            ),
            (
                r#"<meta content="a.com/x git https://h/x" name=go-import>"#,
                "a.com/x git https://h/x",
            ),
            (
                "<meta\nname = \"go-import\"\n content=\n\" a.com/x\n git\thttps://h/x \">",
                "a.com/x git https://h/x",
            ),
            (
                r#"<meta name="go-import" content="a.com/x git https://h/x pkgs/go">"#,
                "a.com/x git https://h/x pkgs/go",
            ),
            (r#"<meta name="go-import" content="a.com/x git">"#, ""),
            (
                r#"<meta name="go-import" content="a.com/x git https://h/x sub too many">"#,
                "",
            ),
            (
                r#"<meta name="Go-Import" content="a.com/x git https://h/x">"#,
                "",
            ),
            (
                r#"<meta name="go-source" content="a.com/x git https://h/x">"#,
                "",
            ),
            (
                r#"<meta name="go-import" content="a.com/x git https://h/x?a=1&amp;b=&#50;&unknown;&">"#,
                "a.com/x git https://h/x?a=1&b=2&unknown;&",
            ),
            (
                r#"<head></head><meta name="go-import" content="a.com/x git https://h/x">"#,
                "",
            ),
            (
                r#"<BODY onload=x><meta name="go-import" content="a.com/x git https://h/x">"#,
                "",
            ),
            (
                r#"<!-- <meta name="go-import" content="a.com/x git https://h/x"> -->"#,
                "",
            ),
            (
                r#"<script>a<b; "</head><meta name=go-import content='e git f'>"</script><meta name="go-import" content="a.com/x git https://h/x">"#,
                "a.com/x git https://h/x",
            ),
            (
                r#"<!DOCTYPE html><html lang=en><p>1 < 2<br><meta name="go-import" content="a.com/x git https://h/x">"#,
                "a.com/x git https://h/x",
            ),
            (
                r#"<meta name="go-import" content="a.com/x git https://h/x"#,
                "",
            ),
            (
                r#"<meta name="go-import" content="a.com/y git https://h/y"><meta name="go-import" content="a.com/x git https://h/x""#,
                "a.com/y git https://h/y",
            ),
            (
                "<meta name=go-import content='a.com/x git https://h/x' ",
                "",
            ),
            (
                r#"<script src="x" /><meta name="go-import" content="a.com/x git https://h/x">"#,
                "a.com/x git https://h/x",
            ),
            (
                r#"<meta charset=utf-8><meta name="go-import" content="a.com git u1"><meta name="go-import" content="a.com mod u2"><meta name="go-import" content="b.com git u3">"#,
                "a.com mod u2; b.com git u3",
            ),
            (
                r#"<?xml version="1.0" encoding="UTF-8"?><meta name="go-import" content="a.com git u">"#,
                "a.com git u",
            ),
            (
                r#"<?xml version="1.0" encoding="iso-8859-1"?><meta name="go-import" content="a.com git u">"#,
                "charset iso-8859-1",
            ),
            ("<", ""),
            ("<meta", ""),
            ("</", ""),
            ("<?xml", ""),
            ("<meta =", ""),
            ("<meta = name>", ""),
            ("<!--", ""),
            ("<script", ""),
        ] {
            assert_eq!(show(page), want, "{page}");
        }
    }

    /// Pieces that pages are made of.
    fn page() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("<meta ".to_owned()),
            Just("name=\"go-import\" ".to_owned()),
            Just("content=\"a.com git https://h\"".to_owned()),
            Just("<!--".to_owned()),
            Just("-->".to_owned()),
            Just("<script>".to_owned()),
            Just("</script>".to_owned()),
            Just("<?xml encoding='".to_owned()),
            Just("?>".to_owned()),
            Just("&#x".to_owned()),
            "[<>/='\"!&;# \u{e9}a-]{0,6}",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// No page breaks the parser, however it is cut; and a tag before all the rubbish is found.
        #[test]
        fn any_page(page in page(), cut in any::<prop::sample::Index>()) {
            let bytes = page.as_bytes();
            let _ = imports(bytes);
            if !bytes.is_empty() {
                let _ = imports(&bytes[cut.index(bytes.len())..]);
            }
            let tag = "<meta name=\"go-import\" content=\"first.example git https://h\">";
            if let Ok(all) = imports(format!("{tag}{page}").as_bytes()) {
                prop_assert!(all.iter().any(|import| import.prefix == "first.example"));
            }
        }
    }
}
