//! The list of tasks tells of itself when something happens.

use std::collections::BTreeMap;
use std::time::Duration;

use carrel_testkit::model::{Reply, Script};
use serde_json::Value;

use crate::{CARREL, FILES, World};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a stream of events until one satisfies the test; gives all of them: their names and what they say.
async fn heard(mut stream: reqwest::Response, last: impl Fn(&Value) -> bool) -> Vec<(String, Value)> {
    let (mut text, mut all) = (String::new(), Vec::new());
    let reading = async {
        while let Some(chunk) = stream.chunk().await.expect("the stream goes on") {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((frame, rest)) = text.split_once("\n\n") {
                let line = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = line("data: ") {
                    let data: Value = serde_json::from_str(data).expect("JSON");
                    all.push((line("event: ").unwrap_or_default().to_owned(), data));
                }
                text = rest.to_owned();
            }
            if all.iter().any(|(_, data)| last(data)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is told");
    all
}

#[tokio::test]
async fn who_looks_at_the_list_hears_of_a_task_that_says_much_a_few_times() {
    let noise = Reply::command("for i in $(seq 200); do echo $i; sleep 0.005; done");
    let world = World::new(CARREL, Script::new([noise, Reply::message("Done.")])).await;
    let repository = world.repository("project", FILES);
    let url = format!("{}/api/v1/tasks/changes", world.url());
    let stream = reqwest::Client::new().get(url).bearer_auth(world.token()).send().await.expect("a stream");

    let task = world.run(&repository, "Make noise").await;
    let last_seq = task["last_seq"].as_i64().expect("a number");
    let told = heard(stream, |data| data["last_seq"] == last_seq).await;

    let mut times = BTreeMap::new();
    for (event, data) in &told {
        assert_eq!((event.as_str(), &data["task_id"]), ("task", &task["id"]));
        *times.entry(data["last_seq"].as_i64()).or_insert(0) += 1;
    }
    assert!(times.values().all(|count| *count == 1), "{told:?}");
    let steps: Vec<i64> = told.iter().filter_map(|(_, data)| data["last_seq"].as_i64()).collect();
    assert!(steps.is_sorted(), "{steps:?}");
    assert!(steps.len() < usize::try_from(last_seq).expect("a count"), "{steps:?}");
}
