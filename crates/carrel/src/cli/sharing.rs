//! Words of the command line about who does what first.

use carrel_store::Role;
use carrel_wire::Priority;
use clap::ValueEnum;

/// What a process does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArgument {
    /// Everything
    All,
    /// Serve people and programs, and leave the work to others
    Api,
    /// Work, and serve only /healthz, /readyz and /metrics
    Worker,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::All => Self::All,
            RoleArgument::Api => Self::Api,
            RoleArgument::Worker => Self::Worker,
        }
    }
}

/// Which of a person's tasks go before others of the same person.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PriorityArgument {
    /// Behind the others
    Low,
    /// By age
    Normal,
    /// Before the others
    High,
}

impl From<PriorityArgument> for Priority {
    fn from(priority: PriorityArgument) -> Self {
        match priority {
            PriorityArgument::Low => Self::Low,
            PriorityArgument::Normal => Self::Normal,
            PriorityArgument::High => Self::High,
        }
    }
}
