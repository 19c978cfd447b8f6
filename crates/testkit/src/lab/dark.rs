//! A port behind which nobody is at home, as of a machine that has lost its power.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::port::bound;

/// Connecting within one machine takes far less than this.
const ANSWERED: Duration = Duration::from_millis(100);

/// Connections to this port are neither accepted nor refused: they time out. Dropped, it frees the port.
#[derive(Debug)]
pub struct DarkPort {
    _listener: TcpListener,
    /// They fill the queue of connections that nobody accepts; the system then drops what more comes.
    _queue: Vec<TcpStream>,
}

impl DarkPort {
    /// Takes a port that nobody listens on, such as that of a lab that was stopped.
    ///
    /// # Panics
    /// If somebody does.
    pub async fn at(addr: SocketAddr) -> DarkPort {
        let socket = bound(addr).expect("the port is free, or held for this");
        let listener = socket.listen(1).expect("a bound port can be listened on");
        let mut queue = Vec::new();
        while let Ok(stream) = tokio::time::timeout(ANSWERED, TcpStream::connect(addr)).await {
            queue.push(stream.expect("it is accepted by the system, or nothing happens"));
        }
        DarkPort {
            _listener: listener,
            _queue: queue,
        }
    }
}
