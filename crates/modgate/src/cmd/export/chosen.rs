//! What goes into a bundle: versions that were named, what is kept, and what a main module is built of.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use care::{Part, parse_key};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gomod::{
    ModulePath, Version,
    build_list::{BuildList, Node, Source},
    gomod_file::{self, GoMod},
};
use records::{Filter, Records};

use super::asked::{Asked, Miss, off};
use crate::cli::ModuleVersions;

/// Rows that are read at a time.
const PAGE: u32 = 256;
/// `go.mod` files that are asked for at a time.
const AT_ONCE: usize = 16;
/// Most versions in a module graph.
const MOST_NODES: usize = 200_000;

/// Which files of a version are wanted. Its `.mod` always is: without it nothing else can be used, and it has a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) info: bool,
    pub(super) zip: bool,
    /// Somebody named it: without it there is no bundle.
    pub(super) needed: bool,
}

/// Versions, and what is wanted of each.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) versions: BTreeMap<(ModulePath, Version), Parts>,
    /// What of a build list is not there, and why.
    pub(super) missing: Vec<(String, String)>,
}

impl Chosen {
    fn want(&mut self, module: ModulePath, version: Version, parts: Parts) {
        let known = self.versions.entry((module, version)).or_default();
        known.info |= parts.info;
        known.zip |= parts.zip;
        known.needed |= parts.needed;
    }

    /// A version that somebody named; false if it was a module of which nothing is kept.
    pub(super) async fn named(
        &mut self,
        named: &ModuleVersions,
        records: Option<&Records>,
    ) -> io::Result<bool> {
        let module = &named.module;
        if let Some(version) = &named.version {
            let fits = version.check_major(module);
            fits.map_err(|error| io::Error::other(format!("{module}@{version}: {error}")))?;
            let all = Parts {
                info: true,
                zip: true,
                needed: true,
            };
            self.want(module.clone(), version.clone(), all);
            return Ok(true);
        }
        let Some(records) = records else {
            return Ok(false);
        };
        let folder = format!("go/{}/@v", module.escaped());
        let names = records.folder(&folder).await.map_err(io::Error::other)?;
        let mut any = false;
        for name in names {
            any |= self.kept(&format!("{folder}/{name}"));
        }
        Ok(any)
    }

    /// Everything that was kept at `since_ms` or later.
    pub(super) async fn since(&mut self, since_ms: i64, records: &Records) -> io::Result<()> {
        let filter = Filter {
            prefix: "go/".to_owned(),
            kept_from_ms: since_ms,
            ..Filter::default()
        };
        let mut after = String::new();
        loop {
            let rows = records.objects(&after, PAGE, &filter).await;
            let rows = rows.map_err(io::Error::other)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            last.key.clone_into(&mut after);
            for row in rows {
                self.kept(&row.key);
            }
        }
    }

    fn kept(&mut self, key: &str) -> bool {
        let Some((_, module, version, part)) = parse_key(key) else {
            return false;
        };
        // Who asks for a version by its name wants its .info before its zip.
        let parts = Parts {
            info: matches!(part, Part::Info | Part::Zip),
            zip: part == Part::Zip,
            needed: false,
        };
        self.want(module, version, parts);
        true
    }

    /// All that the go command needs to build the main module of this `go.mod`: every version that is built with, and
    /// the `go.mod` of every version by which that is decided. With `allow_missing` what upstream does not have is left
    /// out.
    pub(super) async fn build_list(
        &mut self,
        go_mod: &Path,
        asked: &Asked,
        allow_missing: bool,
    ) -> io::Result<()> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {why}", path.display()))
        };
        let file = read(go_mod.to_owned()).await?;
        let main = GoMod::parse(&file).map_err(|error| wrong(go_mod, &error))?;
        let mut list = BuildList::new(&main);
        let mut missing = BTreeSet::new();
        loop {
            let wanted = list.wanted();
            if wanted.is_empty() {
                break;
            }
            if list.nodes().count() + wanted.len() > MOST_NODES {
                return Err(io::Error::other("the module graph is too large"));
            }
            let sources: Vec<(Node, Source)> = wanted
                .into_iter()
                .map(|node| (node.clone(), list.source(&node)))
                .collect();
            let folder = go_mod.parent().unwrap_or(Path::new(""));
            let mut files = stream::iter(sources)
                .map(|(node, source)| async move {
                    let file = go_mod_of(&source, folder, asked).await?;
                    io::Result::Ok((node, source, file))
                })
                .buffered(AT_ONCE);
            while let Some((node, source, file)) = files.try_next().await? {
                match file {
                    Ok(file) => list.take(&node, &file),
                    Err(miss) => {
                        let name = name_of(&source);
                        if !(allow_missing && matches!(miss, Miss::Missing(_))) {
                            return Err(missed(&name, &miss));
                        }
                        self.missing.push((name, miss.to_string()));
                        list.take(&node, &GoMod::default());
                        missing.insert(source);
                    }
                }
            }
        }
        let graph: Vec<Node> = list.nodes().cloned().collect();
        for (nodes, zip) in [(graph, false), (list.selected().collect(), true)] {
            for node in nodes {
                let source = list.source(&node);
                if missing.contains(&source) {
                    continue;
                }
                let Source::Module(source) = source else {
                    continue;
                };
                let parts = Parts {
                    info: zip,
                    zip,
                    needed: true,
                };
                self.want(module_of(&source)?, source.version, parts);
            }
        }
        Ok(())
    }
}

async fn read(path: PathBuf) -> io::Result<Vec<u8>> {
    let shown = path.display().to_string();
    let read = off(move || std::fs::read(path)).await;
    read.map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))
}

fn module_of(node: &Node) -> io::Result<ModulePath> {
    let wrong = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("{}@{}: {error}", node.path, node.version))
    };
    let module = ModulePath::parse(&node.path).map_err(|error| wrong(&error))?;
    let fits = node.version.check_major(&module);
    fits.map_err(|error| wrong(&error))?;
    Ok(module)
}

fn name_of(source: &Source) -> String {
    match source {
        Source::Folder(path) => path.clone(),
        Source::Module(node) => format!("{}@{}", node.path, node.version),
    }
}

/// The error of a version that cannot be had.
pub(super) fn missed(name: &str, miss: &Miss) -> io::Error {
    // Who is answered says the name too.
    let text = miss.to_string();
    let text = if text.contains(name) {
        text
    } else {
        format!("{name}: {text}")
    };
    io::Error::other(match miss {
        Miss::Missing(_) => format!(
            "{text}\n  hint: --allow-missing leaves out what is not there; the go command may never ask for it"
        ),
        Miss::Absent(_) | Miss::Trouble(_) => text,
    })
}

/// The `go.mod` of a version, or of the folder that replaces it.
async fn go_mod_of(
    source: &Source,
    folder: &Path,
    asked: &Asked,
) -> io::Result<Result<GoMod, Miss>> {
    let file = match source {
        Source::Folder(path) => read(folder.join(path).join("go.mod")).await?,
        Source::Module(node) => {
            let (module, version) = (module_of(node)?, node.version.escaped());
            let path = format!("/{}/@v/{version}.mod", module.escaped());
            match asked.small(&path, gomod_file::MAX_BYTES).await {
                Ok(file) => file.to_vec(),
                Err(miss) => return Ok(Err(miss)),
            }
        }
    };
    let read = GoMod::parse_lax(&file);
    let read = read.map_err(|error| io::Error::other(format!("{}: {error}", name_of(source))))?;
    Ok(Ok(read))
}
