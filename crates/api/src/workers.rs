//! The processes that an installation consists of.

pub(crate) mod list;
