//! What must hold between the tiers of `[[storage]]`.

use super::{
    super::{checked::Tier, layers::Scope, origin::Origin, reader::Reader, source::Node},
    header_mistake,
};

/// A tier with the table that it was read from.
pub(super) type Written = (Node, Scope, Tier);

/// Memory first, then what is near, then buckets; one that keeps at the end.
pub(super) fn order(reader: &mut Reader<'_>, written: &[Written]) {
    let Some((table, _, last)) = written.last() else {
        return;
    };
    if !written.iter().any(|(.., tier)| tier.is_durable()) {
        let mistake = header_mistake(table, "no tier of [[storage]] keeps anything".to_owned());
        let hint = "end with tier = \"disk\" or a bucket: \"s3\", \"gcs\" or \"azure\"";
        reader.mistakes.push(mistake.hint(hint));
        return;
    }
    let rank = |tier: &Tier| match tier {
        Tier::Memory => 0,
        Tier::Redis(_) | Tier::Disk(_) => 1,
        Tier::Object(_) => 2,
    };
    for pair in written.windows(2) {
        let [(.., above), (table, _, below)] = pair else {
            continue;
        };
        if rank(below) < rank(above) {
            let (above, below) = (above.as_str(), below.as_str());
            let message = format!("`{below}` stands below `{above}`, which is slower");
            let mistake = header_mistake(table, message);
            reader.mistakes.push(
                mistake.hint(
                    "tiers are asked from the top: memory, then redis and disk, then buckets",
                ),
            );
            return;
        }
    }
    if !last.is_durable() {
        let message = format!("`{}` stands below everything that keeps", last.as_str());
        let mistake = header_mistake(table, message);
        reader
            .mistakes
            .push(mistake.hint("it would never be asked: move it up"));
    }
    if let [.., (_, item, Tier::Disk(_))] = written {
        for (key, so) in [
            ("max_size", "so nothing is removed but by `modgate gc`"),
            ("ttl", "so nothing is removed but by `modgate gc`"),
            ("max_entry", "so it is given everything"),
        ] {
            let Some(node) = item.node(key) else { continue };
            let origin = Origin::of(node);
            reader.notices.push(format!(
                "`{key}` of the disk ({origin}) has no effect: nothing below it keeps, {so}"
            ));
        }
    }
}

/// Tiers that are there twice.
pub(super) fn twice(reader: &mut Reader<'_>, written: &[Written]) {
    let same = |one: &Tier, other: &Tier| match (one, other) {
        (Tier::Object(one), Tier::Object(other)) => {
            (one.service, &one.bucket, &one.prefix, &one.endpoint)
                == (other.service, &other.bucket, &other.prefix, &other.endpoint)
        }
        _ => one.as_str() == other.as_str(),
    };
    for (at, (table, _, tier)) in written.iter().enumerate() {
        if written[..at].iter().any(|(.., other)| same(other, tier)) {
            let word = tier.as_str();
            let mistake = header_mistake(table, format!("another [[storage]] is `{word}` too"));
            let hint = match tier {
                Tier::Object(_) => "two buckets differ in `bucket`, `prefix` or `endpoint`",
                _ => "there is one of it",
            };
            reader.mistakes.push(mistake.hint(hint));
        }
    }
}
