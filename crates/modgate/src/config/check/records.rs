//! `[records]`, `[replicas]` and `[backup]`, and what they need of `[[storage]]`.

use ::records::PostgresUrl;

use super::{
    super::{
        checked::{Backup, BackupTarget, Coordinate, Records, Replicas, Tier},
        kinds::{self, Checked, shown},
        layers::Scope,
        origin::Origin,
        reader::{Reader, quoted},
        setting::Kind,
        source::Node,
    },
    number, service,
};

pub(super) fn records(reader: &mut Reader<'_>, scope: &Scope) -> Records {
    let postgres = service::read_url(reader, scope, "records.url");
    if postgres.is_none() && scope.node("records.url").is_none() {
        let setting = scope.setting("records.url");
        let origin = Origin::Found("SQLite, `records.db` in `data`".to_owned());
        reader.record(scope, setting, None, origin);
    }
    if let (Some(url), Some(node)) = (&postgres, scope.node("records.url"))
        && let Err(error) = url.expose().parse::<PostgresUrl>()
    {
        let mistake = node.mistake(error.to_string());
        reader.mistakes.push(mistake.hint("write it as \"postgres://user:password@host:5432/database\", with special characters of the password as %XX"));
    }
    Records { postgres }
}

pub(super) fn replicas(
    reader: &mut Reader<'_>,
    scope: &Scope,
    tiers: &[Tier],
    records: &Records,
) -> Replicas {
    let coordinate = match reader.choice(scope, "replicas.coordinate") {
        Some("postgres") => Coordinate::Postgres,
        Some("redis") => Coordinate::Redis,
        Some("storage") => Coordinate::Storage,
        _ => Coordinate::Alone,
    };
    let replicas = Replicas { coordinate };
    let Some(node) = scope.node("replicas.coordinate") else {
        return replicas;
    };
    let has = |wanted: fn(&Tier) -> bool| tiers.iter().any(wanted);
    let lacks = match coordinate {
        Coordinate::Alone => return replicas,
        Coordinate::Postgres if scope.node("records.url").is_none() => Some((
            "`postgres` coordinates, but `records.url` is not set",
            "write [records] with url = \"postgres://modgate@127.0.0.1:5432/modgate\"",
        )),
        Coordinate::Redis if !has(|tier| matches!(tier, Tier::Redis(_))) => Some((
            "`redis` coordinates, but no [[storage]] is a Redis",
            "add a [[storage]] with tier = \"redis\"",
        )),
        Coordinate::Storage if !has(|tier| matches!(tier, Tier::Object(_))) => Some((
            "`storage` coordinates, but no [[storage]] is a bucket",
            "add a [[storage]] with tier = \"s3\", \"gcs\" or \"azure\"",
        )),
        _ => None,
    };
    if let Some((message, hint)) = lacks {
        reader.mistakes.push(node.mistake(message).hint(hint));
        return replicas;
    }
    let origin = Origin::of(node);
    if records.postgres.is_none() && coordinate != Coordinate::Postgres {
        reader.notices.push(format!(
            "replicas ({origin}) without PostgreSQL in `records.url`: each has records of its own, with the pins, the last uses and the index of what that one keeps"
        ));
    }
    if !has(|tier| matches!(tier, Tier::Object(_))) {
        reader.notices.push(format!(
            "replicas ({origin}) without a bucket in [[storage]]: each keeps copies of its own, and a new one begins with none"
        ));
    }
    replicas
}

pub(super) fn backup(reader: &mut Reader<'_>, scope: &Scope, tiers: &[Tier]) -> Backup {
    let show = |target: &BackupTarget| match target {
        BackupTarget::Folder(path) => quoted(&path.to_string_lossy()),
        BackupTarget::Bucket {
            service,
            bucket,
            prefix,
        } => {
            let slash = if prefix.is_empty() { "" } else { "/" };
            quoted(&format!("{}://{bucket}{slash}{prefix}", service.scheme()))
        }
    };
    let to = reader.read(scope, "backup.to", backup_target, show);
    if let (Some(BackupTarget::Bucket { service, .. }), Some(node)) = (&to, scope.node("backup.to"))
    {
        let reached = tiers
            .iter()
            .any(|tier| matches!(tier, Tier::Object(object) if object.service == *service));
        if !reached {
            let word = service.as_str();
            let mistake = node.mistake(format!("no [[storage]] says how to reach `{word}`"));
            reader.mistakes.push(mistake.hint(format!(
                "a bucket is written with the address and keys of the [[storage]] with tier = \"{word}\""
            )));
        }
    }
    let every = reader.time(scope, "backup.every");
    let keep = number(reader.count(scope, "backup.keep"));
    for name in ["backup.every", "backup.keep"] {
        if let Some(node) = scope.node(name)
            && scope.node("backup.to").is_none()
        {
            let origin = Origin::of(node);
            reader.notices.push(format!(
                "`{name}` ({origin}) has no effect without `backup.to`"
            ));
        }
    }
    Backup { to, every, keep }
}

/// A folder, or a bucket as `s3://bucket/prefix`.
fn backup_target(_: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<BackupTarget> {
    let text = kinds::text(node, kind)?;
    if !text.contains("://") {
        return kinds::path(node, kind).map(BackupTarget::Folder);
    }
    BackupTarget::parse(text).ok_or_else(|| {
        let message = format!("`{}` is neither a folder nor a bucket", shown(text));
        vec![
            node.mistake(message).hint(
                "write \"/var/backups/modgate\" or \"s3://bucket/prefix\" (`gs://`, `az://`)",
            ),
        ]
    })
}
