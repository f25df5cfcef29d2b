//! What `carrel-forge` promises, held against the real git program, a real HTTP backend and a real sshd.

mod bomb;
mod commit;
mod facts;
mod fetch;
mod hostile;
mod http;
mod push;
mod read;
mod resolve;
mod ssh;
mod support;
