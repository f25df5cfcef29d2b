//! Sandboxes that take what they can get, next to one that must go on working. Each test fails when its limit is gone.
//!
//! Where this machine lets nobody limit a thing (an ordinary user without a cgroup of its own), the tests of it have
//! nothing to look at and end; what is missing there is told by the facts.

mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carrel_domain::ResourceLimits;
use carrel_runner::protocol::{LimitsRecord, RECORD_FILE};
use carrel_sandbox::{
    ExitStatus, FactState, LimitCounters, Limits, LocalOptions, ProcessEvent, Sandbox, SandboxSpec, Sandboxes,
    TerminalSize,
};
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::inotify;
use world::{World, as_ordinary_user, new_id, record, run, said, script};

const MIB: u64 = 1 << 20;

impl World {
    async fn limited(&self, limits: ResourceLimits) -> Sandbox {
        let spec = SandboxSpec { limits, ..SandboxSpec::new(new_id()) };
        self.sandboxes.launch(spec).await.expect("a sandbox is launched")
    }

    /// Whether this machine holds sandboxes to this limit.
    fn holds(&self, name: &str) -> bool {
        let facts = self.sandboxes.facts();
        let fact = facts.iter().find(|fact| fact.name == name).expect("it is a fact");
        fact.state == FactState::Ok
    }

    async fn hits(&self, sandbox: &Sandbox) -> LimitCounters {
        self.sandboxes.limit_hits(sandbox.id()).await.expect("its counters are there")
    }

    fn groups(&self, sandbox: &Sandbox) -> Vec<String> {
        let path = self.folder.path().join("sandboxes").join(sandbox.id().to_string()).join(RECORD_FILE);
        let record: LimitsRecord = serde_json::from_slice(&fs::read(path).expect("there")).expect("a record");
        record.groups
    }
}

/// A sandbox that works on while another misbehaves, one command after the other.
struct Bystander {
    is_over: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<Vec<Duration>>,
}

impl Bystander {
    async fn new(world: &World) -> Self {
        let (sandbox, is_over) = (world.sandbox().await, Arc::new(AtomicBool::new(false)));
        let over = Arc::clone(&is_over);
        let work = tokio::spawn(async move {
            let mut times = Vec::new();
            while times.is_empty() || !over.load(Ordering::Relaxed) {
                let started = Instant::now();
                assert_eq!(said(&sandbox, "mkdir -p a && echo $((6 * 7)) > a/file && cat a/file").await, "42");
                times.push(started.elapsed());
            }
            times
        });
        Self { is_over, work }
    }

    /// Ends its work; says how it went for whoever looks.
    #[expect(clippy::print_stderr, reason = "how long it took depends on the machine, and is no reason to fail")]
    async fn rest(self, beside: &str) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut times = self.work.await.expect("it was not disturbed");
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        eprintln!("bystander of {beside}: {} commands, median {:?}, worst {:?}", times.len(), at(50), at(100));
    }
}

fn limits() -> ResourceLimits {
    ResourceLimits::default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_hog_is_ended_and_its_runner_tells_of_it() {
    let world = World::new().await;
    let hog = world.limited(ResourceLimits { memory_bytes: Some(96 * MIB), ..limits() }).await;
    if !world.holds("limit of memory") {
        return;
    }
    let bystander = Bystander::new(&world).await;

    let finished = run(&hog, "exec perl -e '$_ = \"x\" x (1 << 29); print length'").await;

    assert_eq!(finished.status, ExitStatus::Signalled(9));
    assert_eq!(said(&hog, "echo alive").await, "alive");
    assert!(world.hits(&hog).await.oom_kills >= 1);
    bystander.rest("a memory hog").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hogs_at_once_do_not_take_the_runner_with_them() {
    let world = World::new().await;
    let hog = world.limited(ResourceLimits { memory_bytes: Some(96 * MIB), ..limits() }).await;
    if !world.holds("limit of memory") {
        return;
    }
    let bystander = Bystander::new(&world).await;

    run(&hog, "for i in $(seq 40); do perl -e '$_ = \"x\" x (1 << 23); sleep 1' & done; wait").await;

    assert_eq!(said(&hog, "echo alive").await, "alive");
    assert!(world.hits(&hog).await.oom_kills >= 1);
    bystander.rest("forty memory hogs").await;
}

#[tokio::test]
async fn shared_memory_ends_before_the_memory_of_the_sandbox_does() {
    let world = World::new().await;
    let sandbox = world.limited(ResourceLimits { memory_bytes: Some(96 * MIB), ..limits() }).await;

    let said_of = said(&sandbox, "head -c 200M /dev/zero > /dev/shm/file; stat -c %s /dev/shm/file").await;

    let size: u64 = said_of.lines().last().and_then(|line| line.parse().ok()).expect("a size");
    assert!(said_of.contains("No space left on device"), "{said_of}");
    assert!((40 * MIB..=48 * MIB).contains(&size), "{size}");
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
    assert_eq!(world.hits(&sandbox).await.oom_kills, 0);
}

#[tokio::test]
async fn segments_that_outlive_their_processes_leave_the_runner_its_memory() {
    let world = World::new().await;
    let sandbox = world.limited(ResourceLimits { memory_bytes: Some(96 * MIB), ..limits() }).await;
    if !world.holds("limit of memory") {
        return;
    }

    // Ten of 10 MiB each, filled and left behind.
    let fill = "perl -e 'for (1..10) { my $id = shmget(0, 10 << 20, 0600) // last; shmwrite($id, q(x) x (10 << 20), 0, 10 << 20); $n++ } print $n'";

    assert_eq!(said(&sandbox, fill).await, "2");
    assert_eq!(said(&sandbox, "echo alive").await, "alive");
    assert_eq!(world.hits(&sandbox).await.oom_kills, 0);
}

#[tokio::test]
async fn files_in_the_page_cache_give_way_and_nobody_is_ended_for_them() {
    let world = World::new().await;
    let sandbox = world.limited(ResourceLimits { memory_bytes: Some(64 * MIB), ..limits() }).await;

    let finished = run(&sandbox, "head -c 300M /dev/zero > file && cat file | wc -c").await;

    assert_eq!(String::from_utf8_lossy(&finished.output).trim(), (300 * MIB).to_string());
    assert_eq!(world.hits(&sandbox).await.oom_kills, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_fills_its_own_sandbox_only() {
    let world = World::new().await;
    let bomb = world.limited(ResourceLimits { processes: 100, ..limits() }).await;
    let bystander = Bystander::new(&world).await;

    let exploding = script("bomb() { bomb | bomb & }; bomb; sleep 100").time_limit(Duration::from_secs(2));
    let finished = bomb.run(exploding).await.expect("it runs");
    let count = said(&bomb, "ls /proc | grep -c '^[0-9]'").await;

    assert_eq!(finished.status, ExitStatus::TimedOut);
    assert!(count.parse::<u32>().is_ok_and(|count| count < 12), "{count} processes are left");
    if world.holds("limit of processes") {
        assert!(world.hits(&bomb).await.processes_refused > 0);
    }
    bystander.rest("a fork bomb").await;
}

/// Takes all there is to be had of something, says how many (`$count`), and holds them until it is ended.
fn hoard(take: &str) -> carrel_sandbox::Command {
    script(&format!("ulimit -n $(ulimit -Hn); exec perl -e '$| = 1; {take}; print $count + 0; sleep 1000'"))
}

#[tokio::test]
async fn who_takes_all_file_watchers_leaves_root_and_the_neighbours_theirs() {
    let world = World::new().await;
    // An ordinary user's sandboxes are that user, and share what it has.
    if !world.holds("user") {
        return;
    }
    let (hoarder, bystander) = (world.sandbox().await, world.sandbox().await);
    let watcher = "$inotify_init1 = `uname -m` =~ /^aarch64/ ? 26 : 294; sub watcher { syscall($inotify_init1, 0) }";

    let all = hoard(&format!("{watcher}; $count++ while watcher() >= 0"));
    let mut all = hoarder.exec(all).await.expect("it starts");
    let taken = all.next().await;

    let Some(ProcessEvent::Output(taken)) = taken else { panic!("{taken:?}") };
    assert!(String::from_utf8_lossy(&taken).parse::<u32>().is_ok_and(|count| count > 1), "{taken:?}");
    inotify::init(inotify::CreateFlags::CLOEXEC).expect("root has watchers left");
    let one = said(&bystander, &format!("perl -e '{watcher}; print watcher() >= 0 ? 1 : $!'")).await;
    assert_eq!(one, "1", "a neighbour has some left");
}

#[tokio::test]
async fn who_takes_all_terminals_gets_its_share_and_no_more() {
    let world = World::new().await;
    let (hoarder, bystander) = (world.sandbox().await, world.sandbox().await);

    let all = hoard("while (open my $terminal, \"+<\", \"/dev/ptmx\") { $count = push @all, $terminal }");
    let mut all = hoarder.exec(all).await.expect("it starts");

    assert_eq!(all.next().await, Some(ProcessEvent::Output("128".into())));
    let terminal = script("tty").terminal(TerminalSize { columns: 80, rows: 25 });
    let finished = bystander.run(terminal).await.expect("it runs");
    assert_eq!(String::from_utf8_lossy(&finished.output).trim(), "/dev/pts/0");
}

#[tokio::test]
async fn a_crowd_is_ended_and_the_other_commands_of_its_sandbox_go_on() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut other =
        sandbox.exec(script("mkfifo fifo; echo up; read line < fifo; echo $line")).await.expect("it starts");
    other.next().await.expect("it is up");
    let crowd = script("for i in $(seq 300); do sleep 1000 & done; echo up; wait");
    let mut crowd = sandbox.exec(crowd).await.expect("it starts");
    crowd.next().await.expect("it is up");

    crowd.kill().await.expect("it is ended");

    assert_eq!(said(&sandbox, "pgrep -c sleep").await, "0");
    let state = said(&sandbox, "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | grep -c '^T'").await;
    assert_eq!(state, "0", "nobody stays stopped");
    run(&sandbox, "echo on > fifo").await;
    assert_eq!(other.next().await, Some(ProcessEvent::Output("on\n".into())));
}

#[tokio::test]
async fn a_sandbox_has_as_many_processes_as_it_may_and_no_more() {
    let world = World::new().await;
    let sandbox = world.limited(ResourceLimits { processes: 40, ..limits() }).await;

    let children =
        "perl -e 'for (1..100) { $p = fork; last unless defined $p; unless ($p) { sleep 100; exit } $n++ } print $n'";
    let started: u64 = said(&sandbox, &format!("{children}; pkill sleep; pkill perl")).await.parse().expect("a number");

    // The runner, a supervisor, the shell and perl are there as well.
    assert!((30..=40).contains(&started), "{started}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burner_of_processor_time_gets_its_share_and_no_more() {
    let world = World::new().await;
    let burner = world.limited(ResourceLimits { cpu_millis: Some(200), ..limits() }).await;
    if !world.holds("limit of processor time") {
        return;
    }
    let bystander = Bystander::new(&world).await;

    let burn = "for i in 1 2 3 4; do (while :; do :; done) & done; sleep 2; kill %1 %2 %3 %4; wait 2>/dev/null; times";
    let started = Instant::now();
    let said_of = said(&burner, burn).await;
    let took = started.elapsed();

    let used = said_of.lines().last().and_then(|line| line.split(' ').next()).and_then(seconds).expect("seconds");
    assert!(used < 0.2 * took.as_secs_f64() + 0.3, "{used} s in {took:?}");
    assert!(world.hits(&burner).await.cpu_throttled_us > 0);
    bystander.rest("four burners").await;
}

/// `0m1.234s` as bash's `times` says it.
fn seconds(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.strip_suffix('s')?.parse::<f64>().ok()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_filler_is_ended_and_may_clean_up() {
    let world = World::new().await;
    let filler = world.limited(ResourceLimits { disk_bytes: Some(64 * MIB), ..limits() }).await;
    let bystander = Bystander::new(&world).await;

    let fill = script("i=0; while head -c 20M /dev/zero > file$i; do i=$((i + 1)); sleep 0.1; done")
        .time_limit(Duration::from_secs(60));
    let finished = filler.run(fill).await.expect("it runs");
    let hits = world.hits(&filler).await;
    let cleaned = said(&filler, "rm file*; ls").await;

    assert_eq!(finished.status, ExitStatus::Signalled(9));
    assert!(hits.disk_exceeded && hits.disk_bytes.is_some_and(|bytes| bytes > 64 * MIB), "{hits:?}");
    assert_eq!(cleaned, "");
    bystander.rest("a disk filler").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_ends_the_one_that_fills_it_and_no_other() {
    let Some(disk) = SmallDisk::new() else { return };
    let limits = Limits { free_disk_bytes: Some(120 * MIB), ..Limits::default() };
    let options = LocalOptions { limits, ..world::options(&disk.0) };
    let sandboxes = Sandboxes::open(options).await.expect("this machine lets sandboxes be made");
    let world = World { folder: world::folder(), sandboxes };
    let unlimited = ResourceLimits { disk_bytes: None, ..ResourceLimits::default() };
    let (filler, large) = (world.limited(unlimited).await, world.limited(unlimited).await);
    run(&large, "head -c 100M /dev/zero > before").await;
    let mut waiting = large.exec(script("echo up; read line < <(sleep 100)")).await.expect("it starts");
    waiting.next().await.expect("it is up");
    let bystander = Bystander::new(&world).await;

    let fill = script("while head -c 10M /dev/zero >> file; do sleep 0.1; done").time_limit(Duration::from_secs(60));
    let finished = filler.run(fill).await.expect("it runs");

    assert_eq!(finished.status, ExitStatus::Signalled(9));
    assert!(world.hits(&filler).await.disk_was_full);
    assert!(!world.hits(&large).await.disk_was_full);
    assert_eq!(said(&large, "pgrep -c sleep").await, "1");
    bystander.rest("one who fills the disk").await;
    for id in world.sandboxes.list().await.expect("listed") {
        world.sandboxes.destroy(id).await.expect("destroyed");
    }
}

/// A disk of 400 MiB, unmounted in the end. Only root can have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = world::folder().keep();
        let disk = Self(folder);
        nix::mount::mount(Some("disk"), &disk.0, Some("tmpfs"), MsFlags::empty(), Some("size=400m")).ok().map(|()| disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _never_mounted = nix::mount::umount2(&self.0, MntFlags::MNT_DETACH);
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_deleted_file_that_is_held_open_counts() {
    let world = World::new().await;
    let filler = world.limited(ResourceLimits { disk_bytes: Some(64 * MIB), ..limits() }).await;
    if world.groups(&filler).is_empty() {
        return;
    }

    let fill =
        script("exec 3>file 4>other; rm file other; head -c 50M /dev/zero >&3; head -c 50M /dev/zero >&4; sleep 100");
    let finished = filler.run(fill.time_limit(Duration::from_secs(90))).await.expect("it runs");

    assert_eq!(finished.status, ExitStatus::Signalled(9));
}

#[tokio::test]
async fn one_file_cannot_be_longer_than_all_may_be_together() {
    let world = World::new().await;
    let sandbox = world.limited(ResourceLimits { disk_bytes: Some(10 * MIB), ..limits() }).await;

    let finished = run(&sandbox, "truncate -s 11M sparse; stat -c %s sparse").await;

    assert_eq!(String::from_utf8_lossy(&finished.output).lines().last(), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_is_kept_in_part_and_drowns_nobody() {
    let world = World::new().await;
    let flood = world.limited(ResourceLimits { memory_bytes: Some(96 * MIB), ..limits() }).await;
    let bystander = Bystander::new(&world).await;

    let finished = run(&flood, "head -c 1G /dev/zero").await;

    assert_eq!(finished.status, ExitStatus::Exited(0));
    assert_eq!(finished.output.len() as u64 + finished.dropped_bytes, 1 << 30);
    assert!(finished.output.len() <= 1 << 20);
    bystander.rest("a flood of output").await;
}

#[tokio::test]
async fn everything_of_a_sandbox_is_in_its_group_and_sees_none_of_it() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let groups = world.groups(&sandbox);

    let inside = said(
        &sandbox,
        "cut -d: -f3 /proc/1/cgroup /proc/self/cgroup | sort -u; grep -c cgroup /proc/self/mounts; ls -A /sys",
    )
    .await;
    let _process = sandbox.exec(script("exec sleep 1000")).await.expect("it starts");
    let runner = record(&world.folder.path().join("sandboxes").join(sandbox.id().to_string())).expect("written down");

    assert_eq!(inside, "/\n0", "its own group is the top, none is mounted, and /sys is empty");
    for group in &groups {
        let processes = fs::read_to_string(Path::new(group).join("cgroup.procs")).expect("there");
        assert!(processes.lines().any(|pid| pid == runner.pid.to_string()), "{group}: {processes}");
        assert!(processes.lines().count() >= 3, "the runner, a supervisor and its command: {processes}");
    }
}

#[tokio::test]
async fn commands_go_before_the_runner_when_memory_runs_out_and_cannot_change_that_much() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let scores =
        said(&sandbox, "cat /proc/self/oom_score_adj /proc/1/oom_score_adj; echo -1000 > /proc/self/oom_score_adj")
            .await;

    let mut scores = scores.lines();
    assert_eq!((scores.next(), scores.next()), (Some("700"), Some("200")));
    assert!(scores.next().is_some_and(|refused| refused.contains("Permission denied")));
}

#[tokio::test]
async fn the_group_of_a_destroyed_sandbox_is_gone() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let groups = world.groups(&sandbox);
    let _process = sandbox.exec(script("exec sleep 1000")).await.expect("it starts");
    assert!(groups.iter().all(|group| Path::new(group).exists()), "{groups:?}");

    world.sandboxes.destroy(sandbox.id()).await.expect("destroyed");

    assert_eq!(groups.iter().filter(|group| Path::new(group).exists()).count(), 0, "{groups:?}");
}

#[tokio::test]
async fn each_fact_says_what_was_found_and_each_flaw_what_to_do() {
    let world = World::new().await;

    let facts = world.sandboxes.facts();

    for fact in &facts {
        assert!(!fact.words.is_empty(), "{fact:?}");
        assert_eq!(fact.advice.is_some(), fact.state != FactState::Ok, "{fact:?}");
    }
    let names: Vec<&str> = facts.iter().map(|fact| fact.name.as_str()).collect();
    for name in ["kernel", "user", "limit of memory", "landlock", "subordinate ids", "free disk"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[test]
fn what_can_be_limited_for_an_ordinary_user_is() {
    as_ordinary_user();
}
