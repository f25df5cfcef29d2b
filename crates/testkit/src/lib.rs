//! Programs that stand in for the outside world, and the World that tests stand in.

pub mod model;
