//! `/attachments`: files that people give with a prompt.

pub(crate) mod create;
pub(crate) mod show;
