//! The lies of the lab's checksum database that the `go` command would wait on for ever.

use testkit::sumdb::{LabSumDb, Lie};

#[tokio::test]
async fn hanging_requests_are_counted_unanswered_and_cut_when_the_port_closes() {
    let database = LabSumDb::start("sum.lab.example/with/path").await.unwrap();
    let url = format!("{}/sumdb/sum.lab.example/with/path/latest", database.url());
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    assert_eq!(database.count("/latest"), 1);

    database.lie(Lie::Hang).await;
    let hanging = tokio::spawn(reqwest::get(url.clone()));
    while database.count("/latest") < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!hanging.is_finished());
    database.lie(Lie::Unreachable).await;
    assert!(
        hanging.await.unwrap().is_err(),
        "the open connection was cut"
    );
    assert!(
        reqwest::get(&url).await.unwrap_err().is_connect(),
        "nothing listens"
    );

    database.be_honest().await;
    assert_eq!(
        reqwest::get(&url).await.unwrap().status(),
        200,
        "the same port again"
    );
}

#[tokio::test]
async fn a_proxy_without_the_database_says_so() {
    let database = LabSumDb::start("sum.lab.example").await.unwrap();
    let url = format!("{}/sumdb/sum.lab.example/supported", database.url());
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    database.lie(Lie::NotSupported).await;
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 404);
    // Another database is not served either.
    let other = url.replace("sum.lab.example", "sum.other.example");
    assert_eq!(reqwest::get(&other).await.unwrap().status(), 404);
}
