//! Time, handed in: `carrel` brings the system's clock, tests bring one they move themselves.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// How much time has passed since some moment, whatever the clock was set to meanwhile. Of one that is never set, the time
    /// itself says so.
    fn passed(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now().as_millisecond()).unwrap_or_default())
    }
}

/// A clock that several owners read.
pub type SharedClock = Arc<dyn Clock>;
