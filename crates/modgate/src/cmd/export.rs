//! `modgate export`.

mod asked;
mod chosen;
mod proofs;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Seek as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use care::bundle::Writer;
use futures_util::{StreamExt as _, stream};
use gomod::{
    ModulePath, Version, gomod_file, h1,
    info::{self, Info},
    zip,
};
use indicatif::{ProgressBar, ProgressStyle};
use records::Records;
use serde::Serialize;
use store::Key;
use tlog::lookup::Hashes;

use self::{
    asked::{Asked, Miss, Own, off},
    chosen::{Chosen, Parts, missed},
    proofs::{Proofs, remember, remembered},
};
use crate::{
    cli::ExportArgs,
    config::{Config, Env},
    wire,
};

/// Versions that are had at a time.
const AT_ONCE: usize = 6;

/// What was written.
#[derive(Debug, Default, Serialize)]
struct Report {
    file: String,
    bytes: u64,
    versions: u64,
    files: u64,
    /// Versions without a proof: private, or exempt.
    unproven: Vec<String>,
    /// What could not be had, and why.
    left_out: Vec<(String, String)>,
    /// Records in the tree under whose head all is proven.
    tree_size: Option<u64>,
}

/// Writes a bundle.
pub fn run(args: &ExportArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) = super::load_and_log(&args.config.sources(env))? else {
        return Ok(ExitCode::FAILURE);
    };
    let runtime = super::runtime()?;
    let report = runtime.block_on(export(args, &config))?;
    print(args, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn print(args: &ExportArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        return writeln!(out, "{}", serde_json::to_value(report)?);
    }
    for (what, why) in &report.left_out {
        writeln!(out, "left out {what}: {why}")?;
    }
    for version in &report.unproven {
        writeln!(out, "unproven {version}")?;
    }
    let (file, versions, files) = (&report.file, report.versions, report.files);
    writeln!(
        out,
        "{file}: {versions} versions, {files} files, {} KiB; {} without a proof",
        report.bytes >> 10,
        report.unproven.len()
    )
}

async fn export(args: &ExportArgs, config: &Config) -> io::Result<Report> {
    // Another gateway has records of its own.
    let records = match &args.from {
        Some(_)
            if args.since.is_none() && args.modules.iter().all(|named| named.version.is_some()) =>
        {
            None
        }
        _ => Some(Arc::new(wire::open_records(config).await?)),
    };
    let (asked, own) = match (&args.from, &records) {
        (None, Some(records)) => Asked::of(config, records).await?,
        (from, _) => (
            Asked::at(from.as_deref().unwrap_or_default(), config)?,
            None,
        ),
    };
    let done = write(args, config, &asked, records.as_deref()).await;
    if let Some(own) = own {
        Own::end(own).await;
    }
    if let Some(records) = records {
        records.close().await;
    }
    done
}

async fn write(
    args: &ExportArgs,
    config: &Config,
    asked: &Asked,
    records: Option<&Records>,
) -> io::Result<Report> {
    let mut chosen = Chosen::default();
    for named in &args.modules {
        if !chosen.named(named, records).await? {
            let why = format!("nothing of {} is kept here: name a version", named.module);
            return Err(io::Error::other(why));
        }
    }
    if let (Some(since), Some(records)) = (args.since, records) {
        chosen.since(since, records).await?;
    }
    if let Some(go_mod) = &args.go_mod {
        chosen.build_list(go_mod, asked, args.allow_missing).await?;
    }
    if chosen.versions.is_empty() {
        return Err(io::Error::other("there is nothing to export"));
    }
    let folder = args
        .out
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    let to = args.out.clone();
    let made = off(move || Writer::create(&to)).await;
    let mut writer = made.map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", args.out.display()))
    })?;
    let key = config.sumdb.database.as_ref().map(|database| &database.key);
    let mut proofs = match key {
        Some(key) => Some(
            Proofs::begin(key.clone(), asked)
                .await
                .map_err(io::Error::other)?,
        ),
        None => None,
    };

    // Not drawn unless it is a terminal.
    let bar = ProgressBar::new(chosen.versions.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {wide_msg}")
        .map_err(io::Error::other)?;
    bar.set_style(style);
    let mut report = Report {
        left_out: chosen.missing,
        ..Report::default()
    };
    let (max_zip, limits) = (config.limits.max_zip_bytes, &folder);
    let wanted: Vec<Wanted> = chosen
        .versions
        .into_iter()
        .map(|((module, version), parts)| Wanted {
            lookup: proofs
                .as_ref()
                .map(|proofs| proofs.lookup_path(&module, &version)),
            module,
            version,
            parts,
        })
        .collect();
    let mut got = stream::iter(wanted)
        .map(|wanted| async move {
            let files = wanted.get(asked, limits, max_zip).await;
            (wanted, files)
        })
        .buffered(AT_ONCE);
    while let Some((wanted, files)) = got.next().await {
        let name = format!("{}@{}", wanted.module, wanted.version);
        bar.set_message(name.clone());
        bar.inc(1);
        let files = match files {
            Ok(files) => files,
            Err(Miss::Missing(why)) if !wanted.parts.needed || args.allow_missing => {
                report.left_out.push((name, why));
                continue;
            }
            Err(Miss::Absent(why)) if !wanted.parts.needed => {
                report.left_out.push((name, why));
                continue;
            }
            Err(miss) => return Err(missed(&name, &miss)),
        };
        let mut hashes = None;
        if let (Some(proofs), Some((path, body))) = (&mut proofs, &files.lookup) {
            let taken = proofs.take(&wanted.module, &wanted.version, path, body);
            hashes = Some(taken.map_err(io::Error::other)?);
        }
        report.versions += 1;
        if hashes.is_none() {
            report.unproven.push(name);
        }
        writer = off(move || wanted.add(files, hashes.as_ref(), writer)).await?;
    }
    drop(got);
    bar.finish_and_clear();
    let database = match proofs {
        None => None,
        Some(proofs) => {
            let done = prove(args, proofs, asked, writer, records, &folder).await?;
            writer = done.0;
            done.1
        }
    };
    let made_at = care::backup::format_time(now_ms());
    report.tree_size = database.as_ref().map(|database| database.tree_size);
    report.file = args.out.display().to_string();
    let manifest = off(move || writer.finish(made_at, database)).await?;
    report.files = manifest.files.len() as u64 + 1;
    report.bytes = std::fs::metadata(&args.out)?.len();
    Ok(report)
}

/// Adds the proofs, also of what earlier bundles were proven by.
async fn prove(
    args: &ExportArgs,
    proofs: Proofs,
    asked: &Asked,
    writer: Writer,
    records: Option<&Records>,
    folder: &Path,
) -> io::Result<(Writer, Option<care::bundle::Database>)> {
    let fact = format!("export.trees/{}", proofs.name());
    let mut before = BTreeSet::new();
    if let Some(records) = records {
        let known = records.fact(&fact).await.map_err(io::Error::other)?;
        before = remembered(known.as_deref());
    }
    let mut continues = before.clone();
    continues.extend(&args.continues);
    let written = proofs.write(asked, writer, &continues, folder).await;
    let (writer, database) = written.map_err(io::Error::other)?;
    if let Some(database) = &database {
        let size = database.tree_size;
        if let Some(larger) = args.continues.iter().find(|wanted| **wanted > size) {
            return Err(io::Error::other(format!(
                "the checksum database had {size} records when this gateway saw it last: it cannot continue {larger}"
            )));
        }
        if let Some(records) = records {
            let fact_now = remember(before, size);
            let noted = records.set_fact(&fact, &fact_now).await;
            noted.map_err(io::Error::other)?;
        }
    }
    Ok((writer, database))
}

/// A version that is wanted.
struct Wanted {
    module: ModulePath,
    version: Version,
    parts: Parts,
    /// Where its record is asked for.
    lookup: Option<String>,
}

/// Its files.
struct Files {
    go_mod: Vec<u8>,
    zip: Option<(File, u64)>,
    info: Option<Vec<u8>>,
    lookup: Option<(String, bytes::Bytes)>,
}

impl Wanted {
    async fn get(&self, asked: &Asked, folder: &Path, max_zip: u64) -> Result<Files, Miss> {
        let path = |ending: &str| {
            let (module, version) = (self.module.escaped(), self.version.escaped());
            format!("/{module}/@v/{version}.{ending}")
        };
        let go_mod = asked.small(&path("mod"), gomod_file::MAX_BYTES).await?;
        let mut files = Files {
            go_mod: go_mod.to_vec(),
            zip: None,
            info: None,
            lookup: None,
        };
        if self.parts.zip {
            files.zip = Some(asked.file(&path("zip"), folder, max_zip).await?);
        }
        if self.parts.info {
            match asked.small(&path("info"), info::MAX_BYTES).await {
                Ok(info) => files.info = Some(info.to_vec()),
                // The rest is of use without it.
                Err(Miss::Missing(_) | Miss::Absent(_)) if !self.parts.needed => {}
                Err(miss) => return Err(miss),
            }
        }
        if let Some(path) = &self.lookup {
            files.lookup = Proofs::look_up(path.clone(), asked).await?;
        }
        Ok(files)
    }

    /// Compares the files with the record and writes them. Waits for the disk.
    fn add(&self, files: Files, hashes: Option<&Hashes>, mut writer: Writer) -> io::Result<Writer> {
        let (module, version) = (&self.module, &self.version);
        let key = |ending: &str| {
            let stem = format!("go/{}/@v/{}", module.escaped(), version.escaped());
            Key::new(format!("{stem}.{ending}")).map_err(io::Error::other)
        };
        let wrong = |what: &str, why: &dyn std::fmt::Display| {
            io::Error::other(format!("the {what} of {module}@{version}: {why}"))
        };
        let compare = |what: &str, got: &str, wanted: Option<&String>| match wanted {
            Some(wanted) if wanted != got => Err(wrong(what, &"not what its record says")),
            _ => Ok(()),
        };
        let proven = hashes.is_some();
        let hash = h1::hash_go_mod(&files.go_mod).to_string();
        compare(".mod", &hash, hashes.map(|hashes| &hashes.go_mod))?;
        let (size, mut content) = (files.go_mod.len() as u64, files.go_mod.as_slice());
        writer.add(&key("mod")?, size, &mut content, Some(hash), proven)?;
        if let Some(info) = &files.info {
            let read = Info::parse(info, module).map_err(|error| wrong(".info", &error))?;
            if read.version != *version {
                return Err(wrong(".info", &"it is of another version"));
            }
            let mut content = info.as_slice();
            writer.add(&key("info")?, info.len() as u64, &mut content, None, false)?;
        }
        if let Some((mut file, size)) = files.zip {
            let (limits, want) = (zip::Limits::default(), zip::Want::Hash);
            let checked = zip::check(&mut file, size, module, version, &limits, want);
            let hash = checked.map_err(|error| wrong(".zip", &error))?.h1;
            let hash = hash.ok_or_else(|| wrong(".zip", &"no hash"))?.to_string();
            compare(".zip", &hash, hashes.map(|hashes| &hashes.zip))?;
            file.rewind()?;
            writer.add(&key("zip")?, size, &mut file, Some(hash), proven)?;
        }
        Ok(writer)
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
