//! Host files, by every path and descriptor.

use super::attempt::Attempt;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt("a host file in /tmp", "a /tmp of its own", r#"reads($host{tmp})"#, "ENOENT"),
    Attempt("a private path of the service", "masked by name", r#"reads($host{private})"#, "ENOENT"),
    Attempt("the folder of sandboxes", "always private", r#"lists($host{sandboxes})"#, "empty|ENOENT"),
    Attempt("its own layer on the host", "always private", r#"lists("$host{own}/upper")"#, "ENOENT"),
    Attempt("its runner's socket", "always private", r#"lists("$host{own}/runner.sock")"#, "ENOENT"),
    Attempt("its runner's record", "always private", r#"reads("$host{own}/runner.json")"#, "ENOENT"),
    Attempt(
        "homes",
        "homes are hidden",
        r#"join(",", map { lists($_) } "/root", "/home")"#,
        "EACCES,carrel; ordinary: empty,carrel; own root: empty,ENOENT",
    ),
    Attempt(
        "keys of root",
        "hidden",
        r#"reads("/root/.ssh/id_ed25519")"#,
        "EACCES; ordinary: ENOENT; own root: ENOENT",
    ),
    Attempt(
        "password hashes",
        "masked files",
        r#"each_of(sub { reads($_) }, map { "/etc/$_" } qw(shadow gshadow shadow- gshadow-))"#,
        "ENOENT; ordinary: empty; own root: ENOENT",
    ),
    Attempt(
        "secrets of services",
        "masked files and folders",
        r#"each_of(sub { lists($_) }, qw(/etc/ssh /etc/ssl/private /run/secrets /var/lib/docker /var/run/docker))"#,
        "EACCES ENOENT|ENOENT|ENOENT empty; own root: ENOENT",
    ),
    Attempt(
        "where the host keeps sockets, logs and mail",
        "hidden folders",
        r#"each_of(sub { lists($_) }, qw(/run /srv /mnt /media /boot /var/log /var/spool /var/mail))"#,
        "ENOENT empty|empty; own root: ENOENT empty",
    ),
    Attempt("the host through process 1's root", "process 1 is not dumpable", r#"lists("/proc/1/root")"#, "EACCES"),
    Attempt("through its folder", "process 1 is not dumpable", r#"lists("/proc/1/cwd/")"#, "EACCES"),
    Attempt("through its threads", "process 1 is not dumpable", r#"lists("/proc/1/task/1/root/")"#, "EACCES"),
    Attempt("through its descriptors", "process 1 is not dumpable", r#"lists("/proc/1/fd")"#, "EACCES"),
    Attempt(
        "through its program",
        "process 1 is not dumpable",
        r#"join(" ", links("/proc/1/exe"), reads("/proc/1/exe"))"#,
        "EACCES EACCES",
    ),
    Attempt("through what it has mapped", "process 1 is not dumpable", r#"lists("/proc/1/map_files")"#, "EACCES"),
    Attempt(
        "through its supervisor",
        "supervisors inherit that",
        r#"my $above = getppid(); each_of(sub { lists("/proc/$above/$_") }, qw(root/ cwd/ fd map_files))"#,
        "EACCES",
    ),
    Attempt(
        "through the roots of all processes",
        "as above; its own root is the sandbox's",
        r#"my ($device, $inode) = stat("/");
           each_of(sub {
               my @root = stat("/proc/$_/root/");
               !@root ? name($!) : $root[0] == $device && $root[1] == $inode ? "own" : "another: $_"
           }, grep { /^\d+$/ } split(" ", lists("/proc")))"#,
        "EACCES own",
    ),
    Attempt(
        "through the descriptors of all processes",
        "as above; nothing is inherited",
        r#"my @all = grep { /^\d+$/ } split(" ", lists("/proc"));
           each_of(sub { $_ }, map { my $pid = $_; my $fds = lists("/proc/$pid/fd");
               $fds =~ /^E/ ? $fds : map { links("/proc/$pid/fd/$_") =~ s/\d+/N/gr } split(" ", $fds) } @all)"#,
        "-> /dev/null -> /proc/N -> /proc/N/fd -> pipe:[N] EACCES ENOENT|-> /dev/null -> pipe:[N] EACCES ENOENT\
         |-> /dev/null -> /proc/N/fd -> pipe:[N] EACCES|-> /dev/null -> pipe:[N] EACCES",
    ),
    Attempt(
        "through what it has inherited",
        "everything is closed before the program starts",
        r#"lists("/proc/self/fd")"#,
        "0 1 2 3",
    ),
    Attempt(
        "upwards out of the root",
        "the old root is unmounted, not covered",
        r#"chdir("/workspace"); my @up = stat("../" x 64); my @top = stat("/");
           "$up[0] $up[1]" eq "$top[0] $top[1]" ? "the root" : "another""#,
        "the root",
    ),
    Attempt(
        "by a link out of the workspace",
        "links lead to the sandbox's own root",
        r#"symlink("../../../../../.." . $host{tmp}, "/tmp/link-$$"); reads("/tmp/link-$$")"#,
        "ENOENT",
    ),
    Attempt(
        "by a handle of a file",
        "seccomp: open_by_handle_at",
        r#"my $handle = pack("IiQ", 8, 1, 2); call("SYS_open_by_handle_at", -100, $handle, 0)"#,
        "EPERM",
    ),
    Attempt(
        "making a handle",
        "seccomp: name_to_handle_at",
        r#"my ($handle, $mount) = (pack("Ii", 128, 0) . "\0" x 128, "\0" x 8);
           call("SYS_name_to_handle_at", -100, my $path = "/etc", $handle, $mount, 0)"#,
        "EPERM",
    ),
    Attempt(
        "changing the host's programs",
        "lower layers are read-only; files belong to nobody inside",
        r#"my $program = (stat("/usr/bin/env"))[4]; each_of(sub { opens($_, O_WRONLY) }, qw(/usr/bin/env /usr/bin/perl))"#,
        "EACCES; ordinary: EACCES|EROFS; own root: EACCES|EROFS",
    ),
    Attempt(
        "making them its own",
        "files belong to nobody inside, and mounts are read-only",
        r#"my $path = "/usr/bin/env";
           join(" ", call("SYS_fchmodat", -100, $path, 0777), call("SYS_fchownat", -100, $path, 1000, 1000, 0))"#,
        "EPERM EPERM; ordinary: EROFS EROFS; own root: EROFS EROFS",
    ),
    Attempt(
        "removing or moving them",
        "folders belong to nobody inside, and mounts are read-only",
        r#"my ($from, $to) = ("/usr/bin/env", "/tmp/env");
           join(" ", call("SYS_unlinkat", -100, $from, 0), call("SYS_renameat", -100, $from, -100, $to))"#,
        "EACCES EACCES; ordinary: EROFS EXDEV|EACCES EXDEV|EROFS EROFS; own root: EROFS EXDEV",
    ),
    Attempt(
        "something new beside them",
        "the top folder belongs to nobody inside, and its mount is read-only",
        r#"opens("/new-$$", O_WRONLY | O_CREAT)"#,
        "EACCES; ordinary: EROFS; own root: ok",
    ),
    Attempt(
        "a hard link to them",
        "protected_hardlinks, and another mount",
        r#"my ($from, $to) = ("/usr/bin/env", "/tmp/env-link"); call("SYS_linkat", -100, $from, -100, $to, 0)"#,
        "EPERM|EXDEV",
    ),
    Attempt(
        "changing what names and accounts are",
        "files of ours are read-only",
        r#"each_of(sub { opens($_, O_WRONLY) }, qw(/etc/passwd /etc/hosts /etc/resolv.conf /etc/machine-id))"#,
        "EACCES; ordinary: EACCES EROFS|EACCES|EROFS; own root: ENOENT EROFS ok|ENOENT ok|ok",
    ),
    Attempt(
        "what an overlay believes about its layers",
        "trusted attributes need a capability over the host",
        r#"mkdir("/tmp/o-$$"); my ($path, $value) = ("/tmp/o-$$", "/etc");
           each_of(sub { my $name = "trusted.overlay.$_"; call("SYS_setxattr", $path, $name, $value, 4, 0) },
               qw(redirect opaque metacopy origin))"#,
        "EPERM",
    ),
    Attempt(
        "programs with capabilities",
        "no CAP_SETFCAP over the host; nosuid everywhere",
        r#"open(my $file, ">", "/tmp/c-$$"); my ($path, $name) = ("/tmp/c-$$", "security.capability");
           my $all = pack("I5", 0x02000001, 0xffffffff, 0, 0xffffffff, 0);
           my $set = call("SYS_setxattr", $path, $name, $all, 20, 0);
           "$set " . says("grep -vc nosuid /proc/self/mounts")"#,
        "EPERM 0; own root: EPERM 0|ok 0",
    ),
    Attempt(
        "the memory of the machine",
        "masked in /proc",
        r#"each_of(sub { reads("/proc/$_") }, qw(kcore kallsyms kmsg keys key-users timer_list sched_debug config.gz))"#,
        "ENOENT empty|empty",
    ),
    Attempt(
        "how pages lie in memory",
        "only root of the host may read these",
        r#"each_of(sub { opens("/proc/$_", O_RDONLY) }, qw(kpagecount kpageflags kpagecgroup slabinfo vmallocinfo))"#,
        "EACCES|EACCES ENOENT",
    ),
    Attempt(
        "what drivers tell",
        "masked in /proc",
        r#"each_of(sub { lists("/proc/$_") }, qw(acpi asound driver scsi))"#,
        "empty|ENOENT|ENOENT empty",
    ),
    Attempt("what the machine was started with", "masked in /proc", r#"reads("/proc/cmdline")"#, "empty"),
    Attempt("what /sys tells", "an empty folder", r#"lists("/sys")"#, "empty"),
    Attempt(
        "the host's shared memory and queues",
        "a /dev/shm and an ipc namespace of its own",
        r#"join(" ", lists("/dev/shm"), call("SYS_shmget", $host{key} + 0, 0, 0), call("SYS_msgget", $host{key} + 0, 0),
               call("SYS_mq_open", my $queue = $host{queue}, 0, 0, 0))"#,
        "empty ENOENT ENOENT ENOENT",
    ),
];
