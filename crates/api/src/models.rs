//! The models tasks may be given to.

pub(crate) mod list;
