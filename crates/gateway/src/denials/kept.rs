//! The file of denials below one module.

use std::{fmt::Write as _, time::Duration};

use gomod::ModulePath;

use super::Denial;

/// Denials that are kept below one module; the oldest go.
const MAX_PER_MODULE: usize = 200;
/// So old is a denial before it is noted again.
const NOTE_AGAIN: Duration = Duration::from_mins(10);

/// What is kept below one module: names of what was asked for, and when it was denied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept(Vec<(u64, String)>);

impl Kept {
    /// Reads what [`Kept::text`] gave.
    pub(super) fn parse(text: &[u8]) -> Self {
        let lines = String::from_utf8_lossy(text);
        let line = |line: &str| {
            let (at_ms, name) = line.split_once(' ')?;
            Some((at_ms.parse().ok()?, name.to_owned()))
        };
        Self(lines.lines().filter_map(line).collect())
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (at_ms, name) in &self.0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{at_ms} {name}");
        }
        text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn find(&self, name: &str) -> Option<u64> {
        let (at_ms, _) = self.0.iter().find(|(_, other)| other == name)?;
        Some(*at_ms)
    }

    /// Whether that changes anything.
    pub(super) fn add(&mut self, denial: &Denial) -> bool {
        let at_ms = denial.at_ms;
        let again = u64::try_from(NOTE_AGAIN.as_millis()).unwrap_or(u64::MAX);
        if (self.find(&denial.name)).is_some_and(|before| before.abs_diff(at_ms) < again) {
            return false;
        }
        self.0.retain(|(_, other)| *other != denial.name);
        self.0.push((at_ms, denial.name.clone()));
        self.0.sort_unstable();
        let over = self.0.len().saturating_sub(MAX_PER_MODULE);
        self.0.drain(..over);
        true
    }

    /// Takes out what was denied of a path that exists. Whether there was something.
    pub(super) fn drop_all_of(&mut self, module: &ModulePath) -> bool {
        let own = format!("{}/@", module.escaped());
        let before = self.0.len();
        self.0.retain(|(_, name)| !name.starts_with(&own));
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ChainName;

    fn denial(module: &str, at_ms: u64) -> Denial {
        let module = ModulePath::parse(module).unwrap();
        let name = format!("{}/@v/list", module.escaped());
        let chain = ChainName::read("public https://proxy.example").unwrap();
        Denial {
            module,
            name,
            chain,
            at_ms,
        }
    }

    #[test]
    fn the_oldest_go_and_what_was_seen() {
        let mut kept = Kept(Vec::new());
        for n in 0..250 {
            assert!(kept.add(&denial(&format!("a.example/m/P{n}"), 1000 + n)));
        }
        assert_eq!(kept.0.len(), MAX_PER_MODULE);
        assert_eq!(kept.find("a.example/m/!p49/@v/list"), None);
        assert_eq!(kept.find("a.example/m/!p50/@v/list"), Some(1050));
        assert_eq!(Kept::parse(kept.text().as_bytes()), kept);
        // Soon again it is not written again.
        assert!(!kept.add(&denial("a.example/m/P50", 2000)));
        assert!(kept.add(&denial("a.example/m/P50", 2_000_000)));
        assert_eq!(kept.find("a.example/m/!p50/@v/list"), Some(2_000_000));
        let path = |path: &str| ModulePath::parse(path).unwrap();
        assert!(!kept.drop_all_of(&path("a.example/m/P")));
        assert!(kept.drop_all_of(&path("a.example/m/P60")));
        assert_eq!(kept.find("a.example/m/!p60/@v/list"), None);
        assert_eq!(kept.find("a.example/m/!p61/@v/list"), Some(1061));
    }

    #[test]
    fn what_is_no_line_is_no_denial() {
        let kept = Kept::parse(b"junk\n12 a.example/m/@v/a b.info\nx y\n");
        assert_eq!(kept.0, [(12, "a.example/m/@v/a b.info".to_owned())]);
    }
}
