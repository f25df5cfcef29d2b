//! Kept layers: what is launched on one finds everything as it was left, and none goes while it is used.

mod world;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use carrel_domain::SandboxId;
use carrel_runner::pidfd::Pidfd;
use carrel_sandbox::{FolderIds, LayerName, Removed, Root, Sandbox, SandboxError, SandboxSpec, Sandboxes};
use nix::unistd::geteuid;
use world::{World, as_ordinary_user, new_id, open, record, run, said, script};

/// Everything in the workspace: kind, rights, owner, times, size, names, target, attributes, content, number. Folders'
/// sizes and counts are the file system's own business.
const LOOK: &str = r#"
cd /workspace && python3 - <<'END'
import hashlib, os, stat
for folder, folders, files in sorted(os.walk(".")):
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        s = os.lstat(path)
        line = [path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns]
        if stat.S_ISREG(s.st_mode):
            line += [s.st_size, s.st_nlink, hashlib.sha256(open(path, "rb").read()).hexdigest()]
        if stat.S_ISLNK(s.st_mode):
            line += [os.readlink(path)]
        else:
            line += [(a, os.getxattr(path, a)) for a in sorted(os.listxattr(path))]
        print(*line)
END"#;

/// Inode number and change time of everything in the workspace.
const NUMBERS: &str = r"cd /workspace && find . -mindepth 1 -printf '%p %i %C@\n' | sort";

/// How many files git's index knows under another number, time or size than the file has; and how many it knows.
const STALE: &str = r#"
cd /workspace/repository && python3 - <<'END'
import os, re, subprocess
entries = subprocess.run(["git", "ls-files", "--debug"], capture_output=True, text=True, check=True).stdout
pattern = r"(.+)\n  ctime: (\d+):(\d+)\n  mtime: (\d+):(\d+)\n  dev: \d+\tino: (\d+)\n  uid: (\d+)\tgid: (\d+)\n  size: (\d+)\t.*\n"
found, stale = 0, 0
for path, cs, cn, ms, mn, ino, uid, gid, size in re.findall(pattern, entries):
    s = os.lstat(path)
    is_same = (int(cs) * 10**9 + int(cn), int(ms) * 10**9 + int(mn), int(ino), int(uid), int(gid), int(size)) == (
        s.st_ctime_ns, s.st_mtime_ns, s.st_ino & 0xffffffff, s.st_uid, s.st_gid, s.st_size)
    found, stale = found + 1, stale + (not is_same)
print(stale, "of", found)
END"#;

fn name(text: &str) -> LayerName {
    text.parse().expect("a name")
}

fn names(texts: &[&str]) -> Vec<LayerName> {
    texts.iter().map(|text| name(text)).collect()
}

impl World {
    async fn on(&self, layers: &[&str]) -> Sandbox {
        let spec = SandboxSpec { layers: names(layers), ..SandboxSpec::new(new_id()) };
        self.sandboxes.launch(spec).await.expect("a sandbox is launched")
    }

    async fn keep(&self, sandbox: Sandbox, as_name: &str) {
        self.sandboxes.keep(sandbox.id(), &name(as_name)).await.expect("it is kept");
    }

    fn folder_of(&self, id: SandboxId) -> PathBuf {
        self.folder.path().join("sandboxes").join(id.to_string())
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.folder.path().join("sandboxes/layers").join(name)
    }

    /// Takes a layer over from another machine, as a file.
    async fn bring(&self, from: &Self, layer: &str, over: &[&str]) {
        let packed = from.sandboxes.pack_layer(&name(layer)).await.expect("packed");
        self.sandboxes.unpack_layer(&name(layer), names(over), packed.file()).await.expect("unpacked");
    }

    async fn on_disk(&self, layer: &str) {
        let is_on_disk = async {
            while !self
                .sandboxes
                .layers()
                .await
                .expect("listed")
                .iter()
                .any(|known| known.name.as_str() == layer && known.is_on_disk)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), is_on_disk).await.expect("it comes to the disk");
    }
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    as_ordinary_user();
}

#[tokio::test]
async fn what_is_launched_on_a_layer_finds_everything_as_it_was_left() {
    let world = World::new().await;
    let first = world.sandbox().await;
    let made = run(
        &first,
        "cd /workspace && mkdir -p a/b/c empty && echo one > a/one && echo two > a/b/two && ln a/one a/b/twin \
         && ln -s ../one a/b/link && ln -s /nowhere dangling && mkfifo fifo && echo x > x && chmod 4751 x && chmod 1770 empty \
         && python3 -c 'import os; os.setxattr(\"a/one\", \"user.note\", b\"kept\")' && touch -d 2001-02-03 a/b \
         && head -c 3000000 /dev/urandom > big && rm -rf a/b/c && : > $'odd\\nname' && echo h > ~/.hidden && echo t > /tmp/t",
    )
    .await;
    assert!(made.status.is_success(), "{}", String::from_utf8_lossy(&made.output));
    let (look, numbers) = (said(&first, LOOK).await, said(&first, NUMBERS).await);
    world.keep(first, "first").await;

    let second = world.on(&["first"]).await;

    assert_eq!(said(&second, LOOK).await, look);
    assert_eq!(said(&second, NUMBERS).await, numbers);
    assert_eq!(said(&second, "cat ~/.hidden /tmp/t; stat -c %a /tmp /workspace ~").await, "h\nt\n1777\n755\n755");
    assert_eq!(said(&second, "echo more >> /workspace/a/one; cat /workspace/a/one | xargs").await, "one more");
}

#[tokio::test]
async fn a_layer_uncovers_nothing_of_the_host() {
    let world = World::new().await;
    let (plain, first) = (world.sandbox().await, world.sandbox().await);
    world.keep(first, "empty").await;
    let on_layer = world.on(&["empty"]).await;
    let data = world.folder.path().display().to_string();

    let look = format!(
        "ls -A / /home /root /run /tmp /var/log /etc/ssh /opt {data} 2>&1; cat /etc/shadow /etc/machine-id /etc/resolv.conf 2>&1; \
         cut -d: -f1 /etc/passwd; stat -c '%n %a %u' / /etc /usr /usr/bin/env /tmp /workspace; touch /usr/x /etc/x /x 2>&1; \
         awk '{{print $2, $3}}' /proc/self/mounts | grep -v '^/\\(workspace\\|home/carrel\\|tmp\\|var\\) ' | sort"
    );
    assert_eq!(said(&on_layer, &look).await, said(&plain, &look).await);
}

#[tokio::test]
async fn what_was_removed_renamed_or_replaced_over_a_layer_stays_so_in_the_next() {
    let world = World::new().await;
    let first = world.sandbox().await;
    run(
        &first,
        "cd /workspace && mkdir -p gone/deep again/old moved/in file-then && touch gone/deep/f again/old/f moved/in/f \
         file-then/f f1 f2 f3 && echo long > f4",
    )
    .await;
    world.keep(first, "first").await;
    let second = world.on(&["first"]).await;
    let changed = run(
        &second,
        "cd /workspace && rm -r gone f1 && rm -r again && mkdir again && touch again/new && mv moved elsewhere \
         && rm -r file-then && echo now > file-then && rm f2 && mkdir f2 && touch f2/in && ln -sf f4 f3 && chmod 600 f4 \
         && ln f4 f5",
    )
    .await;
    assert!(changed.status.is_success(), "{}", String::from_utf8_lossy(&changed.output));
    let look = said(&second, LOOK).await;
    world.keep(second, "second").await;

    let third = world.on(&["second", "first"]).await;
    assert_eq!(said(&third, LOOK).await, look);
    run(&third, "cd /workspace && rm -r again elsewhere f2 && mkdir gone && touch gone/anew && mv f4 f6").await;
    let look = said(&third, LOOK).await;
    world.keep(third, "third").await;
    let fourth = world.on(&["third", "second", "first"]).await;

    assert_eq!(said(&fourth, LOOK).await, look);
    assert_eq!(said(&fourth, "cd /workspace && ls | xargs; ls gone").await, "f3 f5 f6 file-then gone\nanew");
    let over: Vec<_> = world.sandboxes.layers().await.expect("listed").into_iter().map(|layer| layer.over).collect();
    assert_eq!(over, [names(&[]), names(&["first"]), names(&["second", "first"])]);
    let elsewhere = World::new().await;
    elsewhere.bring(&world, "first", &[]).await;
    elsewhere.bring(&world, "second", &["first"]).await;
    elsewhere.bring(&world, "third", &["second", "first"]).await;
    let there = elsewhere.on(&["third", "second", "first"]).await;
    assert_eq!(said(&there, LOOK).await, look, "and on another machine");
    assert_eq!(elsewhere.sandboxes.layers().await.expect("listed")[1].over, names(&["first"]));
}

#[tokio::test]
async fn a_layer_that_goes_or_is_broken_is_neither_packed_nor_unpacked_and_leaves_nothing() {
    let world = World::new().await;
    let file = world.folder.path().join("packed");
    fs::write(&file, "no layer").expect("written");
    let first = world.sandbox().await;
    world.keep(first, "first").await;

    let absent = world.sandboxes.pack_layer(&name("absent")).await;
    let broken = world.sandboxes.unpack_layer(&name("broken"), Vec::new(), &file).await;
    let packed = world.sandboxes.pack_layer(&name("first")).await.expect("packed");
    let taken = world.sandboxes.unpack_layer(&name("first"), Vec::new(), packed.file()).await;
    drop(packed);
    assert!(matches!(absent, Err(SandboxError::NoSuchLayer(_))), "{absent:?}");
    assert!(matches!(broken, Err(SandboxError::Host { .. })), "{broken:?}");
    assert!(matches!(taken, Err(SandboxError::LayerExists(_))), "{taken:?}");
    let left: Vec<_> = world.sandboxes.layers().await.expect("listed").into_iter().map(|layer| layer.name).collect();
    assert_eq!(left, names(&["first"]));
    let mut beside = fs::read_dir(world.folder.path().join("sandboxes")).expect("listed").flatten();
    assert!(!beside.any(|entry| entry.file_name().to_string_lossy().starts_with(".making")));
}

#[tokio::test]
async fn gits_index_stays_valid_on_a_layer_and_on_a_layer_on_that() {
    let world = World::new().await;
    let first = world.sandbox().await;
    let made = run(
        &first,
        "git init -q -b main /workspace/repository && cd /workspace/repository && git config user.name t && git config user.email t@t \
         && for i in $(seq 100); do mkdir -p d$((i % 7)) && echo $i > d$((i % 7))/f$i; done && git add -A && git commit -qm one \
         && git update-index --refresh",
    )
    .await;
    assert!(made.status.is_success(), "{}", String::from_utf8_lossy(&made.output));
    assert_eq!(said(&first, STALE).await, "0 of 100");
    world.keep(first, "first").await;

    let second = world.on(&["first"]).await;
    assert_eq!(said(&second, STALE).await, "0 of 100");
    // As git and most programs do, by new files in place of old ones.
    let changed = run(
        &second,
        "cd /workspace/repository && git checkout -qb other && for i in 1 2 3; do f=$(echo d*/f$i); echo new > n && mv n $f; done \
         && echo more > added && git rm -q d*/f9 && git add -A && git commit -qm two && git checkout -q main \
         && git checkout -q other && git update-index --refresh",
    )
    .await;
    assert!(changed.status.is_success(), "{}", String::from_utf8_lossy(&changed.output));
    world.keep(second, "second").await;

    let third = world.on(&["second", "first"]).await;
    assert_eq!(said(&third, STALE).await, "0 of 100");
    assert_eq!(
        said(&third, "cd /workspace/repository && git status --porcelain && git diff HEAD~1 --stat | tail -n 1").await,
        " 5 files changed, 4 insertions(+), 4 deletions(-)"
    );
}

#[tokio::test]
async fn a_sandbox_stands_on_sixty_layers_and_not_on_more_than_a_hundred() {
    let world = World::new().await;
    let mut layers: Vec<String> = Vec::new();
    for number in 0..60 {
        let below: Vec<&str> = layers.iter().rev().map(String::as_str).collect();
        let sandbox = world.on(&below).await;
        run(&sandbox, &format!("cd /workspace && echo {number} > f{number} && rm -f f{}", number - 2)).await;
        let name = format!("layer-{number}");
        world.keep(sandbox, &name).await;
        layers.push(name);
    }
    let below: Vec<&str> = layers.iter().rev().map(String::as_str).collect();

    let top = world.on(&below).await;
    let many = SandboxSpec { layers: names(&[&below[..], &below[..]].concat()), ..SandboxSpec::new(new_id()) };
    let refused = world.sandboxes.launch(many).await;

    assert_eq!(said(&top, "cd /workspace && cat f* | xargs").await, "58 59");
    let Err(SandboxError::Launch(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("120 kept layers are more than the 100"), "{reason}");
}

#[tokio::test]
async fn a_kept_sandbox_is_gone_and_its_name_is_taken() {
    let world = World::new().await;
    let (sandbox, other) = (world.sandbox().await, world.sandbox().await);
    let (id, folder) = (sandbox.id(), world.folder_of(sandbox.id()));
    let runner = record(&folder).expect("written down");

    world.keep(sandbox, "kept").await;

    assert!(!folder.exists());
    let lives = Pidfd::open(runner).expect("looked for").is_some();
    assert!(!lives || fs::read_to_string(format!("/proc/{}/stat", runner.pid)).is_ok_and(|stat| stat.contains(") Z ")));
    let gone = world.sandboxes.keep(id, &name("again")).await;
    assert!(matches!(gone, Err(SandboxError::Gone(_))), "{gone:?}");
    let taken = world.sandboxes.keep(other.id(), &name("kept")).await;
    assert!(matches!(taken, Err(SandboxError::LayerExists(_))), "{taken:?}");
    assert_eq!(world.sandboxes.list().await.expect("listed"), [other.id()]);
    let left: Vec<String> = fs::read_dir(world.layer("kept"))
        .expect("there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with("layer.json"))
        .collect();
    assert_eq!(left, ["upper"]);
}

#[tokio::test]
async fn a_layer_stays_while_a_sandbox_stands_on_it_whether_its_runner_lives_or_not() {
    let world = World::new().await;
    let first = world.sandbox().await;
    world.keep(first, "used").await;
    let user = world.on(&["used"]).await;
    assert_eq!(world.sandboxes.remove_layer(&name("used")).await.expect("asked"), Removed::InUse);

    let runner = record(&world.folder_of(user.id())).expect("written down");
    Pidfd::open(runner).expect("looked for").expect("it lives").kill().expect("killed");
    assert_eq!(world.sandboxes.remove_layer(&name("used")).await.expect("asked"), Removed::InUse);
    let later = open(world.folder.path()).await;
    assert_eq!(later.remove_layer(&name("used")).await.expect("asked"), Removed::InUse);
    world.sandboxes.destroy(user.id()).await.expect("destroyed");

    assert_eq!(world.sandboxes.remove_layer(&name("used")).await.expect("asked"), Removed::Removed);
    assert_eq!(world.sandboxes.remove_layer(&name("used")).await.expect("asked"), Removed::Absent);
    let spec = SandboxSpec { layers: names(&["used"]), ..SandboxSpec::new(new_id()) };
    let refused = world.sandboxes.launch(spec).await;
    assert!(matches!(refused, Err(SandboxError::NoSuchLayer(_))), "{refused:?}");
    assert_eq!(world.sandboxes.list().await.expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn launching_on_a_layer_and_removing_it_never_both_succeed() {
    let world = World::new().await;
    for round in 0..20 {
        let kept = name(&format!("layer-{round}"));
        let sandbox = world.sandbox().await;
        world.sandboxes.keep(sandbox.id(), &kept).await.expect("kept");
        let (one, other, layer) = (world.sandboxes.clone(), world.sandboxes.clone(), kept.clone());

        let spec = SandboxSpec { layers: vec![kept.clone()], ..SandboxSpec::new(new_id()) };
        let launch = tokio::spawn(async move { one.launch(spec).await });
        let remove = tokio::spawn(async move { other.remove_layer(&layer).await });
        let (launched, removed) = (launch.await.expect("ends"), remove.await.expect("ends").expect("asked"));

        match removed {
            Removed::Removed => assert!(matches!(launched, Err(SandboxError::NoSuchLayer(_))), "{launched:?}"),
            Removed::InUse => assert_eq!(said(&launched.expect("launched"), "echo up").await, "up"),
            Removed::Absent => panic!("it was there"),
        }
    }
}

#[tokio::test]
async fn a_layer_that_was_not_on_disk_when_the_machine_stopped_is_removed() {
    let world = World::new().await;
    for layer in ["lost", "saved", "young", "torn"] {
        let sandbox = world.sandbox().await;
        world.keep(sandbox, layer).await;
        world.on_disk(layer).await;
    }
    let edit = |layer: &str, from: &str, to: &str| {
        let file = world.layer(layer).join("layer.json");
        let text = fs::read_to_string(&file).expect("there");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("written");
    };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("there");
    for layer in ["lost", "saved"] {
        edit(layer, boot.trim(), "00000000-0000-0000-0000-000000000000");
    }
    for layer in ["lost", "young"] {
        edit(layer, r#""synced":true"#, r#""synced":false"#);
    }
    fs::write(world.layer("torn").join("layer.json"), "").expect("written");

    let later = open(world.folder.path()).await;

    let left: Vec<String> =
        later.layers().await.expect("listed").into_iter().map(|layer| layer.name.to_string()).collect();
    assert_eq!(left, ["saved", "young"]);
    world.on_disk("young").await;
}

#[tokio::test]
async fn a_sandbox_of_an_earlier_run_of_the_machine_is_not_kept_until_it_was_launched_again() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    run(&sandbox, "echo left > /workspace/left").await;
    let id = sandbox.id();
    let file = world.folder_of(id).join("sandbox.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("there");
    let text = fs::read_to_string(&file).expect("there").replace(boot.trim(), "another");
    fs::write(&file, text).expect("written");

    let kept = world.sandboxes.keep(id, &name("kept")).await;
    let (was_whole, has_files) = (world.sandboxes.is_whole(id), world.sandboxes.has_files(id));
    let restarted = world.sandboxes.restart(SandboxSpec::new(id)).await.expect("launched on its files");
    let left = said(&restarted, "cat /workspace/left").await;

    assert_eq!((was_whole, has_files, left.as_str()), (false, true, "left"));
    assert!(world.sandboxes.is_whole(id), "from now on");
    world.sandboxes.keep(id, &name("later")).await.expect("kept");
    assert!(!world.sandboxes.has_files(id));
    assert!(matches!(kept, Err(SandboxError::Gone(_))), "{kept:?}");
}

#[tokio::test]
async fn a_restarted_sandbox_has_its_files_and_nothing_of_its_memory() {
    let world = World::new().await;
    let first = world.sandbox().await;
    run(&first, "echo below > /workspace/below").await;
    world.keep(first, "below").await;
    let sandbox = world.on(&["below"]).await;
    let id = sandbox.id();
    run(
        &sandbox,
        "echo kept > /workspace/kept; rm /workspace/below; echo secret > /dev/shm/secret; setsid -f sleep 1000",
    )
    .await;
    let spec = SandboxSpec {
        layers: names(&["below"]),
        environment: vec![("PHASE".to_owned(), "second".to_owned())],
        ..SandboxSpec::new(id)
    };
    let root = Root::Folder { path: "/".into(), ids: FolderIds::Plain };
    for wrong in [SandboxSpec::new(id), SandboxSpec { root, ..spec.clone() }] {
        let refused = world.sandboxes.restart(wrong).await;
        assert!(matches!(refused, Err(SandboxError::Invalid(_))), "{refused:?}");
    }
    let runner = record(&world.folder_of(id)).expect("written down");

    let again = world.sandboxes.restart(spec).await.expect("restarted");

    assert_ne!(record(&world.folder_of(id)), Some(runner));
    assert_eq!(said(&again, "ls /workspace; ls -A /dev/shm; pgrep -c sleep; echo $PHASE").await, "kept\n0\nsecond");
    assert!(matches!(sandbox.stat("/").await, Err(SandboxError::Disconnected)));
    assert_eq!(said(&world.sandboxes.attach(id).await.expect("there"), "cat /workspace/kept").await, "kept");
    world.keep(again, "kept").await;
    assert_eq!(said(&world.on(&["kept", "below"]).await, "ls /workspace").await, "kept");
    let absent = world.sandboxes.restart(SandboxSpec::new(new_id())).await;
    assert!(matches!(absent, Err(SandboxError::Gone(_))), "{absent:?}");
}

#[tokio::test]
async fn links_that_a_sandbox_leaves_do_not_lead_its_restart_or_the_next_out() {
    let world = World::new().await;
    let victim = world.folder.path().join("victim");
    fs::create_dir(&victim).expect("made");
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o700)).expect("closed");
    let id = world.sandbox().await.id();
    // As the sandbox itself could have made it, in whichever of its folders.
    for folder in ["var", "var/tmp", "tmp", "workspace", "home/carrel"] {
        let place = world.folder_of(id).join("upper").join(folder);
        if fs::symlink_metadata(&place).is_ok_and(|data| data.is_dir()) && folder.contains('/') {
            fs::remove_dir_all(&place).expect("removed");
            symlink(&victim, &place).expect("linked");
        }
    }

    let _whether_it_comes_up = world.sandboxes.restart(SandboxSpec::new(id)).await;

    // A layer of another kind of root may have a link where this one has a folder.
    let sandbox = world.sandbox().await;
    world.keep(sandbox, "linked").await;
    let place = world.layer("linked").join("upper/workspace");
    let _not_there_as_root = fs::remove_dir_all(&place);
    symlink(&victim, &place).expect("linked");
    let spec = SandboxSpec { layers: names(&["linked"]), ..SandboxSpec::new(new_id()) };
    if let Ok(sandbox) = world.sandboxes.launch(spec).await {
        let _whether_it_runs = sandbox.run(script("echo x > /workspace/x").directory("/")).await;
    }

    assert_eq!(fs::metadata(&victim).expect("there").permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_dir(&victim).expect("there").count(), 0);
}

#[tokio::test]
async fn a_layer_too_deep_to_be_looked_through_is_an_error_and_can_be_removed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    run(&sandbox, "cd /workspace && for i in $(seq 200); do mkdir d && cd d; done").await;
    world.keep(sandbox, "deep").await;

    let searched = world.sandboxes.find_in_layer(&name("deep"), vec![b"treasure".to_vec()]).await;
    let measured = world.sandboxes.layer_size(&name("deep")).await;
    let removed = world.sandboxes.remove_layer(&name("deep")).await;

    assert!(matches!(searched, Err(SandboxError::Host { .. })), "{searched:?}");
    assert!(matches!(measured, Err(SandboxError::Host { .. })), "{measured:?}");
    assert_eq!(removed.expect("asked"), Removed::Removed);
}

#[tokio::test]
async fn the_size_of_a_layer_is_what_it_takes_on_the_disk() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    run(
        &sandbox,
        "cd /workspace && head -c 5000000 /dev/urandom > big && ln big twin && truncate -s 1G sparse && sync big",
    )
    .await;
    world.keep(sandbox, "kept").await;
    world.on_disk("kept").await;
    assert_eq!(world.sandboxes.layers().await.expect("listed")[0].size_bytes, None);

    let size = world.sandboxes.layer_size(&name("kept")).await.expect("measured");

    assert!((5_000_000..6_000_000).contains(&size), "{size}");
    let later: Sandboxes = open(world.folder.path()).await;
    assert_eq!(later.layers().await.expect("listed")[0].size_bytes, Some(size));
    assert!(geteuid().is_root() || size > 0);
}
