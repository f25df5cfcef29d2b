//! Programs that stand in for the outside world, and the [`World`](world::World) that tests stand in: the real `carrel`,
//! run as a process, between a scripted model server and real git repositories.

pub mod model;
pub mod repository;
pub mod world;

pub use repository::Repository;
pub use world::{Ran, World};
