//! Changing what files are, and entering or making namespaces.
//!
//! Arguments are chosen so that the kernel, were it asked, would give another error than the filter does.

use super::attempt::Attempt;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt("mount", "seccomp: mount", r#"call("SYS_mount", 0, 0, 1, 0, 0)"#, "EPERM"),
    Attempt(
        "mounting a tmpfs",
        "seccomp: mount; no capability",
        r#"my ($kind, $at) = ("tmpfs", "/tmp"); call("SYS_mount", $kind, $at, $kind, 0, 0)"#,
        "EPERM",
    ),
    Attempt(
        "binding the root elsewhere",
        "seccomp: mount; no capability",
        r#"my ($from, $at) = ("/", "/tmp"); call("SYS_mount", $from, $at, 0, 4096 | 16384, 0)"#,
        "EPERM",
    ),
    Attempt(
        "making a read-only mount writable",
        "seccomp: mount; no capability",
        r#"each_of(sub { my $at = $_; call("SYS_mount", 0, $at, 0, 32 | 4096, 0) }, qw(/ /usr /proc/sys /dev))"#,
        "EPERM",
    ),
    Attempt(
        "showing mounts to the host",
        "seccomp: mount; no capability",
        r#"my $at = "/"; call("SYS_mount", 0, $at, 0, (1 << 20) | 16384, 0)"#,
        "EPERM",
    ),
    Attempt(
        "mounting cgroups for a release agent",
        "seccomp: mount; no capability",
        r#"my $at = "/tmp"; each_of(sub { my $kind = $_; call("SYS_mount", $kind, $at, $kind, 0, 0) }, qw(cgroup cgroup2))"#,
        "EPERM",
    ),
    Attempt(
        "which mounts can be written",
        "everything else is read-only, as a mount and not only for its owners",
        r#"mounts(sub { $_[1] !~ /,ro,/ })"#,
        "/ /dev/pts /dev/shm /proc; ordinary: /dev/pts /dev/shm /home/carrel /proc /tmp /var /workspace\
         ; own root: / /dev/pts /dev/shm /proc",
    ),
    Attempt(
        "where device files work",
        "nodev everywhere but in /dev",
        r#"mounts(sub { -d $_[0] && $_[1] !~ /,nodev,/ })"#,
        "/dev /dev/pts; ordinary: /dev/pts",
    ),
    Attempt(
        "parts of /proc that change the machine",
        "covered by read-only mounts of their own",
        r#"my %closed = map { $_ => 1 } split(" ", mounts(sub { $_[1] =~ /,ro,/ }));
           each_of(sub { !-e $_ ? "absent" : $closed{$_} ? "read-only" : "open: $_" },
               map { "/proc/$_" } qw(sys bus fs irq sysrq-trigger))"#,
        "read-only|absent read-only",
    ),
    Attempt("uncovering a mask", "seccomp: umount2", r#"call("SYS_umount2", 1, 0xff00)"#, "EPERM"),
    Attempt(
        "uncovering /proc/sys and /proc/kcore",
        "seccomp: umount2; no capability",
        r#"each_of(sub { my $at = $_; call("SYS_umount2", $at, 2) }, qw(/proc/sys /proc/kcore /proc /dev))"#,
        "EPERM",
    ),
    Attempt("fsopen", "seccomp: fsopen; no capability", r#"my $kind = "proc"; call("SYS_fsopen", $kind, 0)"#, "EPERM"),
    Attempt("fsconfig", "seccomp: fsconfig", r#"call("SYS_fsconfig", -1, 0, 0, 0, 0)"#, "EPERM"),
    Attempt("fsmount", "seccomp: fsmount; no capability", r#"call("SYS_fsmount", -1, 0, 0)"#, "EPERM"),
    Attempt("fspick", "seccomp: fspick; no capability", r#"my $at = "/"; call("SYS_fspick", -100, $at, 0)"#, "EPERM"),
    Attempt("open_tree", "seccomp: open_tree", r#"my $at = "/"; call("SYS_open_tree", -100, $at, 0)"#, "EPERM"),
    Attempt("open_tree_attr", "seccomp: open_tree_attr", r#"my $at = "/"; call(467, -100, $at, 0, 0, 0)"#, "EPERM"),
    Attempt("move_mount", "seccomp: move_mount; no capability", r#"call("SYS_move_mount", -1, 0, -1, 0, 0)"#, "EPERM"),
    Attempt("mount_setattr", "seccomp: mount_setattr", r#"call("SYS_mount_setattr", -1, 1, 0xff, 0, 0)"#, "EPERM"),
    Attempt(
        "pivot_root",
        "seccomp: pivot_root; no capability",
        r#"my $at = "."; call("SYS_pivot_root", $at, $at)"#,
        "EPERM",
    ),
    Attempt(
        "chroot and out of it again",
        "seccomp: chroot; a root of its own has none above it",
        r#"mkdir("/tmp/jail-$$"); opendir(my $top, "/"); my $jailed = call("SYS_chroot", my $at = "/tmp/jail-$$");
           if ($jailed eq "ok") { chdir($top); chdir("..") for 1 .. 64; my $here = "."; call("SYS_chroot", $here);
               $jailed = -e $host{tmp} ? "the host" : "ok" }
           $jailed"#,
        "EPERM; own root: ok",
    ),
    Attempt("unshare", "seccomp: unshare", r#"call("SYS_unshare", 0)"#, "EPERM"),
    Attempt(
        "a user namespace of its own, and then mounts",
        "seccomp: unshare",
        r#"join(" ", call("SYS_unshare", 0x10000000 | 0x20000), says("unshare -r true") =~ /Operation not permitted/ ? "refused" : "made")"#,
        "EPERM refused",
    ),
    Attempt(
        "each kind of namespace by clone",
        "seccomp: the flags of clone",
        r#"each_of(sub { my $made = call("SYS_clone", $_ | 17, 0, 0, 0, 0); POSIX::_exit(0) if $made eq "ok" && $$ == 1; $made },
               0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)"#,
        "EPERM",
    ),
    Attempt("clone3", "seccomp: clone3, as if absent", r#"call("SYS_clone3", 0, 0)"#, "ENOSYS"),
    Attempt("setns", "seccomp: setns", r#"call("SYS_setns", -1, 0)"#, "EPERM"),
    Attempt(
        "the namespaces of process 1",
        "process 1 is not dumpable",
        r#"each_of(sub { opens("/proc/1/ns/$_", O_RDONLY) }, qw(user mnt pid net ipc uts cgroup))"#,
        "EACCES",
    ),
    Attempt(
        "the namespaces above its own",
        "nothing above is shown to those below",
        r#"each_of(sub { open(my $own, "<", "/proc/self/ns/$_") or return name($!); ioctl($own, 0xb702, 0) ? "ok" : name($!) }, qw(user pid))"#,
        "EPERM",
    ),
    Attempt(
        "other ids",
        "ids were mapped once",
        r#"each_of(sub { writes("/proc/self/$_", "0 0 1") }, qw(uid_map gid_map))"#,
        "EPERM|EACCES",
    ),
    Attempt(
        "to be root of the host",
        "no other id is mapped; no capability",
        r#"my $none = pack("I", 0); join(" ", call("SYS_setresuid", 70000, 70000, 70000), call("SYS_setgroups", 1, my $group = pack("I", 70000)))"#,
        "EINVAL EPERM|EINVAL EINVAL",
    ),
    Attempt(
        "its capabilities",
        "all were dropped, also from the bounding set",
        r#"my ($header, $sets) = (pack("Ii", 0x20080522, 0), pack("I6", 0xffffffff, 0xffffffff, 0, 0xffffffff, 0xffffffff, 0));
           join(" ", call("SYS_capset", $header, $sets), call("SYS_prctl", 47, 2, 21, 0, 0))"#,
        "EPERM EPERM",
    ),
    Attempt(
        "taking back that programs gain nothing",
        "no_new_privs stays",
        r#"join(" ", call("SYS_prctl", 38, 0, 0, 0, 0), says("grep -E ^NoNewPrivs /proc/self/status") =~ /(\d)/)"#,
        "EINVAL 1",
    ),
    Attempt(
        "taking the filter off",
        "seccomp stays",
        r#"join(" ", call("SYS_prctl", 22, 0, 0, 0, 0), says("grep -E ^Seccomp: /proc/self/status") =~ /(\d)/)"#,
        "EINVAL 2",
    ),
    Attempt(
        "what a program of a memory file may do",
        "filters and no_new_privs survive exec",
        r#"my $name = "x"; my $fd = syscall($nr{SYS_memfd_create}, $name, 0);
           open(my $from, "<", "/usr/bin/grep"); sysread($from, my $program, 1 << 24);
           open(my $to, ">&=", $fd); syswrite($to, $program);
           says("/proc/$$/fd/$fd -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status") =~ s/\s+/ /gr"#,
        "CapBnd: 0000000000000000 NoNewPrivs: 1 Seccomp: 2; own root: CapBnd: 00000000800405fb NoNewPrivs: 1 Seccomp: 2",
    ),
    Attempt(
        "a program of another architecture",
        "seccomp ends it: its numbers mean other calls",
        r#"my $code = pack("H*", "b814000000cd80b801000000cd80");
           my $elf = pack("C16 S2 I5 S6", 0x7f, 69, 76, 70, 1, 1, 1, (0) x 9, 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 40, 0, 0)
               . pack("I8", 1, 0, 0x8048000, 0x8048000, 84 + 14, 84 + 14, 5, 4096) . $code;
           open(my $file, ">", "/tmp/old-$$"); binmode $file; print $file $elf; close $file; chmod 0755, "/tmp/old-$$";
           my $ended = system("/tmp/old-$$"); $ended == -1 ? name($!) : "signal " . ($ended & 127)"#,
        "signal 31|ENOEXEC",
    ),
    Attempt("numbers of the x32 table", "seccomp: foreign numbers", r#"call(0x40000027)"#, "ENOSYS"),
];
