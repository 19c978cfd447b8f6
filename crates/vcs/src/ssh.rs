//! What ssh says, whichever program started it.

use std::time::Duration;

use reqwest::Url;

use crate::reach::Way;

/// How often more a question is asked whose connection the server closed.
pub(crate) const TRIES: u32 = 2;
/// Shortest wait before it is asked again, and how much is added at random: those who were sent away together must not
/// come back together.
const WAIT: Duration = Duration::from_millis(200);
const SPREAD_MILLIS: u16 = 1500;

/// What to do where a server goes on to close connections.
const FULL: &str = "the ssh server closes connections before anybody could log in, as sshd does when many log in at once: raise \
     MaxStartups there, or lower direct.max_processes";

/// Whether a URL, or a scheme alone, is one that is asked by ssh.
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

/// What to do about a failure of ssh that is not of what the server thinks of the login. A server that is not the one
/// that is known is told in the log too.
pub(crate) fn hint(way: &Way, stderr: &str) -> Option<String> {
    if !is_ssh(&way.url) {
        return None;
    }
    let says = |words: &str| stderr.lines().any(|line| line.contains(words));
    let key = way.grant.as_ref().and_then(egress::Grant::ssh);
    if says("UNPROTECTED PRIVATE KEY FILE") {
        let file = key.map_or("the key".into(), |key| key.key.display().to_string());
        return Some(format!(
            "others may read {file}, so ssh does not use it: chmod 600 it, and chown it to the user that modgate runs as"
        ));
    }
    if !says("Host key verification failed.") {
        return closed(stderr).then(|| FULL.to_owned());
    }
    let url: Option<Url> = way.url.parse().ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let port = url.as_ref().and_then(Url::port).unwrap_or(22);
    let name = match port {
        22 => host.to_owned(),
        port => format!("[{host}]:{port}"),
    };
    let file = match key.and_then(|key| key.known_hosts.as_ref()) {
        Some(file) if file.exists() => file.display().to_string(),
        Some(file) => format!("{} (there is no such file)", file.display()),
        None => {
            "~/.ssh/known_hosts of the user that modgate runs as (or known_hosts of a [[credential]])"
                .to_owned()
        }
    };
    let scan = format!(
        "what `ssh-keyscan -p {port} {host}` prints, once it is compared with what the server's owner says"
    );
    Some(
        if says("REVOKED HOST KEY") || says("is marked as revoked") {
            tracing::error!(
                repository = way.url,
                "SECURITY: the ssh server shows a host key that is marked as revoked; it is not asked"
            );
            format!(
                "the ssh server {name} shows a key that is marked @revoked in {file}: it must get another one, which is added there"
            )
        } else if says("HOST IDENTIFICATION HAS CHANGED")
            || says("has changed and you have requested")
        {
            tracing::error!(
                repository = way.url,
                "SECURITY: the ssh server shows another host key than the one that is known; it is not asked"
            );
            format!(
                "the ssh server {name} shows another key than {file} has: somebody else may answer in its place; if it was given a new \
             one, take its lines out there (`ssh-keygen -R '{name}' -f FILE`) and add {scan}"
            )
        } else {
            format!("no key of the ssh server {name} is in {file}: add {scan}")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_and_key_files() {
        let way = |url: &str| Way {
            url: url.to_owned(),
            ..Way::default()
        };
        let frame = "@".repeat(59);
        let changed = format!(
            "{frame}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{frame}\n\
             Host key for [a.com]:2222 has changed and you have requested strict checking.\n\
             Host key verification failed."
        );
        let revoked = format!(
            "{frame}\n@       WARNING: REVOKED HOST KEY DETECTED!               @\n{frame}\n\
             The ED25519 host key for a.com is marked as revoked.\nHost key verification failed."
        );
        let open = format!(
            "{frame}\n@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\n{frame}\n\
             Permissions 0644 for '/k' are too open.\ngit@a.com: Permission denied (publickey)."
        );
        let unknown = "No ED25519 host key is known for a.com and you have requested strict checking.\n\
             Host key verification failed.";
        for (url, said, want) in [
            (
                "ssh://git@a.com:2222/x",
                &*changed,
                Some("ssh-keygen -R '[a.com]:2222'"),
            ),
            (
                "ssh://git@a.com/x",
                &changed,
                Some("ssh-keyscan -p 22 a.com"),
            ),
            (
                "ssh://git@a.com/x",
                &revoked,
                Some("@revoked in ~/.ssh/known_hosts"),
            ),
            (
                "ssh://git@a.com/x",
                unknown,
                Some("no key of the ssh server a.com is in"),
            ),
            (
                "ssh://git@[::1]:22/x",
                unknown,
                Some("ssh-keyscan -p 22 ::1"),
            ),
            ("git+ssh://a.com/x", &open, Some("chmod 600")),
            (
                "ssh://a.com/x",
                "git@a.com: Permission denied (publickey).",
                None,
            ),
            ("https://a.com/x", unknown, None),
        ] {
            let got = hint(&way(url), said);
            match want {
                Some(want) => assert!(
                    got.as_ref().is_some_and(|got| got.contains(want)),
                    "{got:?}"
                ),
                None => assert_eq!(got, None),
            }
            let exit = crate::process::Exit {
                code: Some(128),
                stderr: said.to_owned(),
                ..crate::process::Exit::default()
            };
            assert!(!exit.said().contains("@@") && !exit.said().contains("@ "));
        }
    }

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
