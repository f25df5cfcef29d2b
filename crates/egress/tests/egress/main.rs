//! The egress suite: what a hostile program in a sandbox may try at the policy proxy, over real sockets against real
//! servers. Each line of a table is refused with an answer or an alert, nothing of it reaches a server, and the decision
//! is told; beside them stands what has to work, so that a proxy that refuses everything fails as well.

mod allowed;
mod destinations;
mod door;
mod downloads;
mod framing;
mod limits;
mod machine;
mod methods;
mod secrets;
mod server;
mod streams;
mod tls;
mod tools;
mod trust;
mod world;
