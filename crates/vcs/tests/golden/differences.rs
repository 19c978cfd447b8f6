//! What differs: asked again, and told.

use super::*;

/// What `go` says depends on what it fetched before: a query it is alone with, and an empty cache, decide.
pub(crate) async fn settle(go: &Go, differences: Vec<Difference>) -> Vec<Difference> {
    let meant = |(module, query): &(String, String)| {
        let mut known = DELIBERATE.iter();
        known.any(|known| known.is(module, query))
    };
    let keys: BTreeSet<_> = differences
        .iter()
        .map(|difference| difference.1.clone())
        .filter(|key| !meant(key))
        .collect();
    println!("{} questions are asked of go alone", keys.len());
    let mut alone = JoinSet::new();
    for (module, query) in keys {
        let go = go.clone();
        alone.spawn(async move {
            let name = query.split_once(' ').map_or("HEAD", |(_, name)| name);
            let again = Questions {
                modules: vec![(module.clone(), vec![name.to_owned()])],
                no_lists: query != "list",
            };
            let truth = go.ask(&again).await;
            let key = (module, query);
            let said = expected(&again, &truth).remove(&key);
            (key, said)
        });
    }
    let said: BTreeMap<_, _> = alone.join_all().await.into_iter().collect();
    let mut left = differences;
    for difference in &mut left {
        if let Some(said) = said.get(&difference.1) {
            difference.2.clone_from(said);
        }
    }
    left.retain(|(_, _, go, ours)| match (go, ours) {
        (Some(go), Some(ours)) => !go.same(ours),
        _ => true,
    });
    left.sort_by(|one, other| (&one.1, one.0).cmp(&(&other.1, other.0)));
    left
}

pub(crate) fn report(compared: usize, differences: &[Difference], all: bool) {
    let mut text = String::new();
    let mut meant = BTreeSet::new();
    for (round, (module, query), go, ours) in differences {
        let known = DELIBERATE.iter().position(|known| known.is(module, query));
        if let Some(known) = known {
            meant.insert(known);
            continue;
        }
        let show = |answer: &Option<Answer>| match answer {
            None => "(not asked)".to_owned(),
            Some(Answer::Said(text)) => text.clone(),
            Some(Answer::Refused { why, absent }) => {
                let kind = match absent {
                    Some(true) => "absent",
                    Some(false) => "refused for good",
                    None => "refused",
                };
                format!("{kind}: {}", why.trim())
            }
        };
        let _ = writeln!(
            text,
            "{module} {query} (with {round})\n    go:      {}\n    modgate: {}",
            show(go),
            show(ours)
        );
    }
    for (at, known) in DELIBERATE.iter().enumerate() {
        if all && !meant.contains(&at) {
            let _ = writeln!(
                text,
                "{} {}: no difference, but one is meant: {}",
                known.module, known.what, known.why
            );
        }
    }
    assert!(
        text.is_empty(),
        "of {compared} answers these differ:\n{text}"
    );
    println!(
        "{compared} answers compared, {} differ on purpose",
        meant.len()
    );
}
