//! `/attempts`: the agents' runs and what they leave.

pub(crate) mod artifact;
pub(crate) mod artifacts;
pub(crate) mod cancel;
pub(crate) mod message;
pub(crate) mod patch;
pub(crate) mod retry;
pub(crate) mod terminal;
