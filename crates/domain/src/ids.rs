//! Typed ids: a UUID that says what it names, so that a task's id cannot be passed for an attempt's.
//!
//! New ids are made where chance may be asked for (`carrel-store`), as UUID version 7: they sort by age.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is not a UUID where an id was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {noun} id; ids look like 0198c1de-7a3b-7c4e-9d5f-0123456789ab")]
pub struct InvalidId {
    noun: &'static str,
    text: String,
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident = $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to name one of these.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { noun: $noun, text: text.chars().take(80).collect() })
            }
        }
    )*};
}

id! {
    /// A tenant.
    OrganizationId = "organization";
    /// A person with an account.
    UserId = "user";
    /// A program's bearer token.
    TokenId = "token";
    /// A browser's session.
    SessionId = "session";
    /// A git repository an organization works on.
    RepositoryId = "repository";
    /// How a sandbox is prepared.
    EnvironmentId = "environment";
    /// A prepared environment, kept as a layer.
    SnapshotId = "snapshot";
    /// One thing delegated.
    TaskId = "task";
    /// One prompt of a task and what came of it.
    TurnId = "turn";
    /// One agent's run at a turn.
    AttemptId = "attempt";
    /// The isolated place one attempt runs in.
    SandboxId = "sandbox";
    /// One patch put on a git remote.
    PublicationId = "publication";
    /// What a person says to an attempt while it works.
    MessageId = "message";
    /// A file that a person gave.
    AttachmentId = "attachment";
    /// What may be spent: the UUID is that of the organization or the person.
    BudgetId = "budget";
    /// One piece of work in the queue.
    JobId = "job";
    /// A process that works on jobs, with the machine it is on.
    WorkerId = "worker";
}

impl AttemptId {
    /// The sandbox of this attempt. There is exactly one, so it has the same UUID: after a crash it is found
    /// without having been written down.
    #[must_use]
    pub const fn sandbox(self) -> SandboxId {
        SandboxId(self.0)
    }

    /// The sandbox in which this attempt builds the snapshot it needs, if there is none yet. Its UUID differs in the
    /// version alone, so it is nobody else's.
    #[must_use]
    pub const fn builder(self) -> SandboxId {
        SandboxId(Uuid::from_u128(self.0.as_u128() ^ (0xF << 76)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_way_through_text() {
        let id = TaskId::from_uuid(Uuid::from_u128(7));

        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_wrong_id_is_named_with_its_noun() {
        let error = "x".repeat(200).parse::<AttemptId>().expect_err("not a UUID");

        assert!(error.to_string().contains("is no attempt id"), "{error}");
        assert!(error.to_string().len() < 200, "the text is cut: {error}");
    }
}
