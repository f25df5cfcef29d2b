//! Whole runs of the agent: a scripted model over real HTTP, commands and files in real sandboxes.

mod commands;
mod conversation;
mod faults;
mod files;
mod keeping;
mod limits;
mod reading;
mod resume;
mod vendors;
mod wires;
mod world;
