//! A repository for every rule, and the questions to ask about it.

mod majors;
mod missing;
mod names;
mod retractions;
mod revisions;
mod roots;
mod tags;
mod trees;

use crate::truth::Questions;
use crate::{Built, Forge, History};

/// A repository and what is asked about its modules.
#[derive(Debug)]
pub struct Entry {
    /// Its name in the forge.
    pub name: &'static str,
    history: History,
    /// The go-import tags: a prefix, and what comes after it with `{url}` for the repository's address.
    imports: Vec<(String, String)>,
    /// Other addresses it is at.
    aliases: Vec<String>,
    asks: Vec<(String, Vec<String>)>,
}

impl Entry {
    /// A repository whose root is `golden.test/NAME`.
    fn new(name: &'static str, history: History) -> Entry {
        let mut entry = Entry::bare(name, history);
        entry.import(&format!("golden.test/{name}"), "git {url}");
        entry
    }

    /// One that no page names.
    fn bare(name: &'static str, history: History) -> Entry {
        Entry {
            name,
            history,
            imports: Vec::new(),
            aliases: Vec::new(),
            asks: Vec::new(),
        }
    }

    fn import(&mut self, prefix: &str, rest: &str) {
        self.imports.push((prefix.to_owned(), rest.to_owned()));
    }

    fn alias(&mut self, address: &str) {
        self.aliases.push(address.to_owned());
    }

    /// Asks about the module `golden.test/NAME` + `below`.
    fn ask(&mut self, below: &str, queries: &[&str]) {
        self.ask_of(&format!("golden.test/{}{below}", self.name), queries);
    }

    /// Asks about any module. The list, `latest` and `HEAD` are always asked.
    fn ask_of(&mut self, module: &str, queries: &[&str]) {
        let always = ["latest", "HEAD"];
        let queries = queries.iter().chain(&always).map(|&query| query.to_owned());
        self.asks.push((module.to_owned(), queries.collect()));
    }

    /// Makes the repository in a forge, with its pages, and says what to ask.
    ///
    /// # Panics
    /// If git does not make it.
    pub fn install(&self, forge: &Forge) -> (Built, Questions) {
        let built = forge.add(self.name, &self.history);
        for (prefix, rest) in &self.imports {
            let url = format!("https://git.golden.test/{}.git", self.name);
            let rest = rest
                .replace("{url}", &url)
                .replace("{ssh}", &forge.ssh())
                .replace("{http}", &forge.http());
            forge.import(prefix, &rest);
        }
        for address in &self.aliases {
            forge.alias(address, self.name);
        }
        let fill = |(module, queries): &(String, Vec<String>)| {
            let queries = queries.iter().map(|query| built.fill(query)).collect();
            (module.clone(), queries)
        };
        let modules = self.asks.iter().map(fill).collect();
        (
            built,
            Questions {
                modules,
                ..Questions::default()
            },
        )
    }
}

/// All of them.
pub fn all() -> Vec<Entry> {
    let mut entries = tags::entries();
    entries.extend(retractions::entries());
    entries.extend(majors::entries());
    entries.extend(revisions::entries());
    entries.extend(trees::entries());
    entries.extend(names::entries());
    entries.extend(roots::entries());
    entries
}

/// Installs the pages that name no repository or name it in odd ways, and says what to ask of each. The repository `plain`
/// of [`all`] must be there.
pub fn pages(forge: &Forge) -> Vec<Questions> {
    let asks = roots::pages(forge).into_iter();
    let asks = asks.chain(missing::pages(forge));
    asks.map(|ask| Questions {
        modules: vec![ask],
        ..Questions::default()
    })
    .collect()
}

/// A go.mod of two lines.
fn go_mod(module: &str) -> crate::Change {
    crate::change::file("go.mod", format!("module {module}\n\ngo 1.21\n"))
}

/// A package of one line, which `text` makes unlike others.
fn package(name: &str, text: &str) -> crate::Change {
    crate::change::file(name, format!("package p // {text}\n"))
}
