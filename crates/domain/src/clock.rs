//! Time, handed in: `carrel` brings the system's clock, tests bring one they move themselves.

use std::sync::Arc;

use jiff::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// A clock that several owners read.
pub type SharedClock = Arc<dyn Clock>;
