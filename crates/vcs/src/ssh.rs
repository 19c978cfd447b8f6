//! What ssh says, whichever program started it.

use std::time::Duration;

/// How often more a question is asked whose connection the server closed.
pub(crate) const TRIES: u32 = 2;
/// Shortest wait before it is asked again, and how much is added at random: those who were sent away together must not
/// come back together.
const WAIT: Duration = Duration::from_millis(200);
const SPREAD_MILLIS: u16 = 1500;

/// What to do where a server goes on to close connections.
const FULL: &str = "the ssh server closes connections before anybody could log in, as sshd does when many log in at once: raise \
     MaxStartups there, or lower direct.max_processes";

/// Whether a URL is one that is asked by ssh.
pub(crate) fn is_ssh(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default();
    scheme == "ssh" || scheme.ends_with("+ssh")
}

/// Whether the server closed the connection before anybody could log in: it says nothing of the login, nor of what
/// there is.
pub(crate) fn closed(said: &str) -> bool {
    let early = ["kex_exchange_identification: ", "banner exchange: "];
    let ends = ["Connection closed by ", "Connection reset by "];
    // With the port it is told of a connection without login alone.
    early.iter().any(|words| said.contains(words))
        || ends.iter().any(|words| {
            let mut rest = said.split(words).skip(1);
            rest.any(|rest| rest.split(' ').nth(1) == Some("port"))
        })
}

/// The wait before it is asked again.
pub(crate) async fn wait() {
    let mut random = [0; 2];
    // Without chance it is the shortest one.
    let _ = getrandom::fill(&mut random);
    let more = u16::from_ne_bytes(random) % SPREAD_MILLIS;
    tokio::time::sleep(WAIT + Duration::from_millis(more.into())).await;
}

/// What to do about a failure of ssh that is not of the login.
pub(crate) fn hint(stderr: &str) -> Option<String> {
    closed(stderr).then(|| FULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_before_the_login() {
        for (said, want) in [
            (
                "kex_exchange_identification: Connection closed by remote host; Connection closed by 127.0.0.1 port 2222",
                true,
            ),
            (
                "kex_exchange_identification: read: Connection reset by peer",
                true,
            ),
            ("Connection reset by 10.0.0.1 port 22; fatal: x", true),
            ("Connection to a.com closed by remote host.", false),
            ("git@a.com: Permission denied (publickey).", false),
            (
                "ssh: connect to host a.com port 22: Connection refused",
                false,
            ),
            ("Recv failure: Connection reset by peer", false),
        ] {
            assert_eq!(closed(said), want, "{said}");
        }
        assert!(is_ssh("ssh://a/x") && is_ssh("svn+ssh://a/x"));
        assert!(!is_ssh("https://a/ssh://x"));
    }
}
