//! Real services for tests, each with its data in a temporary folder and on a free port of 127.0.0.1: Redis, PostgreSQL
//! and object storage. They can be killed, paused and started anew, and end with the value that holds them, with the
//! test that panics, and with the test program that is killed. For Google's and Azure's storage there is a stand-in.

/// What every service can do.
macro_rules! service_methods {
    ($service:ty) => {
        impl $service {
            /// Where it listens, also while it is killed.
            pub fn addr(&self) -> std::net::SocketAddr {
                self.service.addr()
            }

            /// Stops it and all its processes in their tracks: connections stay open, new ones are accepted by the
            /// system, and nothing answers.
            ///
            /// # Panics
            /// If it was killed.
            pub fn pause(&self) {
                self.service.pause();
            }

            /// Lets it go on after [`pause`](Self::pause).
            ///
            /// # Panics
            /// If it was killed.
            pub fn resume(&self) {
                self.service.resume();
            }

            /// Kills it, paused or not. When this returns it is gone, and connecting is refused.
            pub fn kill(&mut self) {
                self.service.kill();
            }

            /// Starts it anew on the same port and with the same data, killed before if it still runs, and waits until
            /// it is ready.
            ///
            /// # Panics
            /// If it does not start.
            pub async fn restart(&mut self) {
                self.service.restart().await;
            }

            /// All it wrote since it was started last.
            pub fn logs(&self) -> String {
                self.service.logs()
            }

            /// Its process id.
            ///
            /// # Panics
            /// If it was killed.
            pub fn pid(&self) -> u32 {
                self.service.pid()
            }
        }
    };
}

mod cloud;
mod family;
mod postgres;
mod process;
mod redis;
mod s3;

pub use cloud::{Cloud, Interface};
pub use postgres::Postgres;
pub use redis::Redis;
pub use s3::S3;

/// What to say where a program is missing.
const INSTALL: &str = "./scripts/test installs what the tests need";
