//! Files that a sandbox deleted and holds count as those it shows do, however it holds them; and nobody else's do. Needs
//! `python3`.

mod world;

use std::time::Duration;

use carrel_domain::ResourceLimits;
use carrel_sandbox::{ExitStatus, LimitCounters, Sandbox, SandboxSpec};
use world::{World, as_ordinary_user, new_id, run, script};

const MIB: u64 = 1 << 20;

/// Takes 30 MiB again and again, in files that nobody sees, and holds all of them.
const FILL: &str = r#"
import ctypes, mmap, os, threading, time
held, size, libc = [], 30 << 20, ctypes.CDLL(None)
def deleted():
    file = os.open("file", os.O_RDWR | os.O_CREAT)
    os.unlink("file")
    return file
def by_descriptor():
    os.write(deleted(), b"x" * size)
def by_mapping():
    file = deleted()
    os.ftruncate(file, size)
    held.append(mmap.mmap(file, size))
    # The map has one of its own as well.
    os.closerange(3, 256)
    held[-1][:] = b"x" * size
def by_thread():
    def hold():
        # From here on this thread has a table of its own.
        CLOSE_RANGE_UNSHARE = 2
        assert libc.close_range(1000, 1000, CLOSE_RANGE_UNSHARE) == 0
        by_descriptor()
        time.sleep(100)
    threading.Thread(target=hold, daemon=True).start()
def fill(hold):
    for _ in range(20):
        hold()
        time.sleep(0.4)
PR_SET_DUMPABLE = 4
"#;

impl World {
    async fn limited(&self, disk_bytes: Option<u64>) -> Sandbox {
        let limits = ResourceLimits { disk_bytes, ..ResourceLimits::default() };
        let spec = SandboxSpec { limits, ..SandboxSpec::new(new_id()) };
        self.sandboxes.launch(spec).await.expect("a sandbox is launched")
    }

    async fn hits(&self, sandbox: &Sandbox) -> LimitCounters {
        self.sandboxes.limit_hits(sandbox.id()).await.expect("its counters are there")
    }
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    as_ordinary_user();
}

#[tokio::test]
async fn deleted_files_count_however_they_are_held() {
    for hold in [
        "fill(by_descriptor)",
        "fill(by_mapping)",
        "fill(by_thread)",
        "libc.prctl(PR_SET_DUMPABLE, 0); fill(by_descriptor)",
    ] {
        let world = World::new().await;
        let filler = world.limited(Some(64 * MIB)).await;

        let text = format!("cd /workspace; exec python3 -c '{FILL}\n{hold}'");
        let finished = filler.run(script(&text).time_limit(Duration::from_secs(60))).await.expect("it runs");

        let hits = world.hits(&filler).await;
        assert_eq!(
            (finished.status, hits.disk_exceeded),
            (ExitStatus::Signalled(9), true),
            "{hold}: {hits:?} {}",
            finished.stderr
        );
    }
}

#[tokio::test]
async fn what_another_took_of_the_disk_is_not_charged_to_one_that_can_be_looked_at() {
    let world = World::new().await;
    let (calm, filler) = (world.limited(Some(24 * MIB)).await, world.limited(None).await);
    let mut command = calm.exec(script("echo up; sleep 1000 & wait")).await.expect("it starts");
    command.next().await.expect("it is up");

    // Twice: it may have been measured after the first, and is measured again once as much is lost again.
    run(&filler, "head -c 100M /dev/zero > file").await;
    run(&calm, "head -c 8M /dev/zero > file").await;
    run(&filler, "head -c 100M /dev/zero > other").await;

    let measured = async {
        loop {
            let hits = world.hits(&calm).await;
            if hits.disk_bytes.is_some_and(|bytes| bytes >= 8 * MIB) {
                return hits;
            }
            tokio::task::yield_now().await;
        }
    };
    // At the latest it is measured after a minute, where others free as much as these take.
    let hits = tokio::time::timeout(Duration::from_secs(90), measured).await.expect("it is measured");
    assert!(!hits.disk_exceeded && hits.disk_bytes < Some(16 * MIB), "{hits:?}");
}
