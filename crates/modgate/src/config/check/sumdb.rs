//! The checksum database, named as Go's GOSUMDB names it.

use tlog::note::{SUM_GOLANG_ORG, VerifierKey};
use upstream::chain::BaseUrl;

use super::super::{
    checked::Database,
    goenv::{self, GoSetting},
    itself::Itself,
    kinds::{self, Checked, shown},
    layers::Scope,
    mistake::Mistake,
    nearest::nearest,
    origin::Origin,
    reader::{Reader, quoted},
    redact::redacted,
    source::Place,
};

/// The database whose key Go and modgate have built in.
const KNOWN: &str = "sum.golang.org";

/// Another address of the same database, which Go takes as a name too.
const ALIAS: &str = "sum.golang.google.cn";

/// What is wrong with a GOSUMDB text, and what to do.
#[derive(Debug)]
struct Wrong {
    message: String,
    hint: String,
}

/// The database in effect; `None` is off.
pub(super) fn read(reader: &mut Reader<'_>, scope: &Scope, itself: &Itself) -> Option<Database> {
    let given = reader.read(
        scope,
        "sumdb.name",
        |_, node, kind| -> Checked<_> {
            let text = kinds::text(node, kind)?;
            match parse(text) {
                Ok(database) => Ok((database, text.to_owned())),
                Err(wrong) => Err(vec![node.mistake(wrong.message).hint(wrong.hint)]),
            }
        },
        |(_, text)| quoted(text),
    );
    let found = match (given, scope.node("sumdb.name")) {
        (Some((database, _)), _) => database,
        (None, Some(_)) => None,
        (None, None) => found(reader, scope),
    };
    let url = reader.url(scope, "sumdb.url");
    let mut database = found?;
    if let Some(url) = url {
        choose_url(reader, scope, &mut database, url);
    }
    let own = database.url.as_ref().map(ToString::to_string);
    if let Some(own) = own.filter(|url| !itself.may_be_named && itself.is(url)) {
        reader.notices.push(format!(
            "`{own}`, the URL of the checksum database, is this gateway itself: left out"
        ));
        database.url = None;
    }
    Some(database)
}

/// `sumdb.url` beside a URL in the name: it must belong to the same database.
fn choose_url(reader: &mut Reader<'_>, scope: &Scope, database: &mut Database, url: BaseUrl) {
    let (Some(at_url), at_name) = (scope.node("sumdb.url"), scope.node("sumdb.name")) else {
        return;
    };
    let url_place = &at_url.source.place;
    match at_name.map(|node| &node.source.place) {
        Some(name_place) if rank(name_place) > rank(url_place) => {
            let origin = Origin::of(at_url);
            reader.notices.push(format!(
                "`sumdb.url` ({origin}) has no effect: the database is set by {name_place}"
            ));
        }
        Some(name_place) if database.url.is_some() && rank(name_place) == rank(url_place) => {
            reader.mistakes.push(
                at_url
                    .mistake("`sumdb.name` has a URL already")
                    .hint("keep one of the two"),
            );
        }
        _ => database.url = Some(url),
    }
}

fn rank(place: &Place) -> u8 {
    match place {
        Place::Default => 0,
        Place::File(_) => 1,
        Place::Env(_) => 2,
        Place::Flag(_) => 3,
    }
}

/// The default: what Go uses, else the known database.
fn found(reader: &mut Reader<'_>, scope: &Scope) -> Option<Database> {
    let setting = goenv::settings(reader.env, "GOSUMDB").next();
    let GoSetting { value, from } = setting.unwrap_or_else(|| GoSetting {
        value: KNOWN.to_owned(),
        from: "Go's own default".to_owned(),
    });
    match parse(&value) {
        Ok(database) => {
            if database.is_none() {
                reader
                    .notices
                    .push(format!("no module is verified: `off` is {from}"));
            }
            let setting = scope.setting("sumdb.name");
            reader.record(scope, setting, Some(quoted(&value)), Origin::Found(from));
            database
        }
        Err(wrong) => {
            let place = Place::Env("GOSUMDB".to_owned());
            reader.mistakes.push(
                Mistake::whole(place, format!("{from}: {}", wrong.message))
                    .hint("it is the default of `sumdb.name`: correct it, or set `sumdb.name`"),
            );
            None
        }
    }
}

/// GOSUMDB's forms: `off`, a known name, a key, and a URL after either.
fn parse(text: &str) -> Result<Option<Database>, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (name, url) = match words[..] {
        ["off"] => return Ok(None),
        [ALIAS] => (KNOWN, Some(format!("https://{ALIAS}"))),
        [name] => (name, None),
        [name, url] => (name, Some(url.to_owned())),
        _ => {
            return Err(Wrong {
                message: "expected a name or a key, and at most a URL after it".to_owned(),
                hint:
                    "write \"sum.golang.org\", \"name+hash+key\", \"name+hash+key URL\" or \"off\""
                        .to_owned(),
            });
        }
    };
    let key = if name == KNOWN { SUM_GOLANG_ORG } else { name };
    let key: VerifierKey = key.parse().map_err(|error| wrong_key(name, &error))?;
    let url = url.map(|url| parse_url(&url)).transpose()?;
    Ok(Some(Database { key, url }))
}

fn wrong_key(name: &str, error: &tlog::note::KeyError) -> Wrong {
    let shown = shown(name);
    if name.contains('+') {
        return Wrong {
            message: format!("bad verifier key `{shown}`: {error}"),
            hint: "copy the whole key, name+hash+key, as its owner publishes it".to_owned(),
        };
    }
    Wrong {
        message: format!("`{shown}` is no known checksum database"),
        hint: match nearest(name, [KNOWN, ALIAS, "off"]) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("\"{KNOWN}\" is known by name; give any other as its verifier key"),
        },
    }
}

fn parse_url(url: &str) -> Result<BaseUrl, Wrong> {
    url.parse::<BaseUrl>().map_err(|error| Wrong {
        message: format!(
            "`{}` is not a URL: {}",
            shown(url),
            redacted(&error.to_string())
        ),
        hint: "write it as \"https://host/path\"".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_gosumdb_is_read() {
        for (text, expected) in [
            ("off", None),
            ("sum.golang.org", Some((KNOWN, None))),
            (
                "sum.golang.google.cn",
                Some((KNOWN, Some("https://sum.golang.google.cn"))),
            ),
            (
                "sum.golang.org https://x.example",
                Some((KNOWN, Some("https://x.example"))),
            ),
            (SUM_GOLANG_ORG, Some((KNOWN, None))),
        ] {
            let database = parse(text).expect(text);
            let read = database.as_ref().map(|database| {
                let url = database.url.as_ref().map(ToString::to_string);
                (database.key.name(), url)
            });
            let expected = expected.map(|(name, url)| (name, url.map(str::to_owned)));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn bad_databases_are_explained() {
        for (text, message, hint) in [
            (
                "sum.golang.ogr",
                "no known checksum database",
                "sum.golang.org",
            ),
            ("example.com", "no known checksum database", "verifier key"),
            (
                "sum.golang.org+033de0ae+AAAA",
                "bad verifier key",
                "whole key",
            ),
            ("a b c", "at most a URL", "name+hash+key"),
            ("sum.golang.org nowhere", "not a URL", "https://host"),
            (" ", "expected a name", "off"),
        ] {
            let wrong = parse(text).map(drop).expect_err(text);
            assert!(wrong.message.contains(message), "{text}: {}", wrong.message);
            assert!(wrong.hint.contains(hint), "{text}: {}", wrong.hint);
        }
    }
}
