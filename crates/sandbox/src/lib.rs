//! Launch, reattach, run, read, write and destroy sandboxes over a runner's stream.
