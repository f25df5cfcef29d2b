//! Process 1 of every sandbox, the launcher that isolates it, and the frames of its protocol.
