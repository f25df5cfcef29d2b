//! `apply_patch` on real files.

use carrel_domain::EventBody;
use carrel_testkit::model::{Reply, Script};
use serde_json::json;

use crate::world::World;

fn patch(body: &str) -> Reply {
    Reply::custom("apply_patch", format!("*** Begin Patch\n{body}\n*** End Patch\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_adds_changes_moves_and_deletes() {
    let world = World::new(Script::new([
        patch("*** Add File: deep/er/new.txt\n+new\n*** Update File: greeting.txt\n*** Move to: greetings.txt\n@@\n-hello\n+goodbye\n*** Delete File: gone.txt\n*** Update File: run.sh\n@@\n+echo more"),
        Reply::message("Done."),
    ]))
    .await;
    world.shell("echo x > gone.txt; echo 'echo' > run.sh; chmod 755 run.sh").await;

    world.answer("Go.").await;

    assert_eq!(
        world.shell("cat deep/er/new.txt greetings.txt; ls; stat -c %a run.sh").await,
        "new\ngoodbye\nworld\ndeep\ngreetings.txt\nrun.sh\n755\n"
    );
    assert_eq!(
        world.result(0),
        "The patch is applied. Changed files:\nA deep/er/new.txt\nR greeting.txt -> greetings.txt\nD gone.txt\nM run.sh\n"
    );
    let applied = world.events().into_iter().find_map(|body| match body {
        EventBody::PatchApplied { files } => Some(files.len()),
        _ => None,
    });
    assert_eq!(applied, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_of_which_a_part_does_not_apply_changes_nothing() {
    let world = World::new(Script::new([
        patch("*** Add File: new.txt\n+new\n*** Update File: greeting.txt\n@@\n hello\n-mars\n+venus"),
        Reply::message("Done."),
    ]))
    .await;

    world.answer("Go.").await;

    assert_eq!(world.shell("ls; cat greeting.txt").await, "greeting.txt\nhello\nworld\n");
    assert!(
        world
            .result(0)
            .starts_with("The patch was not applied; nothing has changed: `greeting.txt`, the hunk at line 5"),
        "{}",
        world.result(0)
    );
    assert!(world.kinds().contains(&"patch.refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_cannot_be_written_puts_back_what_was_there() {
    let world = World::new(Script::new([
        patch("*** Update File: greeting.txt\n@@\n-hello\n+goodbye\n*** Add File: a.txt\n+a\n*** Add File: locked/x.txt\n+x"),
        Reply::message("Done."),
    ]))
    .await;
    world.shell("mkdir locked; chmod 555 locked").await;

    world.answer("Go.").await;

    assert_eq!(world.shell("ls; cat greeting.txt").await, "greeting.txt\nlocked\nhello\nworld\n");
    assert!(world.result(0).contains("`locked/x.txt` cannot be written"), "{}", world.result(0));
    assert!(world.result(0).ends_with("everything is as it was before"), "{}", world.result(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_stays_inside_the_repository_and_out_of_git() {
    let paths =
        ["../outside.txt", "/tmp/outside.txt", "a/../../x", ".git/config", ".GIT/hooks/x", "/workspace/repository/x"];
    let replies = paths.iter().map(|path| patch(&format!("*** Add File: {path}\n+x")));
    let world = World::new(Script::new(replies.chain([Reply::message("Done.")]))).await;

    world.answer("Go.").await;

    for (index, path) in paths.iter().enumerate() {
        assert!(world.result(index).contains(&format!("`{path}` is ")), "{}", world.result(index));
    }
    assert_eq!(world.shell("ls / /tmp /workspace | grep -c outside; git status --short").await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_folders_and_binary_files_are_not_patched() {
    let world = World::new(Script::new([
        patch("*** Update File: link\n@@\n+x"),
        patch("*** Delete File: folder"),
        patch("*** Update File: binary\n@@\n+x"),
        patch("*** Add File: fifo\n+x"),
        Reply::message("Done."),
    ]))
    .await;
    world.shell("ln -s /etc/passwd link; mkdir folder; printf '\\xff\\n' > binary; mkfifo fifo").await;

    world.answer("Go.").await;

    for (index, expected) in
        ["`link` is a symbolic link", "`folder` is a folder", "`binary` is not UTF-8", "`fifo` is not a regular"]
            .iter()
            .enumerate()
    {
        assert!(world.result(index).contains(expected), "{}", world.result(index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_inside_a_command_is_applied_too() {
    let script = Script::new([
        Reply::call(
            "exec_command",
            json!({"cmd": "cd sub && apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: x.txt\n+$HOME\n*** End Patch\nEOF\n"}),
        ),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;
    world.shell("mkdir sub").await;

    world.answer("Go.").await;

    assert_eq!(world.result(0), "The patch is applied. Changed files:\nA sub/x.txt\n");
    assert_eq!(world.shell("cat sub/x.txt").await, "$HOME\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_after_a_patch_in_the_same_answer_sees_its_files() {
    let script = Script::new([
        patch("*** Add File: x.txt\n+patched").then(Reply::command("cat x.txt")),
        Reply::message("Done."),
    ]);
    let world = World::new(script).await;

    world.answer("Go.").await;

    assert!(world.result(1).ends_with("Output:\npatched\n"), "{}", world.result(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_patched_in_one_place() {
    let added = "+0123456789abcdef\n".repeat(200_000);
    let world = World::new(Script::new([
        patch(added_file(&added).trim_end()),
        patch("*** Update File: big.txt\n@@\n-line 499999\n+changed"),
        Reply::message("Done."),
    ]))
    .await;
    world.shell("seq -f 'line %.0f' 1 500000 > big.txt").await;

    world.answer("Go.").await;

    assert!(world.result(1).starts_with("The patch is applied"), "{:.300}", world.result(1));
    assert_eq!(
        world.shell("wc -c < added.txt; wc -l < big.txt; tail -2 big.txt").await,
        "3400000\n500000\nchanged\nline 500000\n"
    );
}

fn added_file(lines: &str) -> String {
    format!("*** Add File: added.txt\n{lines}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_goes_through_no_link_to_a_folder() {
    let world = World::new(Script::new([
        patch("*** Add File: out/x.txt\n+x\n*** Update File: greeting.txt\n@@\n+x"),
        patch("*** Update File: in/deep/y.txt\n@@\n+x"),
        Reply::message("Done."),
    ]))
    .await;
    world.shell("mkdir -p real/deep; echo y > real/deep/y.txt; ln -s /tmp out; ln -s real in").await;

    world.answer("Go.").await;

    for index in 0..2 {
        assert!(world.result(index).contains("lies behind a symbolic link"), "{}", world.result(index));
    }
    assert_eq!(world.shell("ls /tmp | grep -c x.txt; cat greeting.txt real/deep/y.txt").await, "0\nhello\nworld\ny\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_may_be_absolute_and_have_spaces_and_any_letters() {
    let world = World::new(Script::new([
        patch("*** Add File: /workspace/repo/a b/grün 文.txt\n+x\n*** Update File: ./tool\n*** Move to: bin/my tool\n@@\n-old\n+new"),
        Reply::message("Done."),
    ]))
    .await;
    world.shell("echo old > tool; chmod 755 tool").await;

    world.answer("Go.").await;

    assert!(world.result(0).contains("A a b/grün 文.txt\nR tool -> bin/my tool\n"), "{}", world.result(0));
    assert_eq!(world.shell("cat 'a b/grün 文.txt' 'bin/my tool'; stat -c %a 'bin/my tool'").await, "x\nnew\n755\n");
}
