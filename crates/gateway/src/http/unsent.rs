//! How much of what a socket took its client has not confirmed yet.
//!
//! The system takes megabytes at once, and takes more only when a good part of them is gone. So a client that reads slowly
//! but all the time looks from here like one that does not read. The system tells the truth when it is asked about the
//! connection (`sock_diag(7)`), which is a question for the few that stand still.

use std::net::{IpAddr, SocketAddr};

use rustix::{
    io::{Errno, Result},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{self, SocketAddrNetlink},
        recv, sendto, socket_with,
    },
};

/// `SOCK_DIAG_BY_FAMILY`, the kind of question and answer.
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const HEADER_BYTES: usize = 16;
const QUESTION_BYTES: usize = 56;
/// Where an answer has the bytes that wait to be confirmed.
const WAITING_AT: usize = HEADER_BYTES + 60;

/// The bytes of the TCP connection between `local` and `client` that the client has not confirmed; 0 if that cannot be
/// told.
pub(super) fn bytes(local: SocketAddr, client: SocketAddr) -> u64 {
    ask(local, client).map_or(0, u64::from)
}

fn ask(local: SocketAddr, client: SocketAddr) -> Result<u32> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(
        &socket,
        &question(local, client),
        SendFlags::empty(),
        &kernel,
    )?;
    let mut answer = [0; 1024];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    waiting(&answer[..len]).ok_or(Errno::BADMSG)
}

fn question(local: SocketAddr, client: SocketAddr) -> Vec<u8> {
    const TCP: u8 = 6;
    const ANY_STATE: u32 = u32::MAX;
    const ANY_COOKIE: [u8; 8] = [0xff; 8];
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    // Of addresses that hold for one link.
    let link = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(local) => local.scope_id(),
    };
    let len = HEADER_BYTES + QUESTION_BYTES;
    let mut text = Vec::with_capacity(len);
    text.extend(u32::try_from(len).unwrap_or_default().to_ne_bytes());
    text.extend(BY_FAMILY.to_ne_bytes());
    text.extend(REQUEST.to_ne_bytes());
    text.extend([0; 8]);
    text.extend([u8::try_from(family.as_raw()).unwrap_or_default(), TCP, 0, 0]);
    text.extend(ANY_STATE.to_ne_bytes());
    text.extend(local.port().to_be_bytes());
    text.extend(client.port().to_be_bytes());
    text.extend(padded(local.ip()));
    text.extend(padded(client.ip()));
    text.extend(link.to_ne_bytes());
    text.extend(ANY_COOKIE);
    text
}

fn padded(address: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    bytes
}

fn waiting(answer: &[u8]) -> Option<u32> {
    let kind = answer.get(4..6)?.try_into().ok()?;
    let waiting = answer.get(WAITING_AT..WAITING_AT + 4)?.try_into().ok()?;
    (u16::from_ne_bytes(kind) == BY_FAMILY).then(|| u32::from_ne_bytes(waiting))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn what_a_client_has_not_read_is_known() {
        // Over a socket for both families, IPv4 addresses look different.
        for (listen, reach) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect((reach, port)).unwrap();
            let (mut server, address) = listener.accept().unwrap();
            let local = server.local_addr().unwrap();
            assert_eq!(bytes(local, address), 0, "{listen}");
            server.set_nonblocking(true).unwrap();
            let block = vec![0; 64 << 10];
            let mut written = 0;
            while let Ok(some) = server.write(&block) {
                written += some;
            }
            let before = bytes(local, address);
            assert!(before > 0 && before <= written as u64, "{listen}: {before}");
            client.read_exact(&mut vec![0; written * 3 / 4]).unwrap();
            assert!(bytes(local, address) < before, "{listen}");
        }
    }
}
