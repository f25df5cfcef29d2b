//! What a sandbox must not see or do. Each test fails when the control it names is taken out.

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use carrel_sandbox::{LocalOptions, ReadOnlyMount, SandboxError, SandboxSpec, Sandboxes};
use world::{World, folder, new_id, options, record, run, said};

#[tokio::test]
async fn private_paths_and_the_data_folder_are_not_there() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let data = world.folder.path().join("sandboxes").display().to_string();

    assert_eq!(said(&sandbox, &format!("ls -A {data} 2>/dev/null")).await, "");
    assert_eq!(
        said(&sandbox, "ls -A /home /run /tmp /var/tmp /mnt /srv /media /boot /sys 2>/dev/null | grep -v : | xargs")
            .await,
        "carrel"
    );
    assert_eq!(said(&sandbox, "cat /etc/shadow /etc/gshadow /etc/machine-id /etc/resolv.conf 2>/dev/null").await, "");
    assert_eq!(said(&sandbox, "ls -A /root /etc/ssh /etc/sudoers.d 2>/dev/null | grep -v :").await, "");
    assert_eq!(said(&sandbox, "awk -F: '$3 >= 1000 {print $1}' /etc/passwd | sort | xargs").await, "carrel nobody");
}

#[tokio::test]
async fn a_private_path_is_hidden_where_its_neighbours_are_shown() {
    // A place that sandboxes show, and that only root can write to.
    let Ok(host) = tempfile::tempdir_in("/opt") else { return };
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    for name in ["visible", "private"] {
        fs::create_dir(host.path().join(name)).expect("made");
        fs::write(host.path().join(name).join("file"), "canary").expect("written");
    }
    let folder = folder();
    let private = LocalOptions { private_paths: vec![host.path().join("private")], ..options(folder.path()) };
    let sandboxes = Sandboxes::open(private).await.expect("this machine lets sandboxes be made");
    let world = World { sandboxes, folder };
    let sandbox = world.sandbox().await;
    let at = |name: &str| host.path().join(name).display().to_string();

    assert_eq!(said(&sandbox, &format!("cat {}/file", at("visible"))).await, "canary", "the place itself can be seen");
    assert_eq!(said(&sandbox, &format!("ls -A {} 2>/dev/null", at("private"))).await, "");
}

#[tokio::test]
async fn folders_of_the_hosts_top_level_that_are_not_of_the_system_are_hidden() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    let known = "bin boot dev etc gnu home lib lib32 lib64 libx32 lost+found media mnt nix opt proc root run sbin snap \
                 srv sys tmp usr var workspace";
    for name in said(&sandbox, "ls -A /").await.split_whitespace() {
        let entries = said(&sandbox, &format!("ls -A /{name} 2>/dev/null | head -n 1")).await;
        assert!(known.split_whitespace().any(|known| known == name) || entries.is_empty(), "/{name}: {entries}");
    }
}

#[tokio::test]
async fn nothing_of_the_hosts_environment_or_arguments_is_in_any_process() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let runner =
        record(&world.folder.path().join("sandboxes").join(sandbox.id().to_string())).expect("it is written down");

    let inside =
        said(&sandbox, "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c CARGO; cat /proc/1/environ 2>&1")
            .await;
    assert_eq!(inside, "0\ncat: /proc/1/environ: Permission denied");
    assert_eq!(said(&sandbox, "tr '\\0' ' ' </proc/1/cmdline").await, "carrel-runner launcher");
    let as_root = fs::read(format!("/proc/{}/environ", runner.pid));
    if let Ok(as_root) = as_root {
        assert!(as_root.iter().all(|byte| *byte == 0), "{as_root:?}");
    }
}

#[tokio::test]
async fn no_privilege_is_left() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    for process in ["self", "1"] {
        let status = said(
            &sandbox,
            &format!("grep -E '^(Uid|Gid|Cap...|NoNewPrivs|Seccomp):' /proc/{process}/status | tr -s '\\t' ' '"),
        )
        .await;
        let none = "0000000000000000";
        let expected = format!(
            "Uid: 1000 1000 1000 1000\nGid: 1000 1000 1000 1000\nCapInh: {none}\nCapPrm: {none}\nCapEff: {none}\nCapBnd: {none}\nCapAmb: {none}\nNoNewPrivs: 1\nSeccomp: 2"
        );
        assert_eq!(status, expected);
    }
}

#[tokio::test]
async fn every_namespace_is_its_own() {
    let world = World::new().await;
    let (one, two) = (world.sandbox().await, world.sandbox().await);
    let names = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let script = names.map(|name| format!("readlink /proc/self/ns/{name}; ")).concat();

    let host: Vec<String> = names
        .iter()
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).expect("there").display().to_string())
        .collect();
    let (one, two) = (said(&one, &script).await, said(&two, &script).await);

    for ((host, one), two) in host.iter().zip(one.lines()).zip(two.lines()) {
        assert!(host != one && host != two && one != two, "{host} {one} {two}");
    }
    assert_eq!((one.lines().count(), two.lines().count()), (7, 7));
}

#[tokio::test]
async fn there_is_no_network_but_loopback() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    assert_eq!(said(&sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1 | xargs").await, "lo");
    assert_eq!(said(&sandbox, "tail -n +2 /proc/net/route").await, "");
    let out = said(&sandbox, "exec 3<>/dev/tcp/192.0.2.1/80").await;
    assert!(out.contains("Network is unreachable"), "{out}");
    let inside = said(&sandbox, "exec 3<>/dev/tcp/127.0.0.1/80").await;
    assert!(inside.contains("Connection refused"), "loopback is up: {inside}");
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn dangerous_system_calls_are_refused() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    // Number and arguments of each call, and the error it must give: 1 is EPERM, 38 is ENOSYS, 97 is
    // EAFNOSUPPORT.
    let calls = [
        ("mount", "165, 0, 0, 0, 0, 0", 1),
        ("umount2", "166, 0, 0", 1),
        ("pivot_root", "155, 0, 0", 1),
        ("chroot", "161, 0", 1),
        ("fsopen", "430, 0, 0", 1),
        ("move_mount", "429, 0, 0, 0, 0, 0", 1),
        ("unshare", "272, 0x10000000", 1),
        ("setns", "308, 0, 0", 1),
        ("clone with a user namespace", "56, 0x10000011, 0, 0, 0, 0", 1),
        ("clone3", "435, 0, 0", 38),
        ("io_uring_setup", "425, 1, 0", 38),
        ("bpf", "321, 0, 0, 0", 1),
        ("perf_event_open", "298, 0, 0, 0, 0, 0", 1),
        ("userfaultfd", "323, 0", 1),
        ("keyctl", "250, 0, 0, 0, 0, 0", 1),
        ("add_key", "248, 0, 0, 0, 0, 0", 1),
        ("open_by_handle_at", "304, 0, 0, 0", 1),
        ("init_module", "175, 0, 0, 0", 1),
        ("kexec_load", "246, 0, 0, 0, 0", 1),
        ("personality", "135, 8", 1),
        ("ptrace of process 1", "101, 16, 1, 0, 0", 1),
        ("process_vm_readv of process 1", "310, 1, $local, 1, $remote, 1, 0", 1),
        ("prlimit of process 1", "302, 1, 7, 0, 0", 1),
        ("netlink socket", "41, 16, 3, 0", 97),
        ("packet socket", "41, 17, 3, 0", 97),
        ("vsock socket", "41, 40, 1, 0", 97),
        ("raw socket", "41, 2, 3, 255", 1),
        ("ioctl TIOCSTI", "16, 0, 0x5412, 0", 1),
        ("ioctl TIOCSTI with high bits", "16, 0, 0x100005412, 0", 1),
        ("x32 getpid", "0x40000027", 38),
    ];

    let buffers = r#"$buffer = "12345678"; $local = pack("PQ", $buffer, 8); $remote = pack("QQ", 65536, 8);"#;
    let script: String =
        calls.iter().map(|(_, call, _)| format!("$! = 0; syscall({call}); print $!+0, \"\\n\";")).collect();
    let errors = said(&sandbox, &format!("perl -e '{buffers} {script}'")).await;

    let found: Vec<(&str, i32)> =
        calls.iter().map(|call| call.0).zip(errors.lines().map(|line| line.parse().unwrap_or(-1))).collect();
    let expected: Vec<(&str, i32)> = calls.iter().map(|call| (call.0, call.2)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_base_cannot_be_changed_and_its_own_places_can() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;

    for place in [
        "/usr/bin/env",
        "/etc/passwd",
        "/etc/new",
        "/new",
        "/usr/new",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/dev/new",
    ] {
        let finished = run(&sandbox, &format!("echo x >> {place}")).await;
        assert!(!finished.status.is_success(), "{place} was written");
    }
    for place in ["/workspace/new", "/tmp/new", "/var/tmp/new", "/home/carrel/new", "/dev/shm/new", "/dev/null"] {
        let finished = run(&sandbox, &format!("echo x > {place}")).await;
        assert!(finished.status.is_success(), "{place}: {}", String::from_utf8_lossy(&finished.output));
    }
    assert_eq!(
        said(&sandbox, "wc -c /proc/kcore /proc/keys 2>/dev/null | awk '{sum += $1} END {print sum}'").await,
        "0"
    );
    assert_eq!(said(&sandbox, "grep -vc nosuid /proc/self/mounts").await, "0", "no set-user-id program works anywhere");
}

#[tokio::test]
async fn a_mount_stays_read_only_whatever_its_owner() {
    let world = World::new().await;
    let source = world.folder.path().join("mirror");
    fs::create_dir(&source).expect("made");
    fs::write(source.join("file"), "content").expect("written");
    for path in [source.clone(), source.join("file")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("opened to all");
    }
    let mount = |target: &str| ReadOnlyMount { source: source.clone(), target: target.to_owned() };
    let spec = SandboxSpec { mounts: vec![mount("/mirrors/one")], ..SandboxSpec::new(new_id()) };

    let sandbox = world.sandboxes.launch(spec).await.expect("it is launched");

    assert_eq!(said(&sandbox, "cat /mirrors/one/file").await, "content");
    for change in ["echo x > /mirrors/one/file", "touch /mirrors/one/new", "rm -f /mirrors/one/file"] {
        let said = said(&sandbox, change).await;
        assert!(said.contains("Read-only file system"), "{change}: {said}");
    }
    assert_eq!(fs::read_to_string(source.join("file")).expect("there"), "content");
    assert_eq!(fs::read_dir(&source).expect("there").count(), 1);
    for target in ["/proc/sys", "/", "../x"] {
        let refused =
            world.sandboxes.launch(SandboxSpec { mounts: vec![mount(target)], ..SandboxSpec::new(new_id()) }).await;
        assert!(matches!(refused, Err(SandboxError::Launch(_))), "{target}: {refused:?}");
    }
}

#[tokio::test]
async fn sandboxes_do_not_see_each_others_files_or_processes() {
    let world = World::new().await;
    let (one, two) = (world.sandbox().await, world.sandbox().await);

    run(
        &one,
        "echo secret > /tmp/file; echo secret > /dev/shm/file; chmod -R 777 /workspace; echo x > /workspace/file",
    )
    .await;

    assert_eq!(said(&two, "ls -A /tmp /dev/shm /workspace | grep -c file").await, "0");
    assert_eq!(said(&two, "ls /proc | grep -c '^[0-9]'").await.parse::<u32>().map(|count| count < 10), Ok(true));
    assert_eq!(said(&two, "ls -l /proc/1/fd /proc/1/cwd 2>&1 | grep -c 'Permission denied'").await, "2");
}

#[tokio::test]
async fn the_sockets_folder_of_a_sandbox_is_closed_to_strangers() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mode = |path: &Path| fs::symlink_metadata(path).expect("there").permissions().mode() & 0o777;
    let sandboxes = world.folder.path().join("sandboxes");
    let own = sandboxes.join(sandbox.id().to_string());

    assert_eq!((mode(&sandboxes), mode(&own), mode(&own.join("runner.sock"))), (0o700, 0o700, 0o600));
}
