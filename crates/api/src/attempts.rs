//! `/attempts`: the agents' runs and what they leave.

pub(crate) mod artifact;
pub(crate) mod artifacts;
pub(crate) mod cancel;
pub(crate) mod patch;
pub(crate) mod terminal;
