//! Measurements, each against the best peers in the same run.

pub mod sandbox;
pub mod turn;
