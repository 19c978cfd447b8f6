//! The HTTP door: connections in, responses out. Start reading at [`door`].

mod admin;
mod body;
pub mod door;
mod guard;
mod range;
mod respond;
pub mod server;
pub mod tls;

pub use body::Body;
pub use guard::ConnectionLimits;

/// Reads a `Range` header; public for the fuzz target alone.
#[doc(hidden)]
pub fn parse_range(header: &[u8], len: u64) -> Option<(u64, u64)> {
    match range::parse(header, len) {
        range::Range::Part(from, to) => Some((from, to)),
        range::Range::All | range::Range::Unsatisfiable => None,
    }
}
