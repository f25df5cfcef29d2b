//! Whole runs of the agent: a scripted model over real HTTP, commands and files in real sandboxes.

mod answers;
mod commands;
mod compaction;
mod conversation;
mod doors;
mod faults;
mod files;
mod guests;
mod keeping;
mod limits;
mod reading;
mod resume;
mod steering;
mod vendors;
mod wires;
mod world;
