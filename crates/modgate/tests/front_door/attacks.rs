


#[tokio::test(flavor = "multi_thread")]
async fn a_lying_database_is_found_out() {
    let lies = [
        Lie::ForgedTiles,
        Lie::TruncatedTiles,
        Lie::WrongKey,
        Lie::OtherModulesRecord,
        Lie::OtherModulesHashes,
        Lie::ExtraLines,
        Lie::IdOutsideTree,
    ];
    for lie in lies {
        let shown = format!("{lie:?}");
        let (good, bad) = (module("good"), module("bad"));
        let (lab, sumdb) = verified_lab(&[good.clone(), bad.clone()]).await;
        sumdb.add_others(300);
        let gate = gate(&lab, &sumdb.key().to_string(), "").await;
        sumdb.lie(lie).await;
        let reply = gate.get(&bad.url_path("zip")).await;
        // A record with lines about others beside its own is no lie about this module.
        if shown != "ExtraLines" || reply.status != 200 {
            assert_eq!(reply.status, 502, "{shown}: {}", reply.text());
            assert_eq!(kept_zips(gate.data_dir()), 0, "{shown}");
        }
        sumdb.be_honest().await;
        let reply = gate.get(&good.url_path("zip")).await;
        assert_eq!(reply.status, 200, "{shown}: {}", reply.text());
    }
}
