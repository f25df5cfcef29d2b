//! Calls that open wide parts of the kernel, or change the machine.
//!
//! Arguments are chosen so that the kernel, were it asked, would give another answer than the filter does, where it
//! looks at arguments before capabilities at all.

use super::attempt::Attempt;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt("bpf", "seccomp: bpf", r#"my $attribute = "\0" x 128; call("SYS_bpf", 5, $attribute, 128)"#, "EPERM"),
    Attempt(
        "perf_event_open",
        "seccomp: perf_event_open",
        r#"call("SYS_perf_event_open", 0, 0, 0, -1, 0xffff)"#,
        "EPERM",
    ),
    Attempt("userfaultfd", "seccomp: userfaultfd", r#"call("SYS_userfaultfd", 1)"#, "EPERM"),
    Attempt(
        "io_uring",
        "seccomp: as if absent",
        r#"my $parameters = "\0" x 120; join(" ", call("SYS_io_uring_setup", 1, $parameters),
               call("SYS_io_uring_enter", -1, 0, 0, 0, 0, 0), call("SYS_io_uring_register", -1, 0, 0, 0))"#,
        "ENOSYS ENOSYS ENOSYS",
    ),
    Attempt("the session's keyring", "seccomp: keyctl", r#"call("SYS_keyctl", 0, -3, 0, 0, 0)"#, "EPERM"),
    Attempt("the user's keyring", "seccomp: keyctl", r#"call("SYS_keyctl", 0, -4, 1, 0, 0)"#, "EPERM"),
    Attempt(
        "adding a key",
        "seccomp: add_key",
        r#"my ($kind, $name, $value) = ("user", "escape", "x"); call("SYS_add_key", $kind, $name, $value, 1, -3)"#,
        "EPERM",
    ),
    Attempt(
        "asking for a key",
        "seccomp: request_key",
        r#"my ($kind, $name) = ("user", "escape"); call("SYS_request_key", $kind, $name, 0, -3)"#,
        "EPERM",
    ),
    Attempt(
        "kernel modules",
        "seccomp: modules; no capability",
        r#"my $none = ""; join(" ", call("SYS_init_module", 0, 0, $none), call("SYS_finit_module", -1, $none, 0),
               call("SYS_delete_module", $none, 0))"#,
        "EPERM EPERM EPERM",
    ),
    Attempt(
        "another kernel",
        "seccomp: kexec; no capability",
        r#"join(" ", call("SYS_kexec_load", 0, 0, 0, 0), call("SYS_kexec_file_load", -1, -1, 0, 0, 0))"#,
        "EPERM EPERM",
    ),
    Attempt(
        "ending the machine",
        "seccomp: reboot; no capability",
        r#"call("SYS_reboot", 0xfee1dead, 672274793, 0, 0)"#,
        "EPERM",
    ),
    Attempt(
        "the machine's swap",
        "seccomp: swapon and swapoff; no capability",
        r#"my $path = "/tmp"; join(" ", call("SYS_swapon", $path, 0), call("SYS_swapoff", $path))"#,
        "EPERM EPERM",
    ),
    Attempt("accounting", "seccomp: acct; no capability", r#"call("SYS_acct", 0)"#, "EPERM"),
    Attempt(
        "quotas",
        "seccomp: quotactl and quotactl_fd",
        r#"join(" ", call("SYS_quotactl", -1, 1, 0, 0), call("SYS_quotactl_fd", -1, 0, 0, 0))"#,
        "EPERM EPERM",
    ),
    Attempt("the kernel's log", "seccomp: syslog", r#"call("SYS_syslog", 10, 0, 0)"#, "EPERM"),
    Attempt(
        "the machine's clock",
        "seccomp: four ways to set it",
        r#"my $nothing = "\0" x 256; join(" ", call("SYS_settimeofday", 1, 0), call("SYS_clock_settime", 0, 1),
               call("SYS_adjtimex", $nothing), call("SYS_clock_adjtime", 0, $nothing))"#,
        "EPERM EPERM EPERM EPERM",
    ),
    Attempt(
        "its names",
        "seccomp: sethostname and setdomainname; no capability",
        r#"my $name = "host"; join(" ", call("SYS_sethostname", $name, 4), call("SYS_setdomainname", $name, 4))"#,
        "EPERM EPERM",
    ),
    Attempt("hanging up terminals", "seccomp: vhangup; no capability", r#"call("SYS_vhangup")"#, "EPERM"),
    Attempt("watching all files", "seccomp: fanotify_init", r#"call("SYS_fanotify_init", 0x200, 0)"#, "EPERM"),
    Attempt(
        "placing memory",
        "seccomp: move_pages and migrate_pages",
        r#"join(" ", call("SYS_move_pages", 0, 0, 0, 0, 0, 0), call("SYS_migrate_pages", 0, 0, 0, 0))"#,
        "EPERM EPERM",
    ),
    #[cfg(target_arch = "x86_64")]
    Attempt(
        "ports of devices, and segments",
        "seccomp: iopl, ioperm, modify_ldt",
        r#"my $bytes = "\0" x 64; join(" ", call(172, 9), call(173, 70000, 1, 1), call(154, 0, $bytes, 64))"#,
        "EPERM EPERM EPERM",
    ),
    Attempt(
        "old ways to the file systems' lists",
        "seccomp: sysfs and ustat",
        r#"my $bytes = "\0" x 64; join(" ", call(139, 3, 0, 0), call(136, 0, $bytes))"#,
        "EPERM EPERM",
    ),
    Attempt(
        "tunables of the kernel",
        "/proc/sys is read-only and root's",
        r#"each_of(sub { opens("/proc/sys/$_", O_WRONLY) }, qw(kernel/core_pattern kernel/modprobe kernel/hostname
               kernel/randomize_va_space vm/overcommit_memory vm/drop_caches fs/file-max user/max_user_namespaces))"#,
        "EACCES|EACCES ENOENT",
    ),
    Attempt(
        "tunables of its network",
        "/proc/sys is read-only",
        r#"each_of(sub { opens("/proc/sys/net/$_", O_WRONLY) }, qw(ipv4/ip_forward core/somaxconn ipv4/ping_group_range))"#,
        "EACCES|EROFS",
    ),
    Attempt(
        "formats of programs",
        "binfmt_misc is not mounted, /proc/sys read-only",
        r#"opens("/proc/sys/fs/binfmt_misc/register", O_WRONLY)"#,
        "ENOENT|EACCES|EROFS",
    ),
    Attempt(
        "the magic request key",
        "/proc/sysrq-trigger is read-only and root's",
        r#"writes("/proc/sysrq-trigger", "h")"#,
        "EACCES|EROFS|ENOENT",
    ),
    Attempt(
        "interrupts and buses",
        "parts of /proc are read-only and root's",
        r#"each_of(sub { opens("/proc/$_", O_WRONLY) }, qw(irq/default_smp_affinity irq/0/smp_affinity scsi/scsi mtrr acpi/wakeup))"#,
        "EACCES ENOENT|EACCES EROFS ENOENT|ENOENT|EACCES EIO ENOENT",
    ),
    Attempt(
        "control groups",
        "/sys is empty, and no cgroup file system can be mounted",
        r#"each_of(sub { opens("/sys/fs/cgroup/$_", O_WRONLY) }, qw(cgroup.procs release_agent memory/memory.limit_in_bytes))"#,
        "ENOENT",
    ),
    Attempt(
        "what control groups tell",
        "a cgroup namespace of its own",
        r#"my %seen; open(my $file, "<", "/proc/self/cgroup"); for (<$file>) { chomp; $seen{(split /:/, $_, 3)[2]}++ } join(" ", keys %seen)"#,
        "/",
    ),
];
