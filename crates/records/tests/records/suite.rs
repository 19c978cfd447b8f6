//! What both databases do alike.

use std::collections::BTreeMap;

use records::{Agreed, Change, ChangeKind, Filter, Object, Records, Retired, TombstoneRow, Totals};
use tokio::time::timeout;

use super::{Database, SOON, keys, object, tombstone};

pub(crate) async fn objects_are_noted_found_and_forgotten(database: Database) {
    let records = database.open().await;
    let zip = Object {
        h1: Some("h1:abc".to_owned()),
        ..object("go/a.example/m/@v/v1.0.0.zip", 5)
    };
    let info = object("go/a.example/m/@v/v1.0.0.info", 6);
    // One twice: the last note stands, and the times of the first.
    records
        .note(&[object(&zip.key, 4), zip.clone(), info.clone()])
        .await
        .unwrap();
    records.note(&[object(&zip.key, 99)]).await.unwrap();
    assert_eq!(records.object(&zip.key).await.unwrap(), Some(zip.clone()));
    assert_eq!(records.object("go/none").await.unwrap(), None);
    assert_eq!(
        records.folder("go/a.example/m/@v").await.unwrap(),
        ["v1.0.0.info", "v1.0.0.zip"]
    );
    assert!(records.folder("go/a.example").await.unwrap().is_empty());

    // Other bytes under the key.
    let other = Object {
        size: 11,
        sha256: [8; 32],
        ..zip.clone()
    };
    records.note(std::slice::from_ref(&other)).await.unwrap();
    assert_eq!(records.object(&zip.key).await.unwrap(), Some(other));

    let used = [
        (info.key.clone(), 50),
        (info.key.clone(), 40),
        ("go/none".to_owned(), 1),
    ];
    records.used(&used).await.unwrap();
    records.used(&[(info.key.clone(), 45)]).await.unwrap();
    assert_eq!(
        records.object(&info.key).await.unwrap().unwrap().used_at_ms,
        50
    );

    assert!(records.pin(&info.key).await.unwrap());
    assert!(records.object(&info.key).await.unwrap().unwrap().pinned);
    assert_eq!(records.pinned("", 10).await.unwrap().len(), 1);
    assert!(records.unpin(&info.key).await.unwrap());
    assert_eq!(records.pinned("", 10).await.unwrap(), []);
    assert!(!records.pin("go/none").await.unwrap());

    assert!(records.forget(&info.key).await.unwrap());
    assert!(!records.forget(&info.key).await.unwrap());
    assert_eq!(records.object(&info.key).await.unwrap(), None);
    records.probe().await.unwrap();
    records.close().await;
}

pub(crate) async fn objects_are_paged_and_filtered(database: Database) {
    let records = database.open().await;
    // In the order of bytes, which no language's collation has.
    let names = [
        "go/!z", "go/B", "go/a", "go/a/b", "go/a~", "go/é", "other/x",
    ];
    let objects: Vec<Object> = names
        .iter()
        .enumerate()
        .map(|(index, name)| Object {
            pinned: *name == "go/a",
            ..object(name, 100 - i64::try_from(index).unwrap())
        })
        .collect();
    records.note(&objects).await.unwrap();
    let all = Filter::default();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = records.objects(&after, 2, &all).await.unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(&last.key);
        seen.extend(page.into_iter().map(|object| object.key));
    }
    assert_eq!(seen, names);

    let go = Filter {
        prefix: "go/".to_owned(),
        pinned_too: false,
        ..Filter::default()
    };
    let found = records.objects("", 100, &go).await.unwrap();
    assert_eq!(keys(&found), ["go/!z", "go/B", "go/a/b", "go/a~", "go/é"]);
    let young = Filter {
        kept_from_ms: 95,
        kept_before_ms: 97,
        ..Filter::default()
    };
    assert_eq!(
        keys(&records.objects("", 100, &young).await.unwrap()),
        ["go/a~", "go/é"]
    );
    assert_eq!(
        records.totals(&young).await.unwrap(),
        Totals {
            count: 2,
            bytes: 20
        }
    );

    records.used(&[("go/é".to_owned(), 1000)]).await.unwrap();
    let first = records.least_used(None, 3, &all).await.unwrap();
    assert_eq!(keys(&first), ["other/x", "go/a~", "go/a/b"]);
    let last = first.last().unwrap();
    let next = records
        .least_used(Some((last.used_at_ms, &last.key)), 100, &all)
        .await
        .unwrap();
    assert_eq!(keys(&next), ["go/a", "go/B", "go/!z", "go/é"]);
    let unused = Filter {
        used_before_ms: 96,
        ..Filter::default()
    };
    assert_eq!(
        keys(&records.least_used(None, 100, &unused).await.unwrap()),
        ["other/x"]
    );
}

pub(crate) async fn a_queue_writes_many_at_once(database: Database) {
    let records = database.open().await;
    for index in 0..3000 {
        let key = format!("go/m/@v/v{index}");
        assert!(records.note_later(object(&key, index)));
        assert!(index % 3 != 0 || records.used_later(key, 5000));
        if index % 1000 == 999 {
            records.flush().await;
        }
    }
    assert_eq!(records.folder("go/m/@v").await.unwrap().len(), 3000);
    let unused = Filter {
        used_before_ms: 5000,
        ..Filter::default()
    };
    assert_eq!(records.totals(&unused).await.unwrap().count, 2000);
    let writer = records.writer();
    assert_eq!((writer.waiting, writer.dropped, writer.failures), (0, 0, 0));
    // What is queued at the end is written too.
    assert!(records.note_later(object("go/last", 1)));
    records.close().await;
    let records = database.open().await;
    assert!(records.object("go/last").await.unwrap().is_some());
}

pub(crate) async fn tombstones_are_set_and_taken_away(database: Database) {
    let records = database.open().await;
    let one = tombstone("a.example/m", "v1.0.0", "bad");
    assert!(records.retire(&one).await.unwrap());
    assert!(!records.retire(&one).await.unwrap());
    let again = tombstone("a.example/m", "v1.0.0", "worse");
    assert!(records.retire(&again).await.unwrap());
    assert_eq!(records.tombstones().await.unwrap(), [again]);
    assert!(records.unretire("a.example/m", "v1.0.0").await.unwrap());
    assert!(!records.unretire("a.example/m", "v1.0.0").await.unwrap());

    let old = [one.clone(), tombstone("b.example/m", "v1.0.0", "old")];
    assert!(
        records
            .take_over_tombstones("old file", &old)
            .await
            .unwrap()
    );
    assert!(records.unretire("b.example/m", "v1.0.0").await.unwrap());
    assert!(
        !records
            .take_over_tombstones("old file", &old)
            .await
            .unwrap()
    );
    assert_eq!(records.tombstones().await.unwrap(), [one]);
}

pub(crate) async fn heads_only_go_forward(database: Database) {
    let records = database.open().await;
    assert_eq!(records.head("sum.example").await.unwrap(), None);
    assert!(
        records
            .advance_head("sum.example", None, 10, b"ten")
            .await
            .unwrap()
    );
    // Another had the same idea.
    assert!(
        !records
            .advance_head("sum.example", None, 11, b"eleven")
            .await
            .unwrap()
    );
    // Not proven against what is there, or backwards.
    assert!(
        !records
            .advance_head("sum.example", Some(b"nine"), 12, b"twelve")
            .await
            .unwrap()
    );
    assert!(
        !records
            .advance_head("sum.example", Some(b"ten"), 9, b"nine")
            .await
            .unwrap()
    );
    assert!(
        !records
            .advance_head("other.example", Some(b"ten"), 12, b"twelve")
            .await
            .unwrap()
    );
    assert!(
        records
            .advance_head("sum.example", Some(b"ten"), 12, b"twelve")
            .await
            .unwrap()
    );
    let head = records.head("sum.example").await.unwrap().unwrap();
    assert_eq!(
        (head.size, &head.note[..], head.fork.clone()),
        (12, &b"twelve"[..], None)
    );
    assert_eq!(records.heads().await.unwrap(), [head]);
}

pub(crate) async fn forks_stay_until_cleared(database: Database) {
    let records = database.open().await;
    // Even before any head was kept.
    assert!(records.set_fork("sum.example", b"two heads").await.unwrap());
    assert!(!records.set_fork("sum.example", b"later").await.unwrap());
    let head = records.head("sum.example").await.unwrap().unwrap();
    assert_eq!((head.size, head.note.len()), (0, 0));
    assert_eq!(head.fork.as_deref(), Some(&b"two heads"[..]));
    assert!(
        records
            .advance_head("sum.example", None, 10, b"ten")
            .await
            .unwrap()
    );
    assert!(
        records
            .head("sum.example")
            .await
            .unwrap()
            .unwrap()
            .fork
            .is_some()
    );
    assert!(records.clear_fork("sum.example").await.unwrap());
    assert!(!records.clear_fork("sum.example").await.unwrap());
    let head = records.head("sum.example").await.unwrap().unwrap();
    assert_eq!((head.size, head.fork), (10, None));
}

pub(crate) async fn newer_answers_stand(database: Database) {
    let records = database.open().await;
    assert!(records.put_answer("list", 10, b"new").await.unwrap());
    assert!(!records.put_answer("list", 9, b"old").await.unwrap());
    let answer = records.answer("list").await.unwrap().unwrap();
    assert_eq!((answer.asked_ms, &answer.raw[..]), (10, &b"new"[..]));
    assert!(!records.drop_answer("list", 9).await.unwrap());
    assert!(records.drop_answer("list", 10).await.unwrap());
    assert_eq!(records.answer("list").await.unwrap(), None);
}

pub(crate) async fn old_answers_are_found(database: Database) {
    let records = database.open().await;
    for (key, asked_ms) in [("a", 3), ("b", 1), ("c", 1), ("d", 9)] {
        assert!(records.put_answer(key, asked_ms, b"x").await.unwrap());
    }
    assert_eq!(records.count_answers().await.unwrap(), 4);
    let mut after = (i64::MIN, String::new());
    let mut found = Vec::new();
    loop {
        let page = records.old_answers(9, &after, 2).await.unwrap();
        let Some(last) = page.last().cloned() else {
            break;
        };
        assert!(page.len() <= 2);
        found.extend(page.into_iter().map(|(_, key)| key));
        after = last;
    }
    assert_eq!(found, ["b", "c", "a"]);
}

pub(crate) async fn changes_are_told_in_order(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    let start = other.last_change().await.unwrap();
    one.retire(&tombstone("a.example/m", "v1.0.0", "bad"))
        .await
        .unwrap();
    one.advance_head("sum.example", None, 1, b"one")
        .await
        .unwrap();
    one.put_answer("list", 1, b"").await.unwrap();
    one.put_answer("list", 1, b"").await.unwrap();
    one.forget("go/x").await.unwrap();
    one.set_fact("trees", "6").await.unwrap();
    one.set_fact("trees", "7").await.unwrap();
    one.announce(ChangeKind::Config, "digest").await.unwrap();
    one.announce(ChangeKind::Breaker, "proxy").await.unwrap();
    assert_eq!(one.fact("trees").await.unwrap().as_deref(), Some("7"));
    let news = other.changes_since(start).await.unwrap();
    let told: Vec<(ChangeKind, &str)> = news
        .changes
        .iter()
        .map(|Change { kind, key, .. }| (*kind, key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (ChangeKind::Tombstones, "a.example/m"),
            (ChangeKind::Head, "sum.example"),
            (ChangeKind::Answer, "list"),
            (ChangeKind::Forget, "go/x"),
            (ChangeKind::Config, "digest"),
            (ChangeKind::Breaker, "proxy"),
        ]
    );
    assert!(!news.gap && !news.more);
    let nothing = other.changes_since(news.seq).await.unwrap();
    assert!(nothing.changes.is_empty());
    assert_eq!(nothing.seq, news.seq);
    assert_eq!(other.prune_changes().await.unwrap(), 0);
}

/// A number that is taken is committed before a greater one can be read.
pub(crate) async fn changes_of_many_writers_are_never_missed(database: Database) {
    const WRITERS: usize = 4;
    const EACH: usize = 50;
    let reader = database.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let records = database.open().await;
        writers.spawn(async move {
            for _ in 0..EACH {
                records.announce(ChangeKind::Config, "").await.unwrap();
            }
        });
    }
    let (mut seq, mut seen) = (records::Cursor::default(), 0);
    while seen < WRITERS * EACH {
        let news = timeout(SOON, reader.changes_since(seq))
            .await
            .unwrap()
            .unwrap();
        assert!(news.changes.is_sorted_by_key(|change| change.seq));
        assert!(!news.gap);
        seen += news.changes.len();
        seq = news.seq;
        if news.changes.is_empty() && writers.is_empty() {
            break;
        }
        while writers.try_join_next().transpose().unwrap().is_some() {}
    }
    assert_eq!(seen, WRITERS * EACH);
}

pub(crate) async fn many_open_an_empty_one_at_once(database: Database) {
    let mut opening = tokio::task::JoinSet::new();
    for index in 0..6 {
        let settings = database.settings.clone();
        opening.spawn(async move {
            let records = Records::open(&settings).await.unwrap();
            records
                .note(&[object(&format!("go/{index}"), 1)])
                .await
                .unwrap();
        });
    }
    opening.join_all().await;
    let records = database.open().await;
    assert_eq!(records.totals(&Filter::default()).await.unwrap().count, 6);
}

pub(crate) async fn what_is_agreed_comes_into_effect_and_what_is_said_since_stays(
    database: Database,
) {
    const NAME: &str = "a.example/m@v1.0.0";
    let (old, bad) = (
        tombstone("a.example/m", "v1.0.0", "old"),
        tombstone("a.example/m", "v1.0.0", "bad"),
    );
    let retired = |row: &TombstoneRow| Retired {
        reason: row.reason.clone(),
        time: row.time.clone(),
    };
    let news = |rev: u64, row: Option<&TombstoneRow>| {
        let retired = row.map(retired);
        BTreeMap::from([(NAME.to_owned(), Agreed { rev, retired })])
    };
    let records = database.open().await;
    records.retire(&old).await.unwrap();
    // What was here before is no news to anybody.
    let agreement = records.agreement().await.unwrap();
    assert_eq!(agreement.agreed, news(0, Some(&old)));
    assert_eq!(agreement.words().count(), 0);

    records.retire(&bad).await.unwrap();
    let agreement = records.agreement().await.unwrap();
    let words: Vec<_> = agreement.words().collect();
    assert_eq!(words, [(NAME, Some(&retired(&bad)))]);
    // The others said something else meanwhile: what was said here is told on top of it.
    assert!(!records.agree(&news(3, None)).await.unwrap());
    assert_eq!(
        records.tombstones().await.unwrap(),
        std::slice::from_ref(&bad)
    );
    assert_eq!(records.agreement().await.unwrap().words().count(), 1);
    assert!(!records.agree(&news(4, Some(&bad))).await.unwrap());
    assert_eq!(records.agreement().await.unwrap().words().count(), 0);

    let seq = records.last_change().await.unwrap();
    assert!(records.agree(&news(5, None)).await.unwrap());
    assert!(records.tombstones().await.unwrap().is_empty());
    let told = records.changes_since(seq).await.unwrap().changes;
    assert_eq!(told[0].kind, ChangeKind::Tombstones);
    // Somebody who knew less.
    assert!(!records.agree(&news(4, Some(&bad))).await.unwrap());
    assert!(records.tombstones().await.unwrap().is_empty());
    assert_eq!(records.agreement().await.unwrap().agreed, news(5, None));
}
