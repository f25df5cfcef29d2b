//! Whole runs of the agent: a scripted model over real HTTP, commands and files in real sandboxes.

mod commands;
mod conversation;
mod faults;
mod files;
mod limits;
mod resume;
mod world;
