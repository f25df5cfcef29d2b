//! Programs that stand in for the outside world, and the [`World`](world::World) that tests stand in: the real `carrel`,
//! run as a process, between a scripted model server and real git repositories.

pub mod forge;
pub mod git_server;
pub mod model;
pub mod postgres;
pub mod repository;
pub mod s3;
pub mod world;

pub use postgres::Postgres;
pub use repository::Repository;
pub use s3::{S3, SigningS3};
pub use world::{Ran, World};

/// Waits for something that another program does and nobody tells of, such as a file it writes.
///
/// # Panics
/// When it does not come to be in time.
pub fn wait_for(patience: std::time::Duration, what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + patience;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
