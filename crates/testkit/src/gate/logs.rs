//! What a gateway writes to stderr.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStderr;
use tokio::sync::watch;

/// Keeps all lines, and tells the first address in the first line that says `listening`.
pub(super) async fn read_logs(
    stderr: ChildStderr,
    logs: watch::Sender<String>,
    found: watch::Sender<Option<SocketAddr>>,
) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = lines.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        if found.borrow().is_none() && text.contains("listening") {
            found.send_replace(address(&text));
        }
        logs.send_modify(|logs| logs.push_str(&text));
        line.clear();
    }
}

/// The first `127.0.0.1:<port>` in a line.
fn address(line: &str) -> Option<SocketAddr> {
    line.match_indices("127.0.0.1:").find_map(|(start, ip)| {
        let rest = &line[start + ip.len()..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        line[start..start + ip.len() + digits].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_found_in_text_and_json() {
        for (line, expected) in [
            ("INFO listening on 127.0.0.1:4321\n", Some(4321)),
            (r#"{"message":"listening","addr":"127.0.0.1:80"}"#, Some(80)),
            ("listening url=http://127.0.0.1:8080/ x", Some(8080)),
            ("listening 127.0.0.1:99999", None),
            ("listening on [::1]:80", None),
        ] {
            assert_eq!(address(line).map(|addr| addr.port()), expected, "{line}");
        }
    }
}
