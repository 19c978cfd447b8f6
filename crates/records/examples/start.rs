//! What SQLite costs a process at its start, and in memory: opens the file named by the first argument, reads what the
//! gateway reads, and says how long that took and how much the process grew.
#![expect(clippy::print_stdout, reason = "a command")]

use std::{io, path::PathBuf, time::Instant};

use records::{Cursor, Records, RecordsSettings};

/// `Rss…` of this process, in KiB.
fn resident() -> io::Result<Vec<String>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let lines = status.lines().filter(|line| {
        line.starts_with("VmRSS") || line.starts_with("RssAnon") || line.starts_with("Threads")
    });
    Ok(lines
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        .collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A file that is new has nothing to be read.
    let path = PathBuf::from(std::env::args().nth(1).ok_or("which file?")?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(async {}).await?;
        let before = resident()?;
        let start = Instant::now();
        let records = Records::open(&RecordsSettings::Sqlite { path }).await?;
        let opened = start.elapsed();
        let mut found = (Cursor::default(), 0, 0);
        if !records.fresh() {
            let (tombstones, heads) = (records.tombstones().await?, records.heads().await?);
            found = (records.last_change().await?, tombstones.len(), heads.len());
        }
        let read = start.elapsed();
        println!("opened in {opened:?}, read after {read:?}: {found:?}");
        records.probe().await?;
        println!("before {before:?}");
        println!("after  {:?}", resident()?);
        records.close().await;
        Ok(())
    })
}
