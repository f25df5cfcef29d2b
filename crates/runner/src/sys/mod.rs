//! System calls that neither `std` nor `nix` offers safely. Everything unsafe in Carrel is below this module.

pub(crate) mod landlock;
pub(crate) mod mount;
pub(crate) mod privilege;
pub(crate) mod process;
