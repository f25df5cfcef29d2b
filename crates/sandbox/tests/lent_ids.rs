//! Images in a service that is an ordinary user with subordinate ids: what they can do by them, and that the service
//! loses hold of nothing they gave away. Needs the packages `busybox-static` and `uidmap`.
//!
//! All of it is run by such a user; root starts it that way.

mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command as HostCommand;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carrel_domain::ResourceLimits;
use carrel_sandbox::{
    Command, FactState, FolderIds, LayerName, Limits, LocalOptions, Root, Sandbox, SandboxSpec, Sandboxes,
};
use world::{LENT_FROM, World, as_user_with_lent_ids, new_id, options};

/// Gives folders and files to others and closes them, as package managers and databases do.
const GIVE_AWAY: &str = "mkdir -p /data/deep && echo treasure > /data/deep/file && dd if=/dev/zero of=/data/large bs=1M count=8 2>&1 | tail -n 0 \
     && chown -R 1000:1000 /data && chmod 700 /data /data/deep && chmod 600 /data/large /data/deep/file";

#[test]
fn all_of_this_holds_where_there_are_lent_ids() {
    as_user_with_lent_ids();
}

/// A backend that has such ids; none where the tests run as somebody else.
async fn lent() -> Option<World> {
    if nix::unistd::geteuid().is_root() {
        return None;
    }
    let world = World::new().await;
    world.sandboxes.lent_ids().is_some().then_some(world)
}

fn spec(world: &World) -> SandboxSpec {
    let root = world.folder.path().join("image");
    for folder in ["bin", "etc", "root", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    if !root.join("bin/busybox").exists() {
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("the package `busybox-static` is installed");
        let applets = HostCommand::new("/bin/busybox").arg("--list").output().expect("it runs").stdout;
        for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("linked");
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\nlast:x:65534:65534::/:/bin/sh\n",
        )
        .expect("written");
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("written");
    }
    SandboxSpec { root: Root::Folder { path: root, ids: FolderIds::Shifted }, ..SandboxSpec::new(new_id()) }
}

async fn said(sandbox: &Sandbox, text: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("sh-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let finished = sandbox.run(Command::new(id, ["/bin/sh", "-c", text])).await.expect("the script runs");
    String::from_utf8_lossy(&finished.output).trim_end().to_owned()
}

/// Waits until nothing is left in the folder of sandboxes but what belongs there.
async fn is_swept(world: &World) {
    let (folder, until) = (world.folder.path().join("sandboxes/.trash"), Instant::now() + Duration::from_secs(30));
    while fs::read_dir(&folder).expect("there").count() > 0 {
        assert!(Instant::now() < until, "something is left in the trash");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_ids_are_said_to_be_used() {
    let Some(world) = lent().await else { return };

    let facts = world.sandboxes.facts();

    let fact = facts.iter().find(|fact| fact.name == "subordinate ids").expect("it is told");
    assert_eq!((fact.state, fact.advice.as_ref()), (FactState::Ok, None));
    assert_eq!(fact.words, format!("{LENT_FROM}..{}: used for images", LENT_FROM + 65_534));
}

#[tokio::test]
async fn root_inside_gives_files_away_and_becomes_other_users() {
    let Some(world) = lent().await else { return };
    let sandbox = world.sandboxes.launch(spec(&world)).await.expect("launched");

    assert_eq!(said(&sandbox, "touch /x && chown 65534:65535 /x && stat -c %u:%g /x").await, "65534:65535");
    assert_eq!(said(&sandbox, "chown 65536 /x 2>&1").await, "chown: /x: Invalid argument", "no id beyond its own");
    assert_eq!(
        said(&sandbox, "su user -c 'id -u; id -G; grep CapEff /proc/self/status; touch /no 2>&1'").await,
        "1000\n1000\nCapEff:\t0000000000000000\ntouch: /no: Permission denied"
    );
    assert_eq!(said(&sandbox, "id -G; cat /proc/self/setgroups").await, "0\nallow", "no group of the service's user");
    let on_disk = world.folder.path().join("sandboxes").join(sandbox.id().to_string()).join("upper/x");
    let owner = fs::symlink_metadata(on_disk).expect("there");
    assert_eq!((owner.uid(), owner.gid()), (LENT_FROM + 65_533, LENT_FROM + 65_534));
}

#[tokio::test]
async fn a_sandbox_on_the_hosts_root_has_none_of_them() {
    let Some(world) = lent().await else { return };
    let sandbox = world.sandbox().await;

    let maps = world::said(&sandbox, "cat /proc/self/uid_map /proc/self/gid_map | awk '{print $1, $3}'; id -G").await;

    assert_eq!(maps, "1000 1\n1000 1\n1000");
}

#[tokio::test]
async fn what_was_given_away_is_measured_searched_kept_found_again_and_removed() {
    let Some(world) = lent().await else { return };
    let kept: LayerName = "given".parse().expect("a name");
    let sandbox = world.sandboxes.launch(spec(&world)).await.expect("launched");
    assert_eq!(said(&sandbox, GIVE_AWAY).await, "");
    let id = sandbox.id();

    let needles = || vec![b"treasure".to_vec()];
    let in_sandbox = world.sandboxes.find_in_sandbox(id, needles()).await.expect("looked through");
    world.sandboxes.keep(id, &kept).await.expect("kept");
    let in_layer = world.sandboxes.find_in_layer(&kept, needles()).await.expect("looked through");
    let size = world.sandboxes.layer_size(&kept).await.expect("measured");
    let again = SandboxSpec { layers: vec![kept.clone()], ..spec(&world) };
    let next = again.id;
    let second = world.sandboxes.launch(again).await.expect("launched");
    let seen =
        said(&second, "stat -c %u:%a /data/deep/file; su user -c 'cat /data/deep/file'; rm -r /data/deep; chown 7 /")
            .await;
    drop(second);
    world.sandboxes.destroy(next).await.expect("destroyed");
    let brought: LayerName = "brought".parse().expect("a name");
    let packed = world.sandboxes.pack_layer(&kept).await.expect("packed");
    world.sandboxes.remove_layer(&kept).await.expect("removed");
    world.sandboxes.unpack_layer(&brought, Vec::new(), packed.file()).await.expect("unpacked");
    let on_it = SandboxSpec { layers: vec![brought.clone()], ..spec(&world) };
    let third = on_it.id;
    let seen_there = said(
        &world.sandboxes.launch(on_it).await.expect("launched"),
        "stat -c %u:%a /data/deep/file; su user -c 'cat /data/deep/file'",
    )
    .await;
    world.sandboxes.destroy(third).await.expect("destroyed");
    world.sandboxes.remove_layer(&brought).await.expect("removed");

    drop(packed);
    assert_eq!(seen_there, "1000:600\ntreasure");
    assert_eq!(in_sandbox.as_deref(), Some("/data/deep/file"));
    assert_eq!(in_layer.as_deref(), Some("/data/deep/file"));
    assert!(size >= 8 << 20, "{size}");
    assert_eq!(seen, "1000:600\ntreasure");
    is_swept(&world).await;
}

#[tokio::test]
async fn a_layer_whose_top_was_given_away_is_stood_on_and_restarted() {
    let Some(world) = lent().await else { return };
    let kept: LayerName = "top".parse().expect("a name");
    let first = world.sandboxes.launch(spec(&world)).await.expect("launched");
    assert_eq!(said(&first, "chown 1000:1000 / && chmod 700 / && echo hello > /hello").await, "");
    world.sandboxes.keep(first.id(), &kept).await.expect("kept");
    let on_it = SandboxSpec { layers: vec![kept], ..spec(&world) };
    let second = world.sandboxes.launch(on_it.clone()).await.expect("launched");
    assert_eq!(said(&second, "stat -c %u:%a /; cat /hello; echo more > /more").await, "1000:700\nhello");

    let restarted = world.sandboxes.restart(on_it).await.expect("restarted");

    assert_eq!(said(&restarted, "stat -c %u:%a /; cat /hello /more").await, "1000:700\nhello\nmore");
}

#[tokio::test]
async fn what_was_given_away_counts_for_the_limit_of_disk() {
    let Some(world) = lent().await else { return };
    let limits = ResourceLimits { disk_bytes: Some(4 << 20), ..ResourceLimits::default() };
    let sandbox = world.sandboxes.launch(SandboxSpec { limits, ..spec(&world) }).await.expect("launched");
    // Several files: a single one would be stopped by its own limit.
    let fill = "mkdir /data && chown 1000 /data && chmod 700 /data && for n in 1 2 3 4; do \
                su user -c \"dd if=/dev/zero of=/data/$n bs=1M count=2\" 2>&1 | tail -n 0; done; sync";
    said(&sandbox, fill).await;

    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let hits = world.sandboxes.limit_hits(sandbox.id()).await.expect("counted");
        if hits.disk_exceeded {
            assert!((8 << 20..9 << 20).contains(&hits.disk_bytes.expect("measured")), "{hits:?}");
            return;
        }
        assert!(Instant::now() < until, "{hits:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_limit_of_processes_holds_for_all_users_inside_together() {
    let Some(world) = lent().await else { return };
    let limits = ResourceLimits { processes: 40, ..ResourceLimits::default() };
    let sandbox = world.sandboxes.launch(SandboxSpec { limits, ..spec(&world) }).await.expect("launched");
    let many = "n=0; while [ $n -lt 30 ]; do sleep 1000 </dev/null >/dev/null 2>&1 & n=$((n+1)); done";
    let of = |name: &str| format!("su {name} -s /bin/sh -c '{many}' 2>/dev/null");

    // Counted by the shell itself: there is no room for one process more.
    let counted = said(&sandbox, &format!("{}; {}; set -- /proc/[0-9]*; echo $#", of("user"), of("last"))).await;

    let processes: u32 = counted.parse().expect("a number");
    assert!((31..=40).contains(&processes), "{processes}");
}

#[tokio::test]
async fn a_controller_that_begins_anew_removes_what_the_one_before_left() {
    let Some(world) = lent().await else { return };
    let sandbox = world.sandboxes.launch(spec(&world)).await.expect("launched");
    assert_eq!(said(&sandbox, GIVE_AWAY).await, "");
    let id = sandbox.id();
    drop(sandbox);

    let anew = Sandboxes::open(options(world.folder.path())).await.expect("opened");
    let attached = anew.attach(id).await.expect("its runner lives");
    assert_eq!(said(&attached, "su user -c 'cat /data/deep/file'").await, "treasure");
    anew.destroy(id).await.expect("destroyed");

    is_swept(&world).await;
    assert!(!exists(&world.folder.path().join("sandboxes").join(id.to_string())));
}

#[tokio::test]
async fn a_user_whose_helper_programs_fail_is_told_and_has_sandboxes_with_one_id() {
    if nix::unistd::geteuid().is_root() || lent().await.is_none() {
        return;
    }
    let folder = world::folder();
    // The launcher is in a user namespace of one id already, and the helpers cannot give it those of the machine.
    let launcher = carrel_sandbox::Launcher::beside_tests().expect("built");
    let within =
        ["--user", "--map-root-user"].map(str::to_owned).into_iter().chain([launcher.program.display().to_string()]);
    let launcher = carrel_sandbox::Launcher::new("/usr/bin/unshare", within);
    let opened = Sandboxes::open(LocalOptions { launcher, limits: Limits::default(), ..options(folder.path()) }).await;

    let sandboxes = opened.expect("sandboxes can be made all the same");
    let fact = sandboxes.facts().into_iter().find(|fact| fact.name == "subordinate ids").expect("it is told");
    assert_eq!(fact.state, FactState::Missing, "{fact:?}");
    assert!(sandboxes.lent_ids().is_none() && fact.advice.is_some());
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
