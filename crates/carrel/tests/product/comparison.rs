//! Attempts at the same request side by side, and which of them to look at first.

use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use crate::{CARREL, FILES, World};

#[tokio::test]
async fn the_attempt_whose_tests_pass_is_suggested_and_the_others_are_shown() {
    let test = "printf 'test:\\n\\t@test $$(cat n) = 1\\n' > Makefile; make test";
    let script = Script::new([
        Reply::call("exec_command", json!({"cmd": "echo 1 > n"})),
        Reply::call("exec_command", json!({"cmd": test})),
        Reply::message("Done."),
    ])
    .when(
        "Fail",
        [
            Reply::call("exec_command", json!({"cmd": "echo 2 > n"})),
            Reply::call("exec_command", json!({"cmd": test})),
            Reply::message("Done."),
        ],
    );
    let world = World::new(CARREL, script).await;
    let repository = world.repository("api", FILES);

    let alike = world.create_with(&repository, &["--attempts", "2", "Pass"]).await;
    let alike = world.ended(&alike).await;
    let failing = world.run(&repository, "Fail").await;

    let turn = &alike["turns"][0];
    assert!(turn["comparison"]["reason"].is_string(), "{turn:#}");
    for attempt in turn["attempts"].as_array().expect("attempts") {
        let work = &attempt["result"]["work"];
        assert_eq!((&work["commands"], &work["failed_commands"]), (&json!(2), &json!(0)), "{work:#}");
        assert!(work["tests"][0]["passed"] == true && work["tests"][0]["command"].to_string().contains("make test"));
    }
    let work = &failing["turns"][0]["attempts"][0]["result"]["work"];
    assert_eq!((&work["failed_commands"], &work["tests"][0]["passed"]), (&json!(1), &json!(false)), "{work:#}");
    assert!(failing["turns"][0]["comparison"].is_null());
    let shown = world.carrel(&["task", "compare", alike["id"].as_str().expect("an id")]).await;
    assert!(shown.code == 0 && shown.stdout.contains("1 of 1 passed"), "{shown:?}");
}
