//! `[direct]` and `[[vcs]]`: modules from version control.

use gomod::ModulePath;
use upstream::chain::BaseUrl;

use super::{
    super::{
        checked::{Direct, VcsMapping},
        kinds::{self, Checked, shown},
        layers::Scope,
        module_patterns,
        overlap::{covers, overlap},
        reader::{Reader, quoted},
        setting::Kind,
        source::Node,
    },
    items, number,
};

/// Schemes of repositories.
const SCHEMES: [&str; 9] = [
    "https", "ssh", "git+ssh", "svn+ssh", "bzr+ssh", "http", "git", "svn", "bzr",
];

pub(super) fn read(reader: &mut Reader<'_>, scope: &Scope) -> Direct {
    let show = |rules: &Vec<super::super::VcsRule>| {
        let rules: Vec<String> = rules
            .iter()
            .map(|rule| format!("{}:{}", rule.pattern, rule.allowed.join("|")))
            .collect();
        quoted(&rules.join(","))
    };
    let vcs = reader.read(
        scope,
        "direct.vcs",
        |_, node, kind| kinds::vcs(node, kind),
        show,
    );
    Direct {
        vcs: vcs.unwrap_or_default(),
        refs_life: reader.time(scope, "direct.refs_life"),
        discovery_life: reader.time(scope, "direct.discovery_life"),
        discovery_negative_life: reader.time(scope, "direct.discovery_negative_life"),
        max_mirrors: number(reader.count(scope, "direct.max_mirrors")),
        max_mirror_bytes: reader.size(scope, "direct.max_mirror_bytes"),
        max_repository_bytes: reader.size(scope, "direct.max_repository_bytes"),
        process_timeout: reader.time(scope, "direct.process_timeout"),
        max_processes: number(reader.count(scope, "direct.max_processes")),
    }
}

/// The `[[vcs]]`. `private` are the patterns of private modules.
pub(super) fn mappings(
    reader: &mut Reader<'_>,
    scope: &Scope,
    private: &[String],
) -> Vec<VcsMapping> {
    let insecure = "network.insecure_hosts";
    let insecure = scope
        .node(insecure)
        .and_then(|node| module_patterns::patterns(node, &scope.setting(insecure).kind).ok())
        .map_or_else(Vec::new, |(_, list)| list);
    let mut mappings: Vec<VcsMapping> = Vec::new();
    for (_, item) in items(reader, scope, "vcs") {
        let prefix = reader.read(&item, "prefix", prefix, |text| quoted(text));
        let repo = reader.read(&item, "repo", template, |text| quoted(text));
        let vcs = reader.choice(&item, "vcs").unwrap_or("git");
        let subdir = reader.read(&item, "subdir", folder, |text| quoted(text));
        let (Some(prefix), Some(repo)) = (prefix, repo) else {
            continue;
        };
        let twice = mappings.iter().any(|other| other.prefix == prefix);
        if let (true, Some(node)) = (twice, item.node("prefix")) {
            let mistake = node.mistake(format!("another [[vcs]] is for `{prefix}` too"));
            reader
                .mistakes
                .push(mistake.hint("only one of them would be used"));
        }
        // Each of its modules is so far below: `git.corp.example/*` names all of `git.corp.example` with `{1}`.
        let modules = format!("{prefix}{}", "/*".repeat(places(&repo)));
        if !private.iter().any(|pattern| covers(pattern, &modules)) {
            reader.notices.push(format!(
                "the modules of [[vcs]] `{prefix}` are public: their names go to the chain and the checksum database unless `private` lists them"
            ));
        }
        if let Some((scheme, host)) = unencrypted(&repo)
            && !insecure
                .iter()
                .any(|pattern| may_allow(pattern, host, &modules))
        {
            reader.notices.push(format!(
                "nothing is asked by [[vcs]] `{prefix}`: {scheme} is not encrypted, and `network.insecure_hosts` does not list `{host}`"
            ));
        }
        mappings.push(VcsMapping {
            prefix,
            repo,
            vcs,
            subdir: subdir.unwrap_or_default(),
        });
    }
    mappings
}

/// The prefixes of the `[[vanity]]`.
pub(super) fn vanity(
    reader: &mut Reader<'_>,
    scope: &Scope,
    public_url: Option<&BaseUrl>,
) -> Vec<String> {
    let mut prefixes = Vec::new();
    for (_, item) in items(reader, scope, "vanity") {
        let Some(found) = reader.read(&item, "prefix", prefix, |text| quoted(text)) else {
            continue;
        };
        let wrong = match public_url {
            None => Some("`?go-get=1` cannot be answered without `public_url`"),
            Some(url) if url.expose() != url.key() => {
                Some("`public_url` would be shown to everybody, with the login in it")
            }
            Some(_) => None,
        };
        if let (Some(wrong), Some(node)) = (wrong, item.node("prefix")) {
            let hint = "set public_url to the address under which clients reach this gateway, such as \"https://modgate.corp.example\"";
            reader.mistakes.push(node.mistake(wrong).hint(hint));
        }
        prefixes.push(found);
    }
    prefixes
}

/// Scheme and host, with its port, of a repository that is asked without encryption.
fn unencrypted(repo: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = repo.split_once("://")?;
    let host = rest.split('/').next().unwrap_or(rest);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    matches!(scheme, "http" | "git" | "svn" | "bzr").then_some((scheme, host))
}

/// Whether some module of a `[[vcs]]` may be asked without encryption by this pattern: of its repository's host, of its own
/// host, or of itself.
fn may_allow(pattern: &str, host: &str, modules: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // With places in it the host is known with the module only.
    host.contains('{')
        || overlap(pattern, host)
        || overlap(pattern, name)
        || overlap(pattern, modules)
}

/// How many elements of a module path behind `prefix` a repository's URL takes.
fn places(template: &str) -> usize {
    (1..=9)
        .rev()
        .find(|place| template.contains(&format!("{{{place}}}")))
        .unwrap_or(0)
}

/// The beginning of module paths.
fn prefix(_: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<String> {
    let text = kinds::text(node, kind)?.trim_end_matches('/');
    // What begins a path of gopkg.in has no major version yet, so it is none itself.
    let parsed = if text.starts_with("gopkg.in/") {
        ModulePath::parse(text).or_else(|_| ModulePath::parse(&format!("{text}/x.v1")))
    } else {
        ModulePath::parse(text)
    };
    match parsed {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let mistake = node.mistake(format!("`{}` begins no module path: {error}", shown(text)));
            Err(vec![mistake.hint(
                "write it as \"git.corp.example/team\", without scheme and `*`",
            )])
        }
    }
}

/// A repository's URL with `{1}` to `{9}`.
fn template(_: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<String> {
    let text = kinds::text(node, kind)?;
    let hint = "write \"ssh://git@git.corp.example/team/{1}.git\": {1} is the first path element behind `prefix`";
    let wrong = |message: &str| Err(vec![node.mistake(message).hint(hint)]);
    if !text.chars().all(|c| c.is_ascii_graphic() && c != '\\') {
        return wrong("a URL has no such characters");
    }
    let mut pieces = text.split('{');
    let first = pieces.next().unwrap_or("");
    let places = pieces.all(
        |piece| matches!(piece.as_bytes(), [b'1'..=b'9', b'}', rest @ ..] if !rest.contains(&b'}')),
    );
    if !places || first.contains('}') {
        return wrong("braces hold a number from 1 to 9");
    }
    let (scheme, rest) = match text.split_once("://") {
        Some(parts) => parts,
        // `git@host:path`
        None if text
            .split_once(':')
            .is_some_and(|(host, _)| host.contains('@') && !host.contains('/')) =>
        {
            ("ssh", text)
        }
        None => return wrong("it is no URL"),
    };
    if !SCHEMES.contains(&scheme) {
        return wrong("no repository is asked over this scheme");
    }
    let authority = rest.split('/').next().unwrap_or("");
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() || host.starts_with(['-', ':', '{']) || user.starts_with('-') {
        return wrong("it names no host");
    }
    let credential = |message: &str| {
        Err(vec![
            node.mistake(message)
                .hint("write a [[credential]] for the host"),
        ])
    };
    if user.contains(':') {
        return credential("a password does not belong into the address");
    }
    // Over http it logs nobody in, and is often a token. Clients are told where their modules are from.
    if !user.is_empty() && matches!(scheme, "http" | "https") {
        return credential("a user or token does not belong into an address of http");
    }
    if rest.contains(['?', '#']) {
        return credential("an address with `?` or `#` is none of a repository");
    }
    Ok(text.to_owned())
}

/// A folder in a repository.
fn folder(_: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<String> {
    let text = kinds::text(node, kind)?.trim_end_matches('/');
    let element = |element: &str| !matches!(element, "" | "." | "..") && !element.starts_with('-');
    if text.split('/').all(element) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    let mistake = node.mistake(format!("`{}` is no folder in a repository", shown(text)));
    Err(vec![mistake.hint("write it as \"pkgs/go\"")])
}
