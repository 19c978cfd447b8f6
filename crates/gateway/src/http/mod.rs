//! The HTTP door: connections in, responses out. Start reading at [`door`].

mod admin;
mod body;
pub mod door;
mod guard;
mod guarded;
mod lower;
mod range;
mod respond;
pub mod server;
mod socket;
pub mod tls;
mod unsent;
mod vanity;

pub use body::Body;
pub use guard::ConnectionLimits;
pub use vanity::Vanity;
