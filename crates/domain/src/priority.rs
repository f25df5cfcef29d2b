//! Which of a person's tasks go before others of the same person.

use serde::{Deserialize, Serialize};

/// A task's priority among those of whoever asked for it. It takes nothing from other people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Behind the others.
    Low,
    /// As everything is of which nothing else is said.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// As a number that sorts.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Low => -1,
            Self::Normal => 0,
            Self::High => 1,
        }
    }

    /// What a number stands for, whatever a newer version may have written.
    #[must_use]
    pub const fn of(number: i64) -> Self {
        match number {
            ..=-1 => Self::Low,
            0 => Self::Normal,
            1.. => Self::High,
        }
    }

    /// The priority as one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_read_as_it_was_written() {
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            assert_eq!(Priority::of(priority.number()), priority);
        }
        assert!(Priority::Low < Priority::High);
    }
}
