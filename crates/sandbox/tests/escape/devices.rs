//! Devices, and the calls that file systems and terminals take.

use super::attempt::Attempt;

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt(
        "which devices there are",
        "a /dev of its own",
        r#"lists("/dev")"#,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero",
    ),
    Attempt(
        "memory and ports",
        "not in /dev",
        r#"each_of(sub { opens("/dev/$_", O_RDWR) }, qw(mem kmem port kmsg cpu/0/msr hpet nvram))"#,
        "ENOENT",
    ),
    Attempt(
        "disks",
        "not in /dev",
        r#"each_of(sub { opens("/dev/$_", O_RDONLY) }, qw(sda vda xvda nvme0n1 loop0 loop-control mapper/control dm-0 sr0))"#,
        "ENOENT",
    ),
    Attempt(
        "virtual machines and file systems of its own",
        "not in /dev",
        r#"each_of(sub { opens("/dev/$_", O_RDWR) }, qw(kvm fuse vhost-net vhost-vsock vsock vfio/vfio userfaultfd uinput))"#,
        "ENOENT",
    ),
    Attempt(
        "consoles",
        "not in /dev",
        r#"each_of(sub { opens("/dev/$_", O_RDWR) }, qw(console tty0 tty1 vcs vcsa ttyS0 hvc0))"#,
        "ENOENT",
    ),
    Attempt(
        "making a device of memory",
        "no CAP_MKNOD over the host; Landlock, where there",
        r#"each_of(sub { my $at = "/tmp/mem-$$"; call("SYS_mknodat", -100, $at, 0020666, $_) }, 0x101, 0x102, 0x10b, 0xa00 | 232)"#,
        "EPERM|EACCES",
    ),
    Attempt(
        "making a device of a disk",
        "no CAP_MKNOD over the host; Landlock, where there",
        r#"each_of(sub { my $at = "/tmp/disk-$$"; call("SYS_mknodat", -100, $at, 0060666, $_) }, 0x800, 0x700, 0xfe00)"#,
        "EPERM|EACCES",
    ),
    Attempt(
        "putting something into /dev",
        "a read-only /dev",
        r#"opens("/dev/new", O_WRONLY | O_CREAT)"#,
        "EACCES|EROFS",
    ),
    Attempt(
        "changing a device for all",
        "devices are the host's, on a read-only mount",
        r#"my $path = "/dev/null"; call("SYS_fchmodat", -100, $path, 0777)"#,
        "EPERM|EROFS",
    ),
    Attempt(
        "the machine's randomness",
        "no capability",
        r#"open(my $file, "<", "/dev/urandom"); each_of(sub { my $count = pack("i2", 8, 0); ioctl($file, $_, $count) ? "ok" : name($!) }, 0x40045201, 0x5206)"#,
        "EPERM",
    ),
    Attempt(
        "freezing and trimming the file system",
        "no capability",
        r#"open(my $file, "<", "/tmp"); each_of(sub { my $range = pack("Q3", 0, -1, 0); ioctl($file, $_, $range) ? "ok" : name($!) },
               0xC0045877, 0xC0045878, 0xC0185879)"#,
        "EPERM|ENOTTY|ENOTTY EPERM",
    ),
    Attempt(
        "files that cannot be removed",
        "no capability",
        r#"open(my $file, ">", "/tmp/fixed-$$"); each_of(sub { my $flags = pack("L!", $_); ioctl($file, 0x40086602, $flags) ? "ok" : name($!) }, 0x10, 0x20)"#,
        "EPERM|ENOTTY",
    ),
    Attempt(
        "another project's quota",
        "projects are the host's to give",
        r#"open(my $file, ">", "/tmp/project-$$"); my $attributes = pack("I4 I x8", 0, 0, 0, 77, 0); ioctl($file, 0x401c5820, $attributes) ? "ok" : name($!)"#,
        "EINVAL|EPERM|ENOTTY|ENOTSUP",
    ),
    Attempt("another's terminal", "no terminal is its own at the start", r#"opens("/dev/tty", O_RDWR)"#, "ENXIO"),
];
