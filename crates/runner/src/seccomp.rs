//! The system calls nothing in a sandbox may make: the runner and all below it.
//!
//! A deny list in the manner of the container engines', which keeps programs working, closed where the kernel's
//! attack surface is widest. What is refused with ENOSYS makes programs take an older way; the rest gets EPERM.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch, apply_filter, sock_filter,
};

use crate::privileges::Inside;

/// Refused once the root stands: what making it takes.
const REFUSED_LATE: &[(libc::c_long, &str)] = &[
    (libc::SYS_mount, "changes what files are"),
    (libc::SYS_umount2, "uncovers what was masked"),
    (libc::SYS_pivot_root, "changes what files are"),
    (libc::SYS_open_tree, "mounts by descriptor"),
    (libc::SYS_move_mount, "mounts by descriptor"),
    (libc::SYS_mount_setattr, "makes read-only mounts writable"),
    (libc::SYS_unshare, "new user namespaces open most of the kernel's privileged code"),
    (libc::SYS_sethostname, "belongs to the sandbox's maker"),
];

/// Refused on the host's root besides. Root on a root of its own has the capability for it, which services that give
/// up privileges need; a root above the sandbox's is nowhere to be found.
const REFUSED_ON_HOST_ROOT: &[(libc::c_long, &str)] = &[(libc::SYS_chroot, "changes what files are")];

/// Refused from the start, whatever the arguments are.
const REFUSED: &[(libc::c_long, &str)] = &[
    (libc::SYS_fsopen, "mounts by descriptor"),
    (libc::SYS_fsconfig, "mounts by descriptor"),
    (libc::SYS_fsmount, "mounts by descriptor"),
    (libc::SYS_fspick, "mounts by descriptor"),
    (SYS_OPEN_TREE_ATTR, "mounts by descriptor"),
    (libc::SYS_setns, "enters other namespaces"),
    (libc::SYS_open_by_handle_at, "opens files outside the root"),
    (libc::SYS_name_to_handle_at, "makes handles for the call above"),
    (libc::SYS_bpf, "programs in the kernel"),
    (libc::SYS_perf_event_open, "wide, and sees other processes"),
    (libc::SYS_userfaultfd, "stops the kernel at will: a tool of exploits"),
    (libc::SYS_keyctl, "keyrings are not namespaced"),
    (libc::SYS_add_key, "keyrings are not namespaced"),
    (libc::SYS_request_key, "keyrings are not namespaced"),
    (libc::SYS_init_module, "code in the kernel"),
    (libc::SYS_finit_module, "code in the kernel"),
    (libc::SYS_delete_module, "code in the kernel"),
    (libc::SYS_kexec_load, "replaces the kernel"),
    (libc::SYS_kexec_file_load, "replaces the kernel"),
    (libc::SYS_reboot, "ends the machine"),
    (libc::SYS_swapon, "the machine's memory"),
    (libc::SYS_swapoff, "the machine's memory"),
    (libc::SYS_acct, "writes files as the kernel"),
    (libc::SYS_quotactl, "the host's file systems"),
    (libc::SYS_quotactl_fd, "the host's file systems"),
    (libc::SYS_syslog, "kernel log, with addresses"),
    (libc::SYS_settimeofday, "the machine's clock"),
    (libc::SYS_clock_settime, "the machine's clock"),
    (libc::SYS_clock_adjtime, "the machine's clock"),
    (libc::SYS_adjtimex, "the machine's clock"),
    (libc::SYS_setdomainname, "belongs to the sandbox's maker"),
    (libc::SYS_vhangup, "the terminal of others"),
    (libc::SYS_nfsservctl, "long gone"),
    (libc::SYS_lookup_dcookie, "profiling, with paths of others"),
    (libc::SYS_kcmp, "compares kernel pointers"),
    (libc::SYS_fanotify_init, "sees the file accesses of others"),
    (libc::SYS_move_pages, "places the memory of others"),
    (libc::SYS_migrate_pages, "places the memory of others"),
];

/// Refused as if this kernel did not have them, so that programs fall back.
const ABSENT: &[(libc::c_long, &str)] = &[
    (libc::SYS_clone3, "its flags lie in memory, where a filter cannot look; libraries fall back to clone"),
    (libc::SYS_io_uring_setup, "a second way to most system calls, past this filter"),
    (libc::SYS_io_uring_enter, "see above"),
    (libc::SYS_io_uring_register, "see above"),
];

/// Since Linux 6.15; not in libc yet.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// Only old x86 has these.
#[cfg(target_arch = "x86_64")]
const REFUSED_X86: &[(libc::c_long, &str)] = &[
    (libc::SYS_iopl, "ports of devices"),
    (libc::SYS_ioperm, "ports of devices"),
    (libc::SYS_modify_ldt, "segments: a tool of exploits"),
    (libc::SYS_uselib, "long gone"),
    (libc::SYS_ustat, "long gone"),
    (libc::SYS_sysfs, "long gone"),
    (libc::SYS__sysctl, "long gone"),
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_X86: &[(libc::c_long, &str)] = &[];

/// The flags of `clone` that ask for a namespace of its own.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Address families a program may open a socket of: all that the loopback device and local files need.
const SOCKET_FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Protocols of those families that hardly a program speaks, and whose code in the kernel is loaded when one asks.
const RARE_PROTOCOLS: &[libc::c_int] =
    &[libc::IPPROTO_DCCP, IPPROTO_L2TP, libc::IPPROTO_SCTP, libc::IPPROTO_UDPLITE, IPPROTO_SMC];

/// Not in libc yet.
const IPPROTO_L2TP: libc::c_int = 115;
const IPPROTO_SMC: libc::c_int = 256;

/// The old way to packets of the wire; deprecated in libc, alive in the kernel.
const SOCK_PACKET: u64 = 10;

/// The compiled filters, in two parts: loading the larger one takes a good part of a millisecond, which a parked
/// child has and a launch has not.
pub(crate) struct Filters {
    early: Vec<BpfProgram>,
    late: BpfProgram,
    late_for_root: BpfProgram,
}

impl Filters {
    /// Compiles them: once, in the launcher.
    pub(crate) fn compile() -> Result<Self, String> {
        let mut refused: BTreeMap<i64, Vec<Rule>> = all_of(&[REFUSED, REFUSED_X86]);
        refused.extend(refused_by_argument().map_err(|error| format!("cannot build the system call filter: {error}"))?);
        let refused = compile(refused, libc::EPERM)?;
        let absent = compile(all_of(&[ABSENT]), libc::ENOSYS)?;
        let sockets = foreign_sockets().map_err(|error| format!("cannot build the system call filter: {error}"))?;
        let sockets = compile(sockets, libc::EAFNOSUPPORT)?;
        Ok(Self {
            early: vec![foreign_numbers(), absent, refused, sockets],
            late: compile(all_of(&[REFUSED_LATE, REFUSED_ON_HOST_ROOT]), libc::EPERM)?,
            late_for_root: compile(all_of(&[REFUSED_LATE]), libc::EPERM)?,
        })
    }

    /// Puts on this process, for good, what does not hinder making a sandbox.
    pub(crate) fn apply_early(&self) -> Result<(), String> {
        self.early.iter().try_for_each(apply)
    }

    /// Puts on the rest.
    pub(crate) fn apply_late(&self, inside: Inside) -> Result<(), String> {
        apply(match inside {
            Inside::User => &self.late,
            Inside::Root => &self.late_for_root,
        })
    }
}

fn apply(filter: &BpfProgram) -> Result<(), String> {
    apply_filter(filter).map_err(|error| format!("cannot filter system calls: {error}"))
}

fn all_of(lists: &[&[(libc::c_long, &str)]]) -> BTreeMap<i64, Vec<Rule>> {
    lists.iter().flat_map(|list| list.iter()).map(|(number, _reason)| (*number, Vec::new())).collect()
}

fn refused_by_argument() -> Result<BTreeMap<i64, Vec<Rule>>, seccompiler::BackendError> {
    let mut rules = BTreeMap::new();
    let namespaces = (0..64).map(|bit| 1_u64 << bit).filter(|flag| NAMESPACES & flag != 0);
    let clone = namespaces.map(|flag| Rule::new(vec![Condition::new(0, Length::Qword, Op::MaskedEq(flag), flag)?]));
    rules.insert(libc::SYS_clone, clone.collect::<Result<_, _>>()?);

    // The type's low four bits; the rest is SOCK_NONBLOCK and SOCK_CLOEXEC.
    let raw = Rule::new(vec![Condition::new(1, Length::Dword, Op::MaskedEq(0xf), libc::SOCK_RAW as u64)?])?;
    let packet = Rule::new(vec![Condition::new(1, Length::Dword, Op::MaskedEq(0xf), SOCK_PACKET)?])?;
    rules.insert(libc::SYS_socket, vec![raw, packet]);

    // Two write into the input of a terminal, as if its user had typed; the third loads protocols of modems and buses.
    let terminals = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD]
        .map(|call| Rule::new(vec![Condition::new(1, Length::Dword, Op::Eq, call)?]));
    rules.insert(libc::SYS_ioctl, terminals.into_iter().collect::<Result<_, _>>()?);

    // Only the common personality, asking for it, and switching address randomisation off, which debuggers do.
    let usual = [0, 0xffff_ffff, 0x0004_0000].map(|persona| Condition::new(0, Length::Dword, Op::Ne, persona));
    rules.insert(libc::SYS_personality, vec![Rule::new(usual.into_iter().collect::<Result<_, _>>()?)?]);

    // Commands run as the runner's user: they may change limits of their own, not the runner's.
    rules.insert(libc::SYS_prlimit64, vec![Rule::new(vec![Condition::new(0, Length::Dword, Op::Eq, 1)?])?]);
    Ok(rules)
}

/// Netlink, packet, vsock and the many rare families: vsock would reach a hypervisor, the others old kernel code.
/// Refused as if this kernel did not have them: `useradd` and `su` give up on any other error from the audit system.
fn foreign_sockets() -> Result<BTreeMap<i64, Vec<Rule>>, seccompiler::BackendError> {
    let foreign = SOCKET_FAMILIES.iter().map(|family| Condition::new(0, Length::Dword, Op::Ne, *family as u64));
    let foreign = Rule::new(foreign.collect::<Result<_, _>>()?)?;
    let mut sockets = vec![foreign.clone()];
    for protocol in RARE_PROTOCOLS {
        sockets.push(Rule::new(vec![Condition::new(2, Length::Dword, Op::Eq, *protocol as u64)?])?);
    }
    Ok(BTreeMap::from([(libc::SYS_socket, sockets), (libc::SYS_socketpair, vec![foreign])]))
}

fn compile(rules: BTreeMap<i64, Vec<Rule>>, errno: i32) -> Result<BpfProgram, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), architecture);
    filter.and_then(BpfProgram::try_from).map_err(|error| format!("cannot build the system call filter: {error}"))
}

/// Refuses the x32 numbers, which share their architecture with x86-64 but not its table. Calls of another
/// architecture (i386) end the process: `seccompiler` begins each of its filters with that check.
fn foreign_numbers() -> BpfProgram {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const X32_BIT: u32 = 0x4000_0000;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        instruction(LOAD_NUMBER, 0, 0, 0),
        instruction(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
