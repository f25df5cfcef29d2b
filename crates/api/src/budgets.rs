//! `/budgets`: what may be spent in a calendar month, and what was.

pub(crate) mod list;
pub(crate) mod set;
