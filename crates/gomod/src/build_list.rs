//! The modules that a main module is built of: minimal version selection over the pruned module graph
//! (go.dev/ref/mod#minimal-version-selection, #graph-pruning).
//!
//! No input or output: [`BuildList::wanted`] names the `go.mod` files that must be read, [`BuildList::take`] is given
//! them, until no more are wanted.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{Version, gomod_file::GoMod};

/// A module version as `go.mod` files name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The path as written, which need not be a valid [`ModulePath`](crate::ModulePath).
    pub path: String,
    /// The version.
    pub version: Version,
}

/// Where a module version's files come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The version itself, or the one that replaces it.
    Module(Node),
    /// A folder that replaces it, as written: it is none of a proxy's.
    Folder(String),
}

/// What is known of a `go.mod` that was read.
#[derive(Debug)]
struct Summary {
    requires: Vec<Node>,
    pruned: bool,
}

/// A module graph that is being read.
#[derive(Debug)]
pub struct BuildList {
    /// The main module's own path: it is built as it is, whatever requires it.
    main: String,
    exclude: HashSet<Node>,
    replace: HashMap<(String, Option<Version>), Source>,
    highest: BTreeMap<String, Version>,
    read: HashMap<Node, Summary>,
    /// What was begun, and whether with its whole graph.
    begun: HashSet<(Node, bool)>,
    /// What is being read, and for whom.
    reading: BTreeMap<Node, Vec<bool>>,
    wanted: Vec<Node>,
}

impl BuildList {
    /// Begins with the `go.mod` of the main module.
    pub fn new(main: &GoMod) -> Self {
        let exclude = main.exclude.iter().map(|exclude| Node {
            path: exclude.path.clone(),
            version: exclude.version.clone(),
        });
        let replace = main.replace.iter().map(|replace| {
            let source = match &replace.new_version {
                Some(version) => Source::Module(Node {
                    path: replace.new.clone(),
                    version: version.clone(),
                }),
                None => Source::Folder(replace.new.clone()),
            };
            ((replace.path.clone(), replace.version.clone()), source)
        });
        let mut list = Self {
            main: main
                .module
                .as_ref()
                .map_or_else(String::new, |main| main.path.clone()),
            exclude: exclude.collect(),
            replace: replace.collect(),
            highest: BTreeMap::new(),
            read: HashMap::new(),
            begun: HashSet::new(),
            reading: BTreeMap::new(),
            wanted: Vec::new(),
        };
        let Summary { requires, pruned } = list.summary(main);
        list.begin(requires.into_iter().map(|node| (node, !pruned)).collect());
        list
    }

    /// The versions whose `go.mod` must be read next, each once. Where nothing is wanted and nothing is still to be
    /// taken, the graph is whole.
    pub fn wanted(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.wanted)
    }

    /// Takes the `go.mod` of a version that was wanted: that of its [`source`](Self::source).
    pub fn take(&mut self, node: &Node, file: &GoMod) {
        let Some(modes) = self.reading.remove(node) else {
            return;
        };
        let summary = self.summary(file);
        self.read.insert(node.clone(), summary);
        for whole in modes {
            let required = self.required(node, whole);
            self.begin(required);
        }
    }

    /// Where a version comes from.
    pub fn source(&self, node: &Node) -> Source {
        let of = |version| self.replace.get(&(node.path.clone(), version));
        let replaced = of(Some(node.version.clone())).or_else(|| of(None));
        replaced.map_or_else(|| Source::Module(node.clone()), Source::clone)
    }

    /// The version of each module that is built with.
    pub fn selected(&self) -> impl Iterator<Item = Node> + '_ {
        let others = self.highest.iter();
        let others = others.filter(|(path, _)| **path != self.main);
        others.map(|(path, version)| Node {
            path: path.clone(),
            version: version.clone(),
        })
    }

    /// The versions whose `go.mod` was read.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.read.keys()
    }

    fn summary(&self, file: &GoMod) -> Summary {
        let requires = file.require.iter().map(|require| Node {
            path: require.path.clone(),
            version: require.version.clone(),
        });
        Summary {
            requires: requires
                .filter(|node| !self.exclude.contains(node))
                .collect(),
            pruned: file.language_at_least(1, 17),
        }
    }

    /// Adds what somebody requires: with all that these require in turn and so on, or not.
    fn begin(&mut self, mut rest: Vec<(Node, bool)>) {
        while let Some((node, whole)) = rest.pop() {
            self.raise(&node);
            if !self.begun.insert((node.clone(), whole)) {
                continue;
            }
            if self.read.contains_key(&node) {
                rest.extend(self.required(&node, whole));
                continue;
            }
            let modes = self.reading.entry(node.clone()).or_default();
            if modes.is_empty() {
                self.wanted.push(node);
            }
            modes.push(whole);
        }
    }

    /// What a version that was read adds to the graph. The requirements of a module that supports pruning are not
    /// read further, unless somebody above it does not.
    fn required(&mut self, node: &Node, whole: bool) -> Vec<(Node, bool)> {
        let Some(summary) = self.read.get(node) else {
            return Vec::new();
        };
        if whole || !summary.pruned {
            let required = summary.requires.iter();
            return required.map(|node| (node.clone(), true)).collect();
        }
        for node in summary.requires.clone() {
            self.raise(&node);
        }
        Vec::new()
    }

    /// A version is required: no lower one of its module is selected.
    fn raise(&mut self, node: &Node) {
        match self.highest.get_mut(&node.path) {
            Some(highest) if *highest >= node.version => {}
            Some(highest) => highest.clone_from(&node.version),
            None => {
                let (path, version) = (node.path.clone(), node.version.clone());
                self.highest.insert(path, version);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        let (path, version) = text.split_once('@').unwrap();
        Node {
            path: path.to_owned(),
            version: Version::parse(version).unwrap(),
        }
    }

    /// Builds the list from files by `path@version`; returns what was read and what is selected.
    fn build(main: &str, files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let files: HashMap<Node, &str> = files
            .iter()
            .map(|(name, file)| (node(name), *file))
            .collect();
        let mut list = BuildList::new(&GoMod::parse(main.as_bytes()).unwrap());
        loop {
            let wanted = list.wanted();
            if wanted.is_empty() {
                break;
            }
            for node in wanted {
                let file = match list.source(&node) {
                    Source::Module(source) => files[&source],
                    Source::Folder(_) => "module replaced\n",
                };
                list.take(&node, &GoMod::parse_lax(file.as_bytes()).unwrap());
            }
        }
        let text = |node: &Node| format!("{}@{}", node.path, node.version);
        let mut read: Vec<String> = list.nodes().map(text).collect();
        read.sort();
        (read, list.selected().map(|node| text(&node)).collect())
    }

    #[test]
    fn without_pruning_everything_is_read() {
        let (read, selected) = build(
            "module m\ngo 1.16\nrequire a.x/a v1.0.0\nrequire b.x/b v1.1.0\nexclude c.x/c v1.9.0\n",
            &[
                (
                    "a.x/a@v1.0.0",
                    "module a.x/a\ngo 1.20\nrequire c.x/c v1.2.0\n",
                ),
                (
                    "b.x/b@v1.1.0",
                    "module b.x/b\nrequire (\nc.x/c v1.1.0\nc.x/c v1.9.0\n)\n",
                ),
                ("c.x/c@v1.1.0", "module c.x/c\nrequire a.x/a v1.0.0\n"),
                (
                    "c.x/c@v1.2.0",
                    "module c.x/c\ngo 1.21\nrequire d.x/d v0.1.0\n",
                ),
                ("d.x/d@v0.1.0", "module d.x/d\ngo 1.21\n"),
            ],
        );
        assert_eq!(read.len(), 5, "{read:?}");
        assert_eq!(
            selected,
            [
                "a.x/a@v1.0.0",
                "b.x/b@v1.1.0",
                "c.x/c@v1.2.0",
                "d.x/d@v0.1.0"
            ]
        );
    }

    #[test]
    fn what_is_pruned_is_not_read_but_counts() {
        // `old` is from before there was pruning: all below it is read, also what `new` prunes.
        let (read, selected) = build(
            "module m\ngo 1.21\nrequire (\nnew.x/n v1.0.0\nold.x/o v1.0.0\n)\n",
            &[
                (
                    "new.x/n@v1.0.0",
                    "module new.x/n\ngo 1.17\nrequire far.x/f v1.5.0\n",
                ),
                (
                    "old.x/o@v1.0.0",
                    "module old.x/o\ngo 1.16\nrequire mid.x/m v1.0.0\n",
                ),
                (
                    "mid.x/m@v1.0.0",
                    "module mid.x/m\ngo 1.21\nrequire far.x/f v1.0.0\n",
                ),
                ("far.x/f@v1.0.0", "module far.x/f\ngo 1.21\n"),
            ],
        );
        assert_eq!(
            read,
            [
                "far.x/f@v1.0.0",
                "mid.x/m@v1.0.0",
                "new.x/n@v1.0.0",
                "old.x/o@v1.0.0"
            ]
        );
        assert_eq!(
            selected,
            [
                "far.x/f@v1.5.0",
                "mid.x/m@v1.0.0",
                "new.x/n@v1.0.0",
                "old.x/o@v1.0.0"
            ]
        );
    }

    #[test]
    fn what_is_replaced_is_read_from_elsewhere() {
        let (read, selected) = build(
            "module m\ngo 1.16\nrequire (\na.x/a v1.0.0\nb.x/b v1.0.0\n)\nreplace a.x/a => f.x/fork v1.2.0\nreplace b.x/b v1.0.0 => ../b\n",
            &[
                ("f.x/fork@v1.2.0", "module a.x/a\nrequire c.x/c v1.0.0\n"),
                ("c.x/c@v1.0.0", "module c.x/c\n"),
            ],
        );
        assert_eq!(read, ["a.x/a@v1.0.0", "b.x/b@v1.0.0", "c.x/c@v1.0.0"]);
        assert_eq!(selected.len(), 3);
    }

    #[test]
    fn circles_end() {
        let (read, selected) = build(
            "module m.x/m\nrequire a.x/a v1.0.0\n",
            &[
                ("a.x/a@v1.0.0", "module a.x/a\nrequire b.x/b v1.0.0\n"),
                (
                    "b.x/b@v1.0.0",
                    "module b.x/b\nrequire (\na.x/a v1.0.0\nm.x/m v1.0.0\n)\n",
                ),
                ("m.x/m@v1.0.0", "module m.x/m\n"),
            ],
        );
        assert_eq!(read.len(), 3);
        assert_eq!(selected, ["a.x/a@v1.0.0", "b.x/b@v1.0.0"]);
    }
}
