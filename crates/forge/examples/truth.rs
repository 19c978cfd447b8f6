//! Prints what the real `go` says about the modules of the catalogue: of all, or of those whose repository is named.
//!
//! `cargo run -p forge --example truth -- plain meta`

#![expect(clippy::print_stdout, reason = "it is what this is for")]

use forge::truth::Go;
use forge::{Forge, Others, catalog};

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let forge = Forge::start().await;
    let go = Go::new(&forge);
    let entries = catalog::all().into_iter();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let chosen = entries.filter(|entry| is_wanted(entry.name));
    let mut all: Vec<_> = chosen.map(|entry| entry.install(&forge).1).collect();
    let others = if is_wanted("others") {
        Some(Others::start(&forge).await)
    } else {
        None
    };
    all.extend(others.iter().flat_map(|others| others.questions.clone()));
    for questions in all {
        let truth = go.ask(&questions).await;
        for (module, said) in &truth.versions {
            println!("{module} list: {said:?}");
        }
        for ((module, query), said) in &truth.revisions {
            match said {
                Ok(said) => println!(
                    "{module}@{query}: {} {} {}",
                    said.version,
                    said.time.as_deref().unwrap_or_default(),
                    said.origin.clone().unwrap_or_default()
                ),
                Err(error) => println!("{module}@{query} REFUSED: {}", error.trim()),
            }
        }
        for ((module, version), artifact) in &truth.artifacts {
            let sum = artifact.sum.as_deref().unwrap_or("no zip");
            println!("{module}@{version} zip: {sum} {}", artifact.error);
        }
    }
}
