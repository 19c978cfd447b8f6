//! Health of upstreams, told to the other replicas and heard from them: hints, which a probe proves.

use std::sync::Arc;

use records::ChangeKind;
use tokio::sync::mpsc;
use upstream::Turn;

use crate::gateway::Gateway;

/// Turns that wait to be told; more at once are lost.
const QUEUE: usize = 64;

impl Gateway {
    /// Tells the other replicas from now on which upstreams this one finds ill, and well again.
    pub(crate) fn tell_turns(self: &Arc<Self>) {
        let (sender, mut turns) = mpsc::channel(QUEUE);
        self.settings.load().upstreams.tell_turns(sender);
        let (records, from) = (Arc::clone(&self.records), self.via().to_owned());
        tokio::spawn(async move {
            while let Some(turn) = turns.recv().await {
                let key = key(&from, &turn);
                if let Err(error) = records.announce(ChangeKind::Breaker, &key).await {
                    tracing::debug!(%error, "the other replicas do not hear how an upstream fares");
                }
            }
        });
    }

    /// Another replica tells how an upstream fares.
    pub(crate) fn hear_turn(&self, key: &str) {
        if let Some((from, turn)) = turn(key)
            && from != self.via()
        {
            tracing::debug!(upstream = &*turn.upstream, ill = turn.ill, from, "hint");
            self.settings.load().upstreams.hint(&turn);
        }
    }
}

/// `ill` or `well`, who says so, and the upstream.
fn key(from: &str, turn: &Turn) -> String {
    let state = if turn.ill { "ill" } else { "well" };
    format!("{state} {from} {}", turn.upstream)
}

fn turn(key: &str) -> Option<(&str, Turn)> {
    let mut parts = key.splitn(3, ' ');
    let ill = match parts.next()? {
        "ill" => true,
        "well" => false,
        _ => return None,
    };
    let (from, upstream) = (parts.next()?, parts.next()?.into());
    Some((from, Turn { upstream, ill }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        for ill in [true, false] {
            let told = Turn {
                upstream: "https://proxy.example/a b".into(),
                ill,
            };
            assert_eq!(turn(&key("modgate-1", &told)), Some(("modgate-1", told)));
        }
        for junk in ["", "proxy", "ill", "ill modgate-1", "sick modgate-1 x"] {
            assert_eq!(turn(junk), None, "{junk}");
        }
    }
}
