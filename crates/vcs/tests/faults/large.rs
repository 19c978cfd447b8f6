//! Large repositories.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_references() {
    let lab = Lab::start().await;
    let built = add(&lab, &small());
    let hash = built.hash("one");
    let mut lines: Vec<String> = (0..100_000)
        .map(|at| format!("{hash} refs/tags/v2.0.{at}\n"))
        .collect();
    lines.extend((0..100).map(|at| format!("{hash} refs/tags/v0.0.{at}\n")));
    lines.sort_by(|one, other| one[41..].cmp(&other[41..]));
    let text = format!(
        "# pack-refs with: peeled fully-peeled sorted \n{}",
        lines.concat()
    );
    fs::write(built.folder.join("packed-refs"), text).unwrap();
    let direct = lab.direct();
    let start = Instant::now();
    assert_eq!(list(&direct, MODULE).await.unwrap().len(), 102);
    let said = info(&direct, MODULE, "v0.0.42").await.unwrap();
    assert_eq!(said.version.as_str(), "v0.0.42");
    zip(&direct, MODULE, "v0.0.42").await.unwrap();
    let main = info(&direct, MODULE, "main").await.unwrap();
    assert_eq!(main.version.as_str(), built.fill("v1.1.1-0.{three:p}"));
    println!("{:?}", start.elapsed());
    // References to nothing.
    lab.forge.fault(URL, Some(Fault::ManyRefs(100_000)));
    let direct = lab.direct();
    assert_eq!(list(&direct, MODULE).await.unwrap().len(), 100_000);
    zip(&direct, MODULE, "v1.0.77777").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_repository_is_not_fetched_for_one_version() {
    let lab = Lab::start().await;
    let mut history = small();
    let mut state = 1u64;
    for at in 0..30 {
        let noise = noise(&mut state, 10 << 20);
        history.commit("main", &format!("n{at}"), [change::file("noise", noise)]);
    }
    history.commit("main", "clean", [change::gone("noise")]);
    history.tag("v1.2.0", "clean");
    history.commit("main", "tip", [change::file("b.go", "package b\n")]);
    let built = add(&lab, &history);
    let direct = lab.direct();
    zip(&direct, MODULE, "v1.2.0").await.unwrap();
    let mut bytes = 0;
    each_file_size(&lab.mirrors(), &mut bytes);
    assert!(bytes < 1 << 20, "{bytes} bytes for one version");
    let main = info(&direct, MODULE, "main").await.unwrap();
    assert_eq!(main.version.as_str(), built.fill("v1.2.1-0.{tip:p}"));
}

fn each_file_size(folder: &Path, bytes: &mut u64) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            each_file_size(&entry.path(), bytes);
        } else {
            *bytes += entry.metadata().unwrap().len();
        }
    }
}
