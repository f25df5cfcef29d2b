//! Files of real sandboxes, through their runner.

mod world;

use std::os::unix::fs::symlink;

use carrel_sandbox::{FileKind, FileStat, SandboxError};
use world::{World, run, said};

#[tokio::test]
async fn a_file_comes_back_as_it_was_written() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();

    sandbox.write_file("/workspace/deep/er/file", &content, None).await.expect("written");
    sandbox.write_file("/workspace/empty", b"", Some(0o755)).await.expect("written");

    assert_eq!(sandbox.read_file("/workspace/deep/er/file", 3_000_000).await.expect("read"), content);
    assert_eq!(sandbox.read_file("/workspace/empty", 0).await.expect("read"), b"");
    let stat = sandbox.stat("/workspace/empty").await.expect("looked at");
    assert_eq!(stat, Some(FileStat { kind: FileKind::File, size: 0, mode: 0o755 }));
    assert_eq!(
        sandbox.list_folder("/workspace").await.expect("listed"),
        (vec!["deep".to_owned(), "empty".to_owned()], true)
    );
}

#[tokio::test]
async fn an_existing_file_keeps_its_mode_and_a_link_leads_to_its_target() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    run(&sandbox, "echo old > script; chmod 750 script; ln -s script link; ln -s nowhere dangling").await;

    sandbox.write_file("/workspace/link", b"new", None).await.expect("written");
    sandbox.write_file("/workspace/dangling", b"new", None).await.expect("written");

    assert_eq!(
        said(&sandbox, "stat -c '%a %F' script link; cat script").await,
        "750 regular file\n777 symbolic link\nnew"
    );
    sandbox.remove_file("/workspace/link").await.expect("removed");
    assert_eq!(said(&sandbox, "ls").await, "dangling\nscript");
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_at_once() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    run(&sandbox, "mkfifo fifo; mkdir folder; ln -s /dev/zero device").await;

    for path in ["/workspace/fifo", "/workspace/folder", "/workspace/device", "/proc/self/status"] {
        let read = sandbox.read_file(path, 1000).await;
        assert!(matches!(read, Err(SandboxError::NotAFile { .. })), "{path}: {read:?}");
    }
    for path in ["/proc/self/environ", "/proc/self/mem", "/proc/1/maps"] {
        assert!(sandbox.read_file(path, 1 << 20).await.is_err(), "{path} shows the runner");
    }
    for path in ["/workspace/fifo", "/workspace/folder"] {
        let written = sandbox.write_file(path, b"x", None).await;
        assert!(matches!(written, Err(SandboxError::NotAFile { .. })), "{path}: {written:?}");
    }
    let stat = sandbox.stat("/workspace/fifo").await.expect("looked at");
    assert_eq!(stat.map(|stat| stat.kind), Some(FileKind::Special));
}

#[tokio::test]
async fn absent_large_and_forbidden_files_are_told_apart() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    run(&sandbox, "head -c 1001 /dev/zero > large; echo x > closed; chmod 0 closed").await;

    let absent = sandbox.read_file("/workspace/absent", 1000).await;
    let large = sandbox.read_file("/workspace/large", 1000).await;
    let closed = sandbox.read_file("/workspace/closed", 1000).await;
    let relative = sandbox.read_file("large", 1000).await;
    let forbidden = sandbox.write_file("/etc/new", b"x", None).await;

    assert!(matches!(absent, Err(SandboxError::NotFound { .. })), "{absent:?}");
    assert!(matches!(large, Err(SandboxError::TooLarge { size_bytes: 1001, max_bytes: 1000, .. })), "{large:?}");
    assert!(matches!(closed, Err(SandboxError::Inside { .. })), "{closed:?}");
    assert!(matches!(relative, Err(SandboxError::Invalid(_))), "{relative:?}");
    assert!(matches!(forbidden, Err(SandboxError::Inside { .. })), "{forbidden:?}");
    assert_eq!(sandbox.stat("/workspace/absent/below").await.expect("looked at"), None);
}

#[tokio::test]
async fn links_lead_nowhere_but_inside() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    std::fs::write(world.folder.path().join("sandboxes/canary"), "host").expect("written");
    symlink("/etc/shadow", world.folder.path().join("sandboxes/link")).expect("linked");
    let canary = world.folder.path().join("sandboxes/canary").display().to_string();
    run(&sandbox, &format!("ln -s {canary} canary; ln -s /etc/shadow shadow; ln -s /proc/1/root/etc/shadow around"))
        .await;

    for path in ["/workspace/canary", "/workspace/shadow", "/workspace/around", &canary] {
        let read = sandbox.read_file(path, 1 << 20).await;
        assert!(!matches!(&read, Ok(bytes) if !bytes.is_empty()), "{path}: {read:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_no_end() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    // Shared memory is the one place with a size of its own: 256 MiB.
    run(&sandbox, "head -c 268435456 /dev/zero > /dev/shm/full").await;
    let written = sandbox.write_file("/dev/shm/new", &[0; 100_000], None).await;

    assert!(matches!(written, Err(SandboxError::Inside { .. })), "{written:?}");
    assert_eq!(said(&sandbox, "ls -A /dev/shm").await, "full");
}
