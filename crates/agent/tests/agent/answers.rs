//! What the model says last: held against the files, the recorded output and the commands that ran.

use carrel_agent::AgentTask;
use carrel_domain::task::Mode;
use carrel_domain::{CitationsCheck, EventBody};
use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use crate::world::{World, within};

const PATCH: &str = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-hello\n+hi\n*** End Patch";

fn ask(world: &World, prompt: &str) -> AgentTask {
    AgentTask { mode: Mode::Ask, ..world.task(prompt) }
}

/// The name of the piece of output that the first call of any run gets.
async fn first_chunk() -> String {
    let world = World::new(Script::new([Reply::command("true"), Reply::message("Done.")])).await;
    world.answer("Go.").await;
    let result = world.result(0);
    result.lines().find_map(|line| line.strip_prefix("Chunk ID: ")).expect("a chunk").to_owned()
}

fn checks(world: &World) -> Vec<CitationsCheck> {
    let events = world.events().into_iter();
    events
        .filter_map(|body| match body {
            EventBody::CitationsChecked(check) => Some(check),
            _ => None,
        })
        .collect()
}

fn warnings(world: &World) -> Vec<String> {
    let events = world.events().into_iter();
    events
        .filter_map(|body| match body {
            EventBody::Warning { message } => Some(message),
            _ => None,
        })
        .collect()
}

/// What the model was told about its answer with the last request, if it was.
fn note(world: &World) -> Option<String> {
    let input = world.requests().last().expect("a request").input();
    let text = input.last().expect("an item")["content"][0]["text"].as_str().map(str::to_owned);
    text.filter(|text| text.starts_with("<answer_check>"))
}

#[tokio::test(flavor = "multi_thread")]
async fn citations_that_hold_cost_no_request() {
    let chunk = first_chunk().await;
    let answer = format!(
        "It greets 【F:greeting.txt†L1-L2】【F:/workspace/repo/greeting.txt†】, as seen 【{chunk}†L1-L3】【chunk {chunk}†L3】.\n\n**Follow-ups**\n- Greet whom?\n- Add a test\n"
    );
    let world = World::new(Script::new([Reply::command("seq 1 3"), Reply::message(answer)])).await;

    let finished = within(20, world.run_task(ask(&world, "What is it?"))).await.expect("an answer");

    assert_eq!((world.requests().len(), checks(&world).len()), (2, 1));
    assert_eq!((finished.notes.citations.holding, finished.notes.citations.failing.len()), (4, 0));
    assert_eq!(finished.notes.suggestions, ["Greet whom?", "Add a test"]);
    assert!(finished.answer.ends_with("†L3】."), "{}", finished.answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn citations_that_do_not_hold_are_told_once_and_then_marked() {
    let chunk = first_chunk().await;
    let bad = format!(
        "a 【F:greeting.txt†L1-L9】 b 【F:none.rs†L1】 c 【F:../../etc/passwd†L1】 d 【F:link†L1】 e 【F:linked/hostname†L1】 f 【F:bin†L1】 g 【F:folder†】 h 【{chunk}†L4】 i 【ffffff†L1】 j 【F:greeting.txt†L2-L1】 k 【F:greeting.txt†x】 l 【F:greeting.txt†L2】"
    );
    let better = "It greets 【F:greeting.txt†L1】, says 【F:none.rs†L1】.";
    let script = Script::new([Reply::command("seq 1 3"), Reply::message(bad), Reply::message(better)]);
    let world = World::new(script).await;
    world.shell("ln -s greeting.txt link; ln -s /etc linked; printf 'a\\0b\\n' > bin; mkdir folder").await;

    let finished = within(20, world.run_task(ask(&world, "What is it?"))).await.expect("an answer");

    assert_eq!((world.requests().len(), finished.answer.as_str()), (3, better));
    let first = &checks(&world)[0];
    let reasons: Vec<&str> = first.failing.iter().map(|failing| failing.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "there are only 2 lines",
            "there is no such file",
            "it is not in the repository",
            "a symbolic link is in its path; cite the file itself",
            "a symbolic link is in its path; cite the file itself",
            "it is not text",
            "it is a folder; cite lines of its files",
            "there are only 3 lines",
            "there is no output of this chunk ID",
            "line 2 is behind line 1",
            "it has not the form `【F:path†L1-L9】` or `【chunk†L1-L9】`",
        ]
    );
    assert_eq!(first.holding, 1);
    let told = note(&world).expect("it was told");
    assert!(told.contains("- 【F:greeting.txt†L1-L9】 does not hold: there are only 2 lines\n"), "{told}");
    assert_eq!((finished.notes.citations.holding, finished.notes.citations.failing.len()), (1, 1));
    assert_eq!(finished.notes.citations.failing[0].citation, "【F:none.rs†L1】");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_makes_itself_cannot_be_cited_where_nothing_of_it_is_kept() {
    let work = "echo x > notes.md; echo more >> changed.txt; touch greeting.txt; git add . && git commit -qm own";
    let bad = "a 【F:notes.md†L1】 b 【F:changed.txt†L1】 c 【F:greeting.txt†L1】 d 【F:untracked.txt†L1】";
    let script =
        Script::new([Reply::command(work), Reply::message(bad), Reply::message("It greets 【F:greeting.txt†L1】.")]);
    let world = World::new(script).await;
    world.shell("echo a > changed.txt; git add . && git commit -qm base; echo by setup > untracked.txt").await;
    let base = world.shell("git rev-parse HEAD").await.trim().parse().expect("an object name");

    let task = AgentTask { base, ..ask(&world, "What is it?") };
    let finished = within(20, world.run_task(task)).await.expect("an answer");

    let failing = &checks(&world)[0].failing;
    let cited: Vec<&str> = failing.iter().map(|failing| failing.citation.as_str()).collect();
    assert_eq!(cited, ["【F:notes.md†L1】", "【F:changed.txt†L1】"]);
    assert!(failing.iter().all(|failing| failing.reason.contains("nothing of that is kept")), "{failing:?}");
    assert_eq!(finished.answer, "It greets 【F:greeting.txt†L1】.");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_cited_as_they_are_at_the_end() {
    let answer = "**Summary**\n- gone 【F:old.txt†L1】, new 【F:new.txt†L2】\n\n**Testing**\n- none";
    let patch = "*** Begin Patch\n*** Delete File: old.txt\n*** Add File: new.txt\n+a\n+b\n*** End Patch";
    let script =
        Script::new([Reply::call("apply_patch", json!({"patch": patch})), Reply::message(answer), Reply::message("")]);
    let world = World::new(script).await;
    world.shell("echo 1 > old.txt").await;

    let finished = within(20, world.run("Move it.")).await.expect("an answer");

    let citations = finished.notes.citations;
    assert_eq!((citations.holding, citations.failing[0].citation.as_str()), (1, "【F:old.txt†L1】"));
    assert_eq!(finished.answer, answer, "whoever corrects by saying nothing leaves it as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_only_lacks_something_costs_no_request() {
    let patch = Reply::call("apply_patch", json!({"patch": PATCH}));
    let changed = World::new(Script::new([patch, Reply::message("Done.")])).await;
    let asked = World::new(Script::new([Reply::command("cat greeting.txt"), Reply::message("It greets.")])).await;

    let bare = within(20, changed.run("Change it.")).await.expect("an answer");
    let uncited = within(20, asked.run_task(ask(&asked, "What is it?"))).await.expect("an answer");

    assert_eq!((bare.answer.as_str(), changed.requests().len()), ("Done.", 2));
    assert_eq!((uncited.answer.as_str(), asked.requests().len()), ("It greets.", 2));
    assert_eq!((warnings(&changed).len(), warnings(&asked).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_that_are_said_to_have_passed_did() {
    let claims =
        "**Summary**\n- 【F:greeting.txt†L1】\n\n**Testing**\n- ✅ `grep -q hello greeting.txt`\n- ✅ `npm test`";
    let honest = "**Summary**\n- 【F:greeting.txt†L1】\n\n**Testing**\n- ❌ `grep -q hello greeting.txt`";
    let patch = || Reply::call("apply_patch", json!({"patch": PATCH}));
    let test = || Reply::command("grep -q hello greeting.txt");
    let world = World::new(Script::new([patch(), test(), Reply::message(claims), Reply::message(honest)])).await;
    let false_again = "All is well.\n\n**Testing**\n- ✅ `npm test`";
    let stubborn = World::new(Script::new([patch(), Reply::message(claims), Reply::message(false_again)])).await;

    let corrected = within(20, world.run("Change it.")).await.expect("an answer");
    let bare = within(20, stubborn.run("Change it.")).await.expect("an answer");

    let told = note(&world).expect("it was told");
    assert!(told.contains("passed which ended with exit code 1: “- ✅ `grep -q hello greeting.txt`”"), "{told}");
    assert!(told.contains("no command of this turn: “- ✅ `npm test`”"), "{told}");
    assert_eq!((corrected.answer.as_str(), warnings(&world).len()), (honest, 0));
    assert_eq!((bare.answer.as_str(), stubborn.requests().len()), (false_again, 3));
    assert_eq!((warnings(&stubborn).len(), bare.notes.faults.len()), (1, 1), "{:?}", warnings(&stubborn));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_that_never_comes_costs_no_answer() {
    // The script ends with the answer, so that the request for a correction is refused.
    let script = Script::new([Reply::command("true"), Reply::message("See 【F:none†L1】.")]);
    let world = World::new(script).await;

    let finished = within(20, world.run_task(ask(&world, "What is it?"))).await.expect("an answer");

    assert_eq!((finished.answer.as_str(), finished.notes.citations.failing.len()), ("See 【F:none†L1】.", 1));
    assert!(warnings(&world)[0].starts_with("the answer: its faults were not corrected: "), "{:?}", warnings(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_told_twice_after_a_restart() {
    let script = || {
        Script::new([
            Reply::command("true"),
            Reply::message("See 【F:none†L1】."),
            Reply::message("See 【F:none†L2】."),
            Reply::message("never asked for"),
        ])
    };
    let before = World::new(script()).await;
    within(20, before.run_task(ask(&before, "What is it?"))).await.expect("an answer");
    let items = before.items();
    for left in [items.len(), items.len() - 1, items.len() - 2] {
        let after = World::new(script()).await;
        let task = AgentTask { resumed: items[..left].to_vec(), ..ask(&after, "What is it?") };

        let finished = within(20, after.run_task(task)).await.expect("an answer");

        assert_eq!(finished.answer, "See 【F:none†L2】.", "{left} of {}", items.len());
        assert_eq!(after.requests().len(), usize::from(left < items.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_citations_than_anybody_reads_are_not_all_checked() {
    let answer: String = (1..=300).map(|line| format!("【F:greeting.txt†L{line}】")).collect();
    let script = Script::new([Reply::command("true"), Reply::message(answer.clone()), Reply::message(answer)]);
    let world = World::new(script).await;

    let finished = within(20, world.run_task(ask(&world, "What is it?"))).await.expect("an answer");

    let citations = finished.notes.citations;
    assert_eq!((citations.holding, citations.failing.len(), citations.unchecked), (2, 198, 100));
}
