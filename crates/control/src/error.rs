//! Why something that was asked for is refused.

use carrel_store::StoreError;

/// A refusal, as something the asker can act on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// One field of what was asked makes no sense here.
    #[error("{message}")]
    Invalid {
        /// The field, as the API names it.
        field: &'static str,
        /// What is wrong, and the way out.
        message: String,
    },
    /// It does not fit how things stand now.
    #[error("{0}")]
    NotNow(String),
    /// What may be spent is spent.
    #[error("{0}")]
    Exhausted(String),
    /// No model can be given tasks.
    #[error("{0}")]
    NoModel(String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ControlError {
    pub(crate) fn invalid(field: &'static str, message: impl ToString) -> Self {
        Self::Invalid { field, message: message.to_string() }
    }
}
