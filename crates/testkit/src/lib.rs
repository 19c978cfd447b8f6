//! For tests only: a lab upstream with faults, a lying checksum database, real clients, a started gateway

pub mod chaos;
pub mod fixture;
pub mod forward;
pub mod gate;
pub mod go;
pub mod lab;
mod port;
pub mod services;
pub mod small_disk;
pub mod sumdb;
pub mod tls;

/// The escaped form of a path or version: `!` and the lower case for each upper-case letter.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            c.is_ascii_uppercase()
                .then_some('!')
                .into_iter()
                .chain([c.to_ascii_lowercase()])
        })
        .collect()
}
