//! What the second lock closes, and that it closes nothing else.

mod world;

use carrel_sandbox::{FactState, Stdin, TerminalSize};
use world::{World, as_ordinary_user, run, said, script};

impl World {
    fn has_landlock(&self) -> bool {
        self.sandboxes.facts().iter().any(|fact| fact.name == "landlock" && fact.state == FactState::Ok)
    }
}

/// The error number of a system call, as perl makes it.
fn error_of(call: &str) -> String {
    format!("perl -e '$name = \"node\"; $! = 0; syscall({call}); print $!+0'")
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn no_device_node_is_made_not_even_the_one_any_user_may_make() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    if !world.has_landlock() {
        return;
    }

    // The device 0/0 needs no privilege: overlays use it to say that something is not there.
    let whiteout = said(&sandbox, &error_of("133, $name, 0020600, 0")).await;
    let block = said(&sandbox, &error_of("133, $name, 0060600, 0x701")).await;

    assert_eq!(whiteout, "13");
    assert!(matches!(block.as_str(), "1" | "13"), "{block}");
}

#[tokio::test]
async fn files_move_and_are_linked_between_folders() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let moved = "mkdir -p a/b c && echo text > a/b/file && mv a/b/file c/ && ln c/file a/link && mv a c/ && cat c/a/link && \
                 mkfifo fifo && ln -s c link && rm -r c && ls";

    assert_eq!(said(&sandbox, moved).await, "text\nfifo\nlink");
}

#[tokio::test]
async fn devices_and_terminals_take_the_commands_they_always_took() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    // ENOTTY, as outside, and not EACCES: programs tell a terminal from a file by this.
    let null = said(&sandbox, "perl -e 'open F, q(<), q(/dev/null); ioctl(F, 0x5401, my $b = q()); print $!+0'").await;
    let size = TerminalSize { columns: 91, rows: 17 };
    let finished = sandbox
        .run(
            script("stty size; tty; script -qc 'stty cols 33; stty size' /dev/null").terminal(size).stdin(Stdin::Piped),
        )
        .await;
    let terminal = String::from_utf8_lossy(&finished.expect("it runs").output).replace('\r', "");

    assert_eq!(null, "25");
    let mut lines = terminal.lines();
    assert_eq!(lines.next(), Some("17 91"), "{terminal}");
    assert!(lines.next().is_some_and(|line| line.starts_with("/dev/pts/")), "{terminal}");
    assert!(lines.next().is_some_and(|line| line.ends_with(" 33")), "{terminal}");
}

#[tokio::test]
async fn processes_of_one_sandbox_signal_trace_and_reach_each_other() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let signalled = "sleep 1000 & kill -TERM $!; wait $!; echo $?";
    let reached = "perl -MIO::Socket::UNIX -e '$l = IO::Socket::UNIX->new(Local => qq(\\0name), Listen => 1) or die; \
                   $c = IO::Socket::UNIX->new(Peer => qq(\\0name)) or die $!; print q(reached)'";

    assert_eq!(said(&sandbox, signalled).await, "143");
    assert_eq!(said(&sandbox, reached).await, "reached");
    let git = run(&sandbox, "git init -q . && echo x > file && git add file && git -c user.name=a -c user.email=b commit -qm c && git gc -q && git status --short").await;
    assert!(git.status.is_success() && git.output.is_empty(), "{}", String::from_utf8_lossy(&git.output));
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    as_ordinary_user();
}
