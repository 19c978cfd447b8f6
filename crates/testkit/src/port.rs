//! A port that stays ours while nobody listens on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port on loopback, taken for as long as this lives. Connections to it are refused unless somebody
/// [listens](HeldPort::listen): a server that was stopped finds it free, however many ports are given to others meanwhile.
#[derive(Debug)]
pub(crate) struct HeldPort {
    addr: SocketAddr,
    /// Bound, and never listened on.
    _held: TcpSocket,
}

impl HeldPort {
    pub(crate) fn take() -> io::Result<HeldPort> {
        let held = bound((Ipv4Addr::LOCALHOST, 0).into())?;
        let addr = held.local_addr()?;
        Ok(HeldPort { addr, _held: held })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        bound(self.addr)?.listen(1024)
    }
}

/// A socket at this address, also if a [`HeldPort`] has it.
pub(crate) fn bound(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}
