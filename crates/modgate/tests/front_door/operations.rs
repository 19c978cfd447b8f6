


#[tokio::test(flavor = "multi_thread")]
async fn a_retired_version_is_gone_at_once() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    let zip = module("a").url_path("zip");
    assert_eq!(gate.get(&zip).await.status, 200);
    let command = |args: &[&str]| {
        let done = std::process::Command::new(bin())
            .args(args)
            .arg("--data")
            .arg(gate.data_dir())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    // The server watches the file: asked until it has seen the change, at most 10 s.
    let becomes = async |status: u16| {
        for _ in 0..200 {
            let reply = gate.get(&zip).await;
            if reply.status == status {
                return reply.text();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("never {status}");
    };
    command(&["retire", "lab.example/a@v1.0.0", "--reason", "leaks tokens"]);
    assert!(becomes(410).await.contains("leaks tokens"));
    assert_eq!(gate.get("/lab.example/a/@v/list").await.text(), "");
    command(&["unretire", "lab.example/a@v1.0.0"]);
    becomes(200).await;
}
