//! A second lock on what the namespaces and the system call filter close already, by another part of the kernel.
//!
//! Whoever gets past the filter still makes no device nodes, changes no mounts, commands no device but those of the
//! sandbox's own `/dev`, and reaches no process or abstract socket outside. What programs do with files stays as free
//! as it was: the rights that are not named here are not looked at.

use landlock::{
    Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};

/// Locks this process and all it will start. A kernel without Landlock, or with one so old that it would forbid to
/// rename files from one folder to another, changes nothing.
pub(crate) fn restrict() -> Result<(), String> {
    if version().unwrap_or(0) < USABLE_FROM {
        return Ok(());
    }
    let open = |path: &str| PathFd::new(path).map_err(|error| format!("cannot open `{path}` for Landlock: {error}"));
    apply(open("/")?, open("/dev")?).map_err(|error| format!("cannot lock with Landlock: {error}"))
}

/// The version of the kernel's Landlock, or why there is none.
pub(crate) fn version() -> Result<i64, nix::errno::Errno> {
    crate::sys::landlock::version()
}

/// The first version that lets files be renamed across folders.
pub(crate) const USABLE_FROM: i64 = 2;

fn apply(root: PathFd, devices: PathFd) -> Result<(), RulesetError> {
    let nodes: BitFlags<AccessFs> = AccessFs::MakeChar | AccessFs::MakeBlock;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(nodes | AccessFs::Refer | AccessFs::IoctlDev)?
        .scope(Scope::from_all(landlock::ABI::V6))?
        .create()?;
    ruleset
        .add_rule(PathBeneath::new(root, AccessFs::Refer))?
        .add_rule(PathBeneath::new(devices, AccessFs::IoctlDev))?
        .restrict_self()
        .map(drop)
}
