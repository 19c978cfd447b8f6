//! Prints what the real `go` says about the modules of the catalogue: of all, or of those whose repository is named.
//!
//! `cargo run -p forge --example truth -- plain meta`

#![expect(clippy::print_stdout, reason = "it is what this is for")]

use forge::truth::Go;
use forge::{Forge, catalog};

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let forge = Forge::start().await;
    let go = Go::new(&forge);
    for entry in catalog::all() {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == entry.name) {
            continue;
        }
        let (_, questions) = entry.install(&forge);
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
