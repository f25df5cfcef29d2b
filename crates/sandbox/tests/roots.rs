//! Sandboxes whose root is a folder: what root inside can do, and what it cannot. Needs the package `busybox-static`.

mod world;

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command as HostCommand;
use std::sync::atomic::{AtomicU32, Ordering};

use carrel_sandbox::{Command, FolderIds, LayerName, Limits, ReadOnlyMount, Root, Sandbox, SandboxError, SandboxSpec};
use nix::unistd::geteuid;
use world::{World, as_ordinary_user, as_user_with_lent_ids, new_id, record};

/// What the capability sets of root inside are: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
const CAPABILITIES: &str = "00000000800405fb";

/// A root with busybox and three users; its files are of the kind `ids`.
fn root_folder(world: &World, ids: FolderIds) -> PathBuf {
    let root = world.folder.path().join("image");
    for folder in ["bin", "etc", "root", "home/user", "opt/tool", "usr/bin", "tmp"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("the package `busybox-static` is installed");
    let applets = HostCommand::new("/bin/busybox").arg("--list").output().expect("it runs").stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("linked");
    }
    let accounts =
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nlast:x:65534:65534::/:/bin/sh\n";
    for (path, content) in [
        ("etc/passwd", accounts),
        ("etc/group", "root:x:0:\nuser:x:1000:\n"),
        ("etc/hostname", "of-the-image\n"),
        ("opt/tool/private", "of root\n"),
        ("opt/tool/public", "of all\n"),
        ("home/user/note", "of the user\n"),
    ] {
        fs::write(root.join(path), content).expect("written");
    }
    fs::set_permissions(root.join("opt/tool/private"), fs::Permissions::from_mode(0o600)).expect("closed");
    if geteuid().is_root() {
        let first = match ids {
            FolderIds::Shifted => Limits::default().host_id,
            FolderIds::Plain => 0,
        };
        give(&root, first);
        for path in ["home/user", "home/user/note"] {
            lchown(root.join(path), Some(first + 1000), Some(first + 1000)).expect("given");
        }
    }
    root
}

fn give(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).expect("given");
    if fs::symlink_metadata(path).expect("there").is_dir() {
        for entry in fs::read_dir(path).expect("listed") {
            give(&entry.expect("listed").path(), id);
        }
    }
}

fn spec(path: PathBuf, ids: FolderIds) -> SandboxSpec {
    SandboxSpec { root: Root::Folder { path, ids }, ..SandboxSpec::new(new_id()) }
}

/// The kinds of folders that this user can use as a root.
fn kinds() -> Vec<FolderIds> {
    if geteuid().is_root() { vec![FolderIds::Shifted, FolderIds::Plain] } else { vec![FolderIds::Shifted] }
}

/// What a script of busybox's shell says, without the last newline.
async fn said(sandbox: &Sandbox, text: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("sh-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let finished = sandbox.run(Command::new(id, ["/bin/sh", "-c", text])).await.expect("the script runs");
    String::from_utf8_lossy(&finished.output).trim_end().to_owned()
}

#[test]
fn all_of_this_holds_for_an_ordinary_user() {
    as_ordinary_user();
}

#[test]
fn all_of_this_holds_for_an_ordinary_user_with_lent_ids() {
    as_user_with_lent_ids();
}

#[tokio::test]
async fn commands_are_root_at_home_on_a_root_that_is_theirs() {
    for ids in kinds() {
        let world = World::new().await;
        let root = root_folder(&world, ids);
        let sandbox = world.sandboxes.launch(spec(root.clone(), ids)).await.expect("launched");

        assert_eq!(said(&sandbox, "id -u; id -g; echo $HOME $USER $LOGNAME").await, "0\n0\n/root root root");
        assert_eq!(
            said(&sandbox, "stat -c '%U %a' / /bin /etc /opt/tool/private /workspace /root /tmp /run").await,
            "root 755\nroot 755\nroot 755\nroot 600\nroot 755\nroot 700\nroot 1777\nroot 755"
        );
        assert_eq!(
            said(&sandbox, "cat /opt/tool/private; cat /etc/hostname; hostname").await,
            "of root\ncarrel\ncarrel"
        );
        let made = "mkdir /new && echo more >> /opt/tool/public && mv /opt/tool /opt/moved && rm /bin/vi && ls -A /sys/ /new/ | grep -v : | xargs";
        let said = said(&sandbox, &format!("{made}; cat /opt/*/public")).await;
        // An ordinary user's kernel renames no folder of a lower layer; `mv` copies it.
        assert_eq!(said.trim_start(), "of all\nmore");
        assert_eq!(
            fs::read_to_string(root.join("opt/tool/public")).expect("there"),
            "of all\n",
            "the folder stays as it is"
        );
        assert!(fs::symlink_metadata(root.join("bin/vi")).is_ok() && !root.join("new").exists());
    }
}

#[tokio::test]
async fn the_images_own_variables_come_before_the_usual_ones_and_its_accounts_say_where_root_lives() {
    let world = World::new().await;
    let root = root_folder(&world, FolderIds::Shifted);
    let accounts = fs::read_to_string(root.join("etc/passwd")).expect("there").replace(":/root:", ":/opt/tool:");
    fs::write(root.join("etc/passwd"), accounts).expect("written");
    let environment = vec![("PATH".to_owned(), "/opt/bin:/bin".to_owned()), ("USER".to_owned(), "me".to_owned())];

    let sandbox =
        world.sandboxes.launch(SandboxSpec { environment, ..spec(root, FolderIds::Shifted) }).await.expect("launched");

    assert_eq!(said(&sandbox, "echo $PATH $USER $HOME").await, "/opt/bin:/bin me /opt/tool");
}

#[tokio::test]
async fn root_inside_gives_files_away_and_becomes_other_users() {
    if !geteuid().is_root() {
        return;
    }
    for ids in kinds() {
        let world = World::new().await;
        let sandbox = world.sandboxes.launch(spec(root_folder(&world, ids), ids)).await.expect("launched");

        assert_eq!(
            said(&sandbox, "stat -c %u:%g /home/user/note; cat /home/user/note").await,
            "1000:1000\nof the user"
        );
        assert_eq!(
            said(&sandbox, "touch /x && chown 65534:65535 /x && stat -c %u:%g /x && chmod 4755 /x && stat -c %a /x")
                .await,
            "65534:65535\n4755"
        );
        assert_eq!(
            said(&sandbox, "su user -c 'id -u; id -g; cat /opt/tool/private; echo y > ~/new; touch /no' 2>&1").await,
            "1000\n1000\ncat: can't open '/opt/tool/private': Permission denied\ntouch: /no: Permission denied"
        );
        assert_eq!(
            said(&sandbox, "stat -c %u /home/user/new; su user -c 'grep CapEff /proc/self/status'").await,
            "1000\nCapEff:\t0000000000000000"
        );
        assert_eq!(
            said(&sandbox, "su last -s /bin/sh -c 'kill -9 1 2>&1; kill -0 1 2>&1'")
                .await
                .matches("not permitted")
                .count(),
            2
        );
        assert_eq!(said(&sandbox, "chown 65536 /x 2>&1").await, "chown: /x: Invalid argument", "no id beyond its own");
    }
}

#[tokio::test]
async fn an_ordinary_users_root_inside_has_one_id_where_none_are_lent() {
    if geteuid().is_root() {
        return;
    }
    let world = World::new().await;
    if world.sandboxes.lent_ids().is_some() {
        return;
    }
    let sandbox = world
        .sandboxes
        .launch(spec(root_folder(&world, FolderIds::Shifted), FolderIds::Shifted))
        .await
        .expect("launched");

    assert_eq!(said(&sandbox, "cat /proc/self/uid_map /proc/self/gid_map | awk '{print $1, $3}'").await, "0 1\n0 1");
    assert_eq!(said(&sandbox, "touch /x; chown 1000 /x 2>&1").await, "chown: /x: Invalid argument");
}

#[tokio::test]
async fn root_inside_has_no_power_over_the_machine() {
    for ids in kinds() {
        let world = World::new().await;
        let sandbox = world.sandboxes.launch(spec(root_folder(&world, ids), ids)).await.expect("launched");

        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(
                said(&sandbox, &format!("awk '/{set}/ {{print $2}}' /proc/self/status")).await,
                CAPABILITIES,
                "{set}"
            );
            assert_eq!(
                said(&sandbox, &format!("awk '/{set}/ {{print $2}}' /proc/1/status")).await,
                CAPABILITIES,
                "{set} of the runner"
            );
        }
        assert_eq!(
            said(&sandbox, "awk '/CapInh|CapAmb|NoNewPrivs|Seccomp:/ {print $2}' /proc/self/status | xargs").await,
            "0000000000000000 0000000000000000 1 2"
        );
        for (attempt, refusal) in [
            ("mount -t tmpfs none /tmp", "permission denied (are you root?)"),
            ("mount --bind /bin /opt", "permission denied (are you root?)"),
            ("mount -o remount,rw /proc/sys", "permission denied (are you root?)"),
            ("umount /proc/sys", "Operation not permitted"),
            ("mknod /x b 254 0", "mknod: /x: "),
            ("mknod /x c 1 1; ls /x", "mknod: /x: "),
            ("unshare -U true", "Operation not permitted"),
            ("unshare -m true", "Operation not permitted"),
            ("hostname other", "Operation not permitted"),
            ("ip link set lo down", "Operation not permitted"),
            ("date -s 2001-01-01", "Operation not permitted"),
            ("echo 1 > /proc/sys/kernel/core_pattern", "Read-only file system"),
            ("echo 1 > /proc/sys/net/ipv4/ip_forward", "Read-only file system"),
            ("ping -c 1 127.0.0.1", "ermi"),
            ("chroot / true && echo chroot works", "chroot works"),
        ] {
            let said = said(&sandbox, &format!("{attempt} 2>&1")).await;
            assert!(said.contains(refusal), "{attempt}: {said}");
        }
        assert_eq!(said(&sandbox, "grep -vc nosuid /proc/self/mounts").await, "0");
    }
}

#[tokio::test]
async fn the_runner_is_closed_to_root_inside() {
    for ids in kinds() {
        let world = World::new().await;
        let sandbox = world.sandboxes.launch(spec(root_folder(&world, ids), ids)).await.expect("launched");

        for file in ["environ", "mem", "maps", "auxv", "syscall", "stack", "personality", "io"] {
            let said = said(&sandbox, &format!("head -c 1 /proc/1/{file} 2>&1")).await;
            assert!(
                said.contains("Permission denied") || said.contains("not permitted") || said.contains("No such file"),
                "{file}: {said}"
            );
        }
        for link in ["root", "cwd", "exe", "fd/3", "ns/mnt", "ns/user"] {
            let said = said(&sandbox, &format!("readlink /proc/1/{link} || ls /proc/1/{link}/ 2>&1")).await;
            assert!(said.contains("Permission denied") || said.contains("No such file"), "{link}: {said}");
        }
        let wrote = said(
            &sandbox,
            "echo 1000 > /proc/1/oom_score_adj 2>&1; echo x > /proc/1/comm 2>&1; echo 0 0 1 > /proc/1/uid_map 2>&1",
        )
        .await;
        assert_eq!(wrote.matches("ermi").count(), 3, "{wrote}");
        assert_eq!(said(&sandbox, "kill -9 1; kill -STOP 1; kill -TERM 1; kill -SEGV 1; echo alive").await, "alive");
        assert_eq!(said(&sandbox, "echo it still answers").await, "it still answers");
    }
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn the_runner_cannot_be_traced_by_root_inside_and_commands_can() {
    for ids in kinds() {
        let world = World::new().await;
        let root = root_folder(&world, ids);
        // The host's perl, to make the calls with.
        for name in ["lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name)).expect("linked");
        }
        let perl = ReadOnlyMount { source: "/usr".into(), target: "/usr".to_owned() };
        let sandbox =
            world.sandboxes.launch(SandboxSpec { mounts: vec![perl], ..spec(root, ids) }).await.expect("launched");
        let calls = [
            ("attaching to process 1", "101, 16, 1, 0, 0", 1),
            ("seizing process 1", "101, 0x4206, 1, 0, 0", 1),
            ("reading process 1", "310, 1, $local, 1, $remote, 1, 0", 1),
            ("writing process 1", "311, 1, $local, 1, $remote, 1, 0", 1),
            ("limits of process 1", "302, 1, 7, 0, 0", 1),
            ("a process of its own", "101, 0x4206, $child, 0, 0", 0),
        ];
        let script: String =
            calls.iter().map(|(_, call, _)| format!("$! = 0; syscall({call}); print $!+0, \"\\n\";")).collect();

        let errors = said(
            &sandbox,
            &format!(
                "perl -e '$child = fork || exec(\"sleep\", \"100\"); $buffer = \"12345678\"; $local = pack(\"PQ\", $buffer, 8); \
                 $remote = pack(\"QQ\", 65536, 8); {script} kill 9, $child'"
            ),
        )
        .await;

        let found: Vec<(&str, i32)> =
            calls.iter().map(|call| call.0).zip(errors.lines().map(|line| line.parse().unwrap_or(-1))).collect();
        assert_eq!(found, calls.map(|call| (call.0, call.2)));
    }
}

#[tokio::test]
async fn nothing_of_the_host_is_in_a_root_made_of_a_folder() {
    for ids in kinds() {
        let world = World::new().await;
        let sandbox = world.sandboxes.launch(spec(root_folder(&world, ids), ids)).await.expect("launched");
        let data = world.folder.path().display().to_string();

        assert_eq!(said(&sandbox, "ls -A / | xargs").await, "bin dev etc home opt proc root run sys tmp usr workspace");
        assert_eq!(said(&sandbox, &format!("ls {data} /var /lib /home/* 2>/dev/null")).await, "/home/user:\nnote");
        assert_eq!(
            said(&sandbox, "cat /etc/resolv.conf /etc/machine-id; ls -A /sys /run /root /workspace | grep -v :").await,
            ""
        );
        assert_eq!(
            said(&sandbox, "for p in /proc/[0-9]*; do ls $p/root/ 2>/dev/null | grep -c work/main; done | sort -u")
                .await,
            "0"
        );
        assert_eq!(said(&sandbox, "awk '{print $2}' /proc/self/mounts | grep -v '^/proc\\|^/dev' | xargs").await, "/");
        assert_eq!(said(&sandbox, "cat /dev/mem /dev/kmsg /dev/vda /proc/kcore 2>/dev/null | wc -c").await, "0");
    }
}

#[tokio::test]
async fn ports_below_1024_are_roots_to_bind() {
    let world = World::new().await;
    let sandbox = world
        .sandboxes
        .launch(spec(root_folder(&world, FolderIds::Shifted), FolderIds::Shifted))
        .await
        .expect("launched");

    // It listens, or it has ended and said why.
    let script = "nc -l -p 80 2>&1 & while kill -0 $! 2>/dev/null; do grep -q ':0050 .* 0A ' /proc/net/tcp* && echo bound && kill $!; done";
    let said = said(&sandbox, script).await;

    assert!(said.starts_with("bound"), "{said}");
}

#[tokio::test]
async fn what_root_changed_is_kept_and_found_again() {
    for ids in kinds() {
        let world = World::new().await;
        let root = root_folder(&world, ids);
        let kept: LayerName = "installed".parse().expect("a name");
        let sandbox = world.sandboxes.launch(spec(root.clone(), ids)).await.expect("launched");
        let has_ids = geteuid().is_root() || world.sandboxes.lent_ids().is_some();
        let owner = if has_ids { "1000" } else { "0" };
        let changes = format!(
            "rm -r /opt/tool /bin/vi && mkdir /opt/tool && echo new > /opt/tool/new && chown -R {owner} /opt/tool && chmod 711 / \
             && echo x >> /etc/passwd && echo w > /workspace/w && chmod 750 /root"
        );
        assert_eq!(said(&sandbox, &changes).await, "");
        world.sandboxes.keep(sandbox.id(), &kept).await.expect("kept");

        let again =
            world.sandboxes.launch(SandboxSpec { layers: vec![kept], ..spec(root, ids) }).await.expect("launched");

        let look = "ls /opt/tool; stat -c %u /opt/tool/new; stat -c %a / /root; tail -n 1 /etc/passwd; cat /workspace/w; ls /bin/vi 2>&1";
        assert_eq!(
            said(&again, look).await,
            format!("new\n{owner}\n711\n750\nx\nw\nls: /bin/vi: No such file or directory")
        );
        assert_eq!(said(&again, "echo more > /new && stat -c %u /new").await, "0");
    }
}

#[tokio::test]
async fn traps_that_a_sandbox_leaves_do_not_catch_its_restart() {
    for ids in kinds() {
        let world = World::new().await;
        let root = root_folder(&world, ids);
        let first = spec(root.clone(), ids);
        let (id, hostname) = (first.id, "second".to_owned());
        let sandbox = world.sandboxes.launch(first).await.expect("launched");
        let traps = "rm /etc/hostname /etc/hosts && mkfifo /etc/hostname && ln -s /proc/self/comm /etc/hosts \
                     && mkdir /data && ln -s /proc/1 /data/link && ln -s /proc/self/fd /data/fds && mkfifo /etc/fifo \
                     && rm /etc/passwd && ln -s fifo /etc/passwd && chmod 0 / && rm -rf /tmp && ln -s /proc/1 /tmp";
        assert_eq!(said(&sandbox, traps).await, "");
        let source = world.folder.path().join("shown");
        fs::create_dir(&source).expect("made");
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).expect("opened");
        let again = |target: &str| SandboxSpec {
            id,
            hostname: hostname.clone(),
            mounts: vec![ReadOnlyMount { source: source.clone(), target: target.to_owned() }],
            ..spec(root.clone(), ids)
        };

        for target in ["/data/link/task", "/data/fds/3", "/data/link"] {
            let refused = world.sandboxes.restart(again(target)).await;
            assert!(matches!(refused, Err(SandboxError::Launch(_))), "{target}: {refused:?}");
        }
        let restarted = world.sandboxes.restart(again("/data/shown")).await.expect("it comes up");

        assert_eq!(
            said(&restarted, "hostname; ls -ln /etc/hostname | cut -c1; cat /proc/1/comm; echo $HOME").await,
            "second\np\ncarrel-runner\n/root"
        );
        assert!(record(&world.folder.path().join("sandboxes").join(id.to_string())).is_some());
    }
}

#[tokio::test]
async fn a_folder_that_is_none_is_refused_and_says_so() {
    let world = World::new().await;
    let file = world.folder.path().join("file");
    fs::write(&file, "").expect("written");

    for (path, ids) in
        kinds().into_iter().flat_map(|ids| [(file.clone(), ids), (world.folder.path().join("absent"), ids)])
    {
        let refused = world.sandboxes.launch(spec(path.clone(), ids)).await;

        let Err(SandboxError::Launch(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(&format!("cannot open the root folder `{}`", path.display())), "{reason}");
        assert_eq!(world.sandboxes.list().await.expect("listed"), []);
    }
}

#[tokio::test]
async fn a_folder_whose_owners_cannot_be_translated_is_refused_with_what_to_do() {
    if !geteuid().is_root() {
        return;
    }
    let world = World::new().await;

    // A file system that no kernel shows under other owners.
    let refused = world.sandboxes.launch(spec("/proc".into(), FolderIds::Plain)).await;

    let Err(SandboxError::Launch(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("cannot show `/proc` under other owners"), "{reason}");
    assert!(reason.contains("use it as an OCI image, which is unpacked"), "{reason}");
}
