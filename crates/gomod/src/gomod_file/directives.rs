//! What the lines of a `go.mod` mean.

use super::{
    Exclude, GoMod, GoModError, Module, Replace, Require, Retraction,
    syntax::{Line, Statement},
    words::{is_go_version, lax_go_version, unquoted},
};
use crate::{Version, path, semver, version};

type Meaning<T> = Result<T, &'static str>;

const QUOTES: &str = "bad quoting";

/// Adds up the statements. `strict`: as the main module's file is read, else as a dependency's.
pub(super) fn read(statements: &[Statement<'_>], strict: bool) -> Result<GoMod, GoModError> {
    let mut file = GoMod::default();
    for Statement { head, block } in statements {
        let verb = head.words[0];
        match block {
            None => add(&mut file, None, head, verb, &head.words[1..], strict)?,
            Some(lines) if head.words.len() == 1 && may_be_block(verb) => {
                for line in lines {
                    add(&mut file, Some(head), line, verb, &line.words, strict)?;
                }
            }
            Some(_) if strict => {
                return Err(GoModError {
                    line: head.number,
                    why: "an unknown kind of block",
                });
            }
            Some(_) => {}
        }
    }
    Ok(file)
}

fn may_be_block(verb: &str) -> bool {
    matches!(
        verb,
        "module" | "godebug" | "require" | "exclude" | "replace" | "retract" | "tool" | "ignore"
    )
}

fn add(
    file: &mut GoMod,
    block: Option<&Line<'_>>,
    line: &Line<'_>,
    verb: &str,
    args: &[&str],
    strict: bool,
) -> Result<(), GoModError> {
    // Others matter only in the main module.
    if !strict && !matches!(verb, "go" | "module" | "retract" | "require" | "ignore") {
        return Ok(());
    }
    let added = match verb {
        "go" => set_go(file, args, strict),
        "toolchain" => set_toolchain(file, args),
        "module" => set_module(file, block, line, args),
        "require" => required(args).map(|(path, version)| {
            file.require.push(Require {
                path,
                version,
                indirect: is_indirect(line),
            });
        }),
        "exclude" => {
            required(args).map(|(path, version)| file.exclude.push(Exclude { path, version }))
        }
        "replace" => replaced(args).map(|replace| file.replace.push(replace)),
        "retract" => match retracted(args, strict) {
            Ok((low, high)) => {
                file.retract.push(Retraction {
                    low,
                    high,
                    rationale: comment_of(block, line),
                });
                Ok(())
            }
            Err(why) if strict => Err(why),
            // Perhaps a form that comes later.
            Err(_) => Ok(()),
        },
        "godebug" => match args {
            [setting] if setting.contains('=') && !setting.contains(['"', '`', '\'', ',']) => {
                Ok(())
            }
            _ => Err("godebug is followed by key=value"),
        },
        "tool" | "ignore" => match args {
            [one] => unquoted(one).map(|_| ()).ok_or(QUOTES),
            _ => Err("tool and ignore are followed by one path"),
        },
        _ => Err("an unknown directive"),
    };
    added.map_err(|why| GoModError {
        line: line.number,
        why,
    })
}

fn set_go(file: &mut GoMod, args: &[&str], strict: bool) -> Meaning<()> {
    let [text] = args else {
        return Err("go is followed by one version");
    };
    if file.go.is_some() {
        return Err("a second go line");
    }
    let version = if is_go_version(text) {
        text
    } else {
        Some(text)
            .filter(|_| !strict)
            .and_then(|text| lax_go_version(text))
            .ok_or("go is followed by a version like 1.23.0")?
    };
    file.go = Some(version.to_owned());
    Ok(())
}

fn set_toolchain(file: &mut GoMod, args: &[&str]) -> Meaning<()> {
    if file.toolchain.is_some() {
        return Err("a second toolchain line");
    }
    match args {
        [name] if matches!(*name, "default" | "go1") || name.starts_with("go1.") => {
            file.toolchain = Some((*name).to_owned());
            Ok(())
        }
        _ => Err("toolchain is followed by one name like go1.23.0, or default"),
    }
}

fn set_module(
    file: &mut GoMod,
    block: Option<&Line<'_>>,
    line: &Line<'_>,
    args: &[&str],
) -> Meaning<()> {
    if file.module.is_some() {
        return Err("a second module line");
    }
    let [path] = args else {
        return Err("module is followed by one path");
    };
    file.module = Some(Module {
        path: unquoted(path).ok_or(QUOTES)?.into_owned(),
        deprecated: deprecation(&comment_of(block, line)),
    });
    Ok(())
}

/// A module and the canonical form of its version.
fn required(args: &[&str]) -> Meaning<(String, Version)> {
    let [path, version] = args else {
        return Err("a module path and a version should follow");
    };
    let path = unquoted(path).ok_or(QUOTES)?;
    let version = fitting(&path, version)?;
    Ok((path.into_owned(), version))
}

fn fitting(path: &str, word: &str) -> Meaning<Version> {
    let version = canonical(word)?;
    let (_, major) = path::split_major(path).ok_or("an invalid module path")?;
    version::check_major(version.as_str(), major)
        .map_err(|_| "a version that the module's path cannot have")?;
    Ok(version)
}

fn canonical(word: &str) -> Meaning<Version> {
    let version = unquoted(word).ok_or(QUOTES)?;
    semver::canonical(&version)
        .and_then(|text| Version::parse(&text).ok())
        .ok_or("a version that is not of the form v1.2.3")
}

fn replaced(args: &[&str]) -> Meaning<Replace> {
    const USAGE: &str = "replace is written `module [version] => module version` or `=> folder`";
    let arrow = match args {
        [_, "=>", ..] => 1,
        [_, _, "=>", ..] => 2,
        _ => return Err(USAGE),
    };
    let path = unquoted(args[0]).ok_or(QUOTES)?;
    path::split_major(&path).ok_or("an invalid module path")?;
    let version = match arrow {
        2 => Some(fitting(&path, args[1])?),
        _ => None,
    };
    let (new, new_version) = match &args[arrow + 1..] {
        [new] => (unquoted(new).ok_or(QUOTES)?, None),
        [new, version] => (unquoted(new).ok_or(QUOTES)?, Some(canonical(version)?)),
        _ => return Err(USAGE),
    };
    match (is_folder(&new), &new_version) {
        (true, Some(_)) => return Err("a folder has no version"),
        (false, None) => {
            return Err(
                "a replacement without a version must be a folder: rooted, or beginning with . or ..",
            );
        }
        (true, None) if new.contains('\\') => return Err("a folder's path of Windows"),
        _ => {}
    }
    Ok(Replace {
        path: path.into_owned(),
        version,
        new: new.into_owned(),
        new_version,
    })
}

/// Whether a replacement is a folder's path, of any system.
fn is_folder(path: &str) -> bool {
    let drive = matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    matches!(path, "." | "..")
        || ["./", ".\\", "../", "..\\", "/", "\\"]
            .iter()
            .any(|start| path.starts_with(start))
        || drive
}

/// The ends of an interval, equal for a single version. They need not be versions.
fn retracted(args: &[&str], strict: bool) -> Meaning<(String, String)> {
    let text = |word: &str| {
        unquoted(word)
            .map(std::borrow::Cow::into_owned)
            .ok_or(QUOTES)
    };
    let (interval, rest) = match args {
        ["[", low, ",", high, "]", rest @ ..] => ((text(low)?, text(high)?), rest),
        [] | ["(" | "[", ..] => return Err("retract is followed by a version or [low, high]"),
        [only, rest @ ..] => {
            let only = text(only)?;
            ((only.clone(), only), rest)
        }
    };
    if strict && !rest.is_empty() {
        return Err("something behind the version");
    }
    Ok(interval)
}

fn is_indirect(line: &Line<'_>) -> bool {
    let Some(comment) = line.comments.suffix.first() else {
        return false;
    };
    let mut words = comment
        .strip_prefix("//")
        .unwrap_or(comment)
        .split_whitespace();
    matches!(
        (words.next(), words.next()),
        (Some("indirect"), None) | (Some("indirect;"), Some(_))
    )
}

/// The comments of a directive; those of its block if it has none.
fn comment_of(block: Option<&Line<'_>>, line: &Line<'_>) -> String {
    let own = &line.comments;
    let comments = match block {
        Some(block) if own.before.is_empty() && own.suffix.is_empty() => &block.comments,
        _ => own,
    };
    let lines: Vec<&str> = comments
        .before
        .iter()
        .chain(&comments.suffix)
        .filter_map(|comment| comment.strip_prefix("//"))
        .map(str::trim)
        .collect();
    lines.join("\n")
}

/// The first paragraph that begins with `Deprecated:`, without that word.
fn deprecation(comment: &str) -> String {
    const START: &str = "\n\nDeprecated:";
    let text = match comment.strip_prefix(&START[2..]) {
        Some(text) => text,
        None => match comment.split_once(START) {
            Some((_, text)) => text,
            None => return String::new(),
        },
    };
    let text = text.trim_start_matches(' ');
    text.split("\n\n").next().unwrap_or_default().to_owned()
}
