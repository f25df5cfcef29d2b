//! The agents tasks may be given to.

pub(crate) mod list;
