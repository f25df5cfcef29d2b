//! `/attempts/{id}/publications`: patches on their way to a git remote.

pub(crate) mod create;
