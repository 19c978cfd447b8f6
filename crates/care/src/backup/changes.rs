//! What changed between two copies of the records. Both are in the order of their rows, so neither is ever whole in
//! memory.

use std::{
    cmp::Ordering,
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    path::Path,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Longest line, as in the copies.
const MAX_LINE: u64 = 64 << 20;

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Which row a line is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Heading,
    Row(u8, String, String),
    End,
}

impl Id {
    fn of(line: &[u8]) -> io::Result<Self> {
        let line: Value = serde_json::from_slice(line)?;
        let fields = line.as_object().and_then(|line| line.iter().next());
        let (kind, row) = fields.ok_or_else(|| invalid("a line that says nothing"))?;
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Ok(match kind.as_str() {
            "records" => Self::Heading,
            "object" => Self::Row(1, text("key"), String::new()),
            "tombstone" => Self::Row(2, text("module"), text("version")),
            "head" => Self::Row(3, text("name"), String::new()),
            "answer" => Self::Row(4, text("key"), String::new()),
            "fact" => Self::Row(5, text("name"), String::new()),
            "end" => Self::End,
            _ => return Err(invalid("a line that a newer modgate wrote")),
        })
    }
}

/// The lines of a file, and whether the order of their rows is kept.
struct Lines {
    file: BufReader<File>,
    /// Bytes of each line before the row itself.
    mark: usize,
    line: Vec<u8>,
    id: Option<Id>,
}

impl Lines {
    fn open(path: &Path, mark: usize) -> io::Result<Self> {
        let mut lines = Self {
            file: BufReader::new(File::open(path)?),
            mark,
            line: Vec::new(),
            id: None,
        };
        lines.next()?;
        Ok(lines)
    }

    fn next(&mut self) -> io::Result<()> {
        self.line.clear();
        let read = (&mut self.file)
            .take(MAX_LINE)
            .read_until(b'\n', &mut self.line)?;
        if read == 0 {
            self.id = None;
            return Ok(());
        }
        if self.line.last() != Some(&b'\n') || self.line.len() < self.mark {
            return Err(invalid("a line is cut off"));
        }
        let id = Id::of(self.row())?;
        if self.id.as_ref().is_some_and(|before| *before >= id) {
            return Err(invalid("the rows are out of order"));
        }
        self.id = Some(id);
        Ok(())
    }

    fn row(&self) -> &[u8] {
        &self.line[self.mark..]
    }

    /// Which of two comes first; `None` when both have ended.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (&self.id, &other.id) {
            (None, None) => None,
            (Some(_), None) => Some(Ordering::Less),
            (None, Some(_)) => Some(Ordering::Greater),
            (Some(one), Some(other)) => Some(one.cmp(other)),
        }
    }
}

/// Writes what must be done to `old` to make `new`: `-` before rows that go, `+` before those that come or change.
pub(super) fn between(old: &Path, new: &Path, to: &Path) -> io::Result<()> {
    let (mut old, mut new) = (Lines::open(old, 0)?, Lines::open(new, 0)?);
    let mut to = BufWriter::new(File::create(to)?);
    let mut put = |mark: u8, row: &[u8]| {
        to.write_all(&[mark])?;
        to.write_all(row)
    };
    while let Some(order) = old.order(&new) {
        // What is at the end is made anew.
        match order {
            Ordering::Less => {
                put(b'-', old.row())?;
                old.next()?;
            }
            Ordering::Greater => {
                put(b'+', new.row())?;
                new.next()?;
            }
            Ordering::Equal => {
                if old.row() != new.row() && new.id != Some(Id::End) {
                    put(b'+', new.row())?;
                }
                old.next()?;
                new.next()?;
            }
        }
    }
    to.into_inner()?.sync_all()
}

/// Makes a copy of `old` and of what changed.
pub(super) fn apply(old: &Path, changes: &Path, to: &Path) -> io::Result<()> {
    let (mut old, mut changes) = (Lines::open(old, 0)?, Lines::open(changes, 1)?);
    let mut to = BufWriter::new(File::create(to)?);
    let (mut hash, mut rows) = (Sha256::new(), 0_u64);
    let mut put = |id: Option<&Id>, row: &[u8]| {
        if matches!(id, Some(Id::Row(..))) {
            rows += 1;
        }
        hash.update(row);
        to.write_all(row)
    };
    while let Some(order) = old.order(&changes) {
        match order {
            Ordering::Less => {
                if old.id != Some(Id::End) {
                    put(old.id.as_ref(), old.row())?;
                }
                old.next()?;
            }
            Ordering::Greater | Ordering::Equal => {
                match changes.line.first() {
                    Some(b'+') => put(changes.id.as_ref(), changes.row())?,
                    Some(b'-') if order == Ordering::Equal => {}
                    _ => return Err(invalid("a change of what is not there")),
                }
                if order == Ordering::Equal {
                    old.next()?;
                }
                changes.next()?;
            }
        }
    }
    let end = serde_json::json!({"end": {"rows": rows, "sha256": hex::encode(hash.finalize())}});
    writeln!(to, "{end}")?;
    to.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy as the records write it, of these rows.
    fn copy(path: &Path, rows: &[String]) {
        let mut text = "{\"records\":{\"form\":1}}\n".to_owned();
        for row in rows {
            text += row;
            text.push('\n');
        }
        let sha256 = hex::encode(Sha256::digest(&text));
        let count = rows.len();
        let end = format!("{{\"end\":{{\"rows\":{count},\"sha256\":\"{sha256}\"}}}}\n");
        text += &end;
        std::fs::write(path, text).unwrap();
    }

    fn object(key: &str, size: u32) -> String {
        format!("{{\"object\":{{\"key\":\"{key}\",\"size\":{size}}}}}")
    }

    #[test]
    fn what_changed_makes_the_new_copy_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let fact = "{\"fact\":{\"name\":\"a\",\"value\":\"\"}}".to_owned();
        let olds = [object("a", 1), object("b", 1), object("d", 1), fact.clone()];
        let news = [
            object("b", 2),
            object("c", 1),
            object("d", 1),
            "{\"tombstone\":{\"module\":\"m\",\"version\":\"v1\"}}".to_owned(),
            fact,
        ];
        for (old, new) in [
            (&olds[..], &news[..]),
            (&[], &news),
            (&news, &[]),
            (&news, &news),
        ] {
            copy(&at("old"), old);
            copy(&at("new"), new);
            between(&at("old"), &at("new"), &at("changes")).unwrap();
            apply(&at("old"), &at("changes"), &at("made")).unwrap();
            let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
            assert_eq!(read("made"), read("new"));
            assert_eq!(read("changes").is_empty(), old == new);
        }
    }

    #[test]
    fn rows_out_of_order_and_changes_of_nothing_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        copy(&at("good"), &[object("a", 1)]);
        copy(&at("bad"), &[object("b", 1), object("a", 1)]);
        assert!(between(&at("good"), &at("bad"), &at("changes")).is_err());
        std::fs::write(at("changes"), format!("-{}\n", object("c", 1))).unwrap();
        assert!(apply(&at("good"), &at("changes"), &at("made")).is_err());
    }
}
