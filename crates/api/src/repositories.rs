//! `/repositories`: what was worked on.

pub(crate) mod list;
