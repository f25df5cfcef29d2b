//! Other processes: process 1, supervisors, and what the kernel offers to look into them.

use super::attempt::Attempt;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt(
        "tracing process 1",
        "process 1 is not dumpable; no capability",
        r#"join(" ", call("SYS_ptrace", 16, 1, 0, 0), call("SYS_ptrace", 0x4206, 1, 0, 0))"#,
        "EPERM EPERM",
    ),
    Attempt(
        "tracing its supervisor",
        "supervisors are not dumpable",
        r#"call("SYS_ptrace", 16, getppid(), 0, 0)"#,
        "EPERM",
    ),
    Attempt(
        "reading the memory of process 1",
        "process 1 is not dumpable",
        r#"my $bytes = "12345678"; my ($local, $remote) = (pack("PQ", $bytes, 8), pack("QQ", 65536, 8));
           join(" ", call("SYS_process_vm_readv", 1, $local, 1, $remote, 1, 0), opens("/proc/1/mem", O_RDONLY))"#,
        "EPERM EACCES",
    ),
    Attempt(
        "writing the memory of process 1",
        "process 1 is not dumpable",
        r#"my $bytes = "12345678"; my ($local, $remote) = (pack("PQ", $bytes, 8), pack("QQ", 65536, 8));
           join(" ", call("SYS_process_vm_writev", 1, $local, 1, $remote, 1, 0), opens("/proc/1/mem", O_RDWR))"#,
        "EPERM EACCES",
    ),
    Attempt(
        "taking a descriptor of process 1",
        "process 1 is not dumpable",
        r#"my $fd = syscall($nr{SYS_pidfd_open}, 1, 0); each_of(sub { call("SYS_pidfd_getfd", $fd, $_, 0) }, 0 .. 12)"#,
        "EPERM",
    ),
    Attempt(
        "the namespaces of process 1 by its descriptor",
        "process 1 is not dumpable",
        r#"my $fd = syscall($nr{SYS_pidfd_open}, 1, 0); each_of(sub { call("SYS_ioctl", $fd, 0xFF00 + $_, 0) }, 1 .. 10)"#,
        "EACCES|ENOTTY",
    ),
    Attempt(
        "changing how process 1 uses memory",
        "process 1 is not dumpable",
        r#"my $fd = syscall($nr{SYS_pidfd_open}, 1, 0); my $range = pack("QQ", 65536, 4096); call("SYS_process_madvise", $fd, $range, 1, 20, 0)"#,
        "EPERM|EACCES",
    ),
    Attempt("comparing kernel pointers", "seccomp: kcmp", r#"call("SYS_kcmp", $$, $$, 1, 0, 0)"#, "EPERM"),
    Attempt(
        "the limits of process 1",
        "seccomp: prlimit64 of process 1",
        r#"my $old = "\0" x 16; call("SYS_prlimit64", 1, 7, 0, $old)"#,
        "EPERM",
    ),
    Attempt(
        "what process 1 was started with",
        "process 1 is not dumpable",
        r#"each_of(sub { reads("/proc/1/$_") }, qw(environ maps auxv smaps pagemap))"#,
        "EACCES",
    ),
    Attempt(
        "where process 1 waits in the kernel",
        "process 1 is not dumpable",
        r#"each_of(sub { reads("/proc/1/$_") }, qw(stack syscall personality))"#,
        "EACCES|EACCES EPERM|EPERM",
    ),
    Attempt(
        "making process 1 the first to be ended",
        "its files in /proc belong to nobody inside",
        r#"each_of(sub { writes("/proc/1/$_", "1") }, qw(oom_score_adj oom_adj coredump_filter clear_refs timerslack_ns))"#,
        "EACCES|EACCES EPERM",
    ),
    Attempt(
        "ending process 1",
        "the kernel shields process 1 from its own namespace",
        r#"each_of(sub { call("SYS_kill", 1, $_) }, 1, 2, 3, 6, 9, 11, 15, 19, 31) . " " . (-d "/proc/1" ? "alive" : "dead")"#,
        "ok alive|EPERM alive",
    ),
    Attempt(
        "ending its thread",
        "as above",
        r#"call("SYS_tgkill", 1, 1, 9) . " " . (-d "/proc/1" ? "alive" : "dead")"#,
        "ok alive|EPERM alive",
    ),
    Attempt(
        "processes of the host",
        "a process namespace of its own",
        r#"join(" ", call("SYS_kill", $host{pid} + 0, 0), -e "/proc/$host{pid}" ? "seen" : "not seen")"#,
        "ESRCH not seen",
    ),
    Attempt(
        "a core file where the host wants it",
        "no core files, and that is fixed",
        r#"my $all = pack("qq", -1, -1); call("SYS_setrlimit", 4, $all)"#,
        "EPERM",
    ),
    Attempt(
        "more processes than allowed",
        "the hard limit is fixed",
        r#"my $all = pack("qq", -1, -1); call("SYS_setrlimit", 6, $all)"#,
        "EPERM",
    ),
    Attempt(
        "real-time scheduling",
        "no capability, no limit that allows it",
        r#"my $priority = pack("i", 50); call("SYS_sched_setscheduler", 0, 1, $priority)"#,
        "EPERM",
    ),
    Attempt(
        "another personality",
        "seccomp: personality",
        r#"each_of(sub { call("SYS_personality", $_) }, 8, 0x400000, 0x0020000, 0x0100000)"#,
        "EPERM",
    ),
    Attempt(
        "typing into a terminal",
        "seccomp: TIOCSTI and TIOCLINUX",
        r#"my ($master, $slave) = terminal();
           each_of(sub { my $byte = "x"; ioctl($slave, $_, $byte) ? "ok" : name($!) }, 0x5412, 0x541C)"#,
        "EPERM",
    ),
    Attempt(
        "other languages on a terminal",
        "seccomp: TIOCSETD",
        r#"my ($master, $slave) = terminal();
           each_of(sub { my $language = pack("i", $_); ioctl($slave, 0x5423, $language) ? "ok" : name($!) }, 0 .. 30)"#,
        "EPERM",
    ),
    Attempt(
        "taking the console",
        "no capability",
        r#"my ($master, $slave) = terminal(); ioctl($slave, 0x541D, 0) ? "ok" : name($!)"#,
        "EPERM",
    ),
    Attempt("terminals of others", "an instance of devpts of its own", r#"lists("/dev/pts")"#, "ptmx"),
];
