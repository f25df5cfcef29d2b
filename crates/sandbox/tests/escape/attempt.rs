//! What an attempt is, and the small language the attempts are written in: Perl, which every Debian has, with raw
//! system calls.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use carrel_sandbox::{Command, Sandbox};
use nix::libc;

/// What is tried, what must stop it, the program, and how it must end.
///
/// The outcome is what the program prints; `a|b` is one of two. `; own root: x` is another outcome where commands are
/// root on a root of their own, `; ordinary: x` where the service is an ordinary user.
pub(crate) struct Attempt(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

/// Where attempts are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether commands are root on a root of their own.
    pub(crate) own_root: bool,
    /// Whether the service is an ordinary user.
    pub(crate) ordinary: bool,
}

impl Attempt {
    fn expected(&self, place: Place) -> Vec<&'static str> {
        let mut chosen = "";
        for part in self.3.split("; ") {
            let (applies, outcome) = match part.split_once(": ") {
                Some(("own root", outcome)) => (place.own_root, outcome),
                Some(("ordinary", outcome)) => (place.ordinary, outcome),
                _ => (true, part),
            };
            if applies {
                chosen = outcome;
            }
        }
        chosen.split('|').collect()
    }
}

/// Makes each attempt in a process of its own, and tells of those that did not end as they must.
pub(crate) async fn hold(
    sandbox: &Sandbox,
    place: Place,
    host: &[(&str, String)],
    attempts: &[Attempt],
) -> Vec<String> {
    let mut surprises = Vec::new();
    for attempt in attempts {
        let outcome = try_it(sandbox, host, attempt.2).await;
        if !attempt.expected(place).contains(&outcome.as_str()) {
            let Attempt(name, control, _, expected) = attempt;
            surprises.push(format!("{name}: {outcome:?} instead of {expected:?} (control: {control})"));
        }
    }
    surprises
}

/// Runs one program, and gives what it prints.
pub(crate) async fn try_it(sandbox: &Sandbox, host: &[(&str, String)], program: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("attempt-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let text = format!("{}\nprint do {{ {program} }};", prelude(host));
    let command = Command::new(id, ["perl", "-e", &text]).time_limit(Duration::from_secs(30));
    match sandbox.run(command).await {
        Ok(finished) => String::from_utf8_lossy(&finished.output).trim_end().to_owned(),
        Err(error) => format!("not run: {error}"),
    }
}

/// The functions of attempts. `call` makes a system call; it and the others give `ok`, what they found, or the error.
const FUNCTIONS: &str = r#"
    use strict; use Socket qw(:DEFAULT pack_sockaddr_in); use Fcntl; use POSIX (); use Errno ();
    $| = 1; $SIG{PIPE} = "IGNORE";
    our (%nr, %host);
    sub name {
        my $error = $_[0] + 0;
        for my $name (sort keys %!) { no strict "refs"; return $name if &{"Errno::$name"}() == $error }
        return "errno $error";
    }
    sub call {
        my $number = shift;
        $number = $nr{$number} || die "no number of $number" unless $number =~ /^\d/;
        $! = 0;
        return syscall($number, @_) == -1 ? name($!) : "ok";
    }
    sub opens { my ($path, $flags) = @_; return sysopen(my $file, $path, $flags) ? "ok" : name($!) }
    sub reads {
        sysopen(my $file, $_[0], O_RDONLY | O_NONBLOCK) or return name($!);
        my $count = sysread($file, my $bytes, 400);
        return !defined($count) ? name($!) : $count ? "data: $bytes" : "empty";
    }
    sub writes {
        my ($path, $text) = @_;
        sysopen(my $file, $path, O_WRONLY | O_NONBLOCK) or return name($!);
        return defined(syswrite($file, $text)) ? "written" : name($!);
    }
    sub links { my $to = readlink($_[0]); return defined($to) ? "-> $to" : name($!) }
    sub lists {
        opendir(my $folder, $_[0]) or return name($!);
        return join(" ", sort grep { !/^\.\.?$/ } readdir($folder)) || "empty";
    }
    sub each_of {
        my ($act, @all) = @_; my %seen;
        for my $one (@all) { my @found = map { $act->($_) } $one; $seen{$_}++ for @found }
        return join(" ", sort keys %seen);
    }
    sub dials {
        my ($family, $type, $address) = @_;
        socket(my $socket, $family, $type, 0) or return "socket: " . name($!);
        if ($type == SOCK_DGRAM) { return defined(send($socket, "x", 0, $address)) ? "ok" : name($!) }
        return connect($socket, $address) ? "ok" : name($!);
    }
    sub mounts {
        my ($is_wanted) = @_; my %seen;
        open(my $file, "<", "/proc/self/mounts") or return name($!);
        for (<$file>) { my (undef, $at, undef, $options) = split / /; $seen{$at}++ if $is_wanted->($at, ",$options,") }
        return join(" ", sort keys %seen);
    }
    sub says { my $text = `$_[0] 2>&1`; chomp $text; return $text }
    sub terminal {
        sysopen(my $master, "/dev/ptmx", O_RDWR | O_NOCTTY) or die "ptmx: $!";
        my $locked = pack("i", 0);
        ioctl($master, 0x40045431, $locked) or die "unlock: $!";
        my $number = pack("i", 0); ioctl($master, 0x80045430, $number) or die "number: $!";
        POSIX::setsid(); $SIG{HUP} = "IGNORE";
        sysopen(my $slave, "/dev/pts/" . unpack("i", $number), O_RDWR) or die "slave: $!";
        return ($master, $slave);
    }
"#;

fn prelude(host: &[(&str, String)]) -> String {
    let mut text = FUNCTIONS.to_owned();
    for (name, number) in NUMBERS {
        let _infallible = write!(text, "$nr{{{name}}} = {number}; ");
    }
    for (name, value) in host {
        let _infallible = write!(text, "$host{{{name}}} = q\u{1}{value}\u{1}; ");
    }
    text
}

macro_rules! numbers {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// The numbers of the system calls that attempts make, by name.
const NUMBERS: &[(&str, libc::c_long)] = numbers! {
    SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_open_tree
    SYS_move_mount SYS_mount_setattr SYS_unshare SYS_setns SYS_clone SYS_clone3 SYS_name_to_handle_at
    SYS_open_by_handle_at SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_pidfd_open SYS_pidfd_getfd
    SYS_kcmp SYS_prlimit64 SYS_keyctl SYS_add_key SYS_request_key SYS_bpf SYS_perf_event_open SYS_userfaultfd
    SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_init_module SYS_finit_module SYS_delete_module
    SYS_kexec_load SYS_kexec_file_load SYS_reboot SYS_swapon SYS_swapoff SYS_acct SYS_quotactl SYS_quotactl_fd
    SYS_syslog SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname
    SYS_vhangup SYS_fanotify_init SYS_move_pages SYS_migrate_pages SYS_personality SYS_prctl SYS_capset SYS_setresuid
    SYS_setgroups SYS_mknodat SYS_setxattr SYS_linkat SYS_memfd_create SYS_execveat SYS_kill SYS_tgkill
    SYS_process_madvise SYS_setrlimit SYS_fchmodat SYS_fchownat SYS_unlinkat SYS_renameat SYS_shmget SYS_msgget
    SYS_mq_open SYS_sched_setscheduler SYS_ioctl
};
