//! Why the store could not do something.

use carrel_domain::{AttachmentId, EnvironmentName, ImpossibleTransition, RepositoryLocation, VariableName};
use sea_orm::DbErr;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row in this organization.
    #[error("there is no such {noun}")]
    NotFound {
        /// What was looked for.
        noun: &'static str,
    },
    /// Somebody else changed the row in the meantime: read it again and decide again.
    #[error("the {noun} was changed by somebody else in the meantime")]
    Conflict {
        /// What was changed.
        noun: &'static str,
    },
    /// The diagram of states has no such arrow. Nothing was changed.
    #[error(transparent)]
    Impossible(#[from] ImpossibleTransition),
    /// The job that was worked on is somebody else's by now, or was asked for anew. Nothing was changed.
    #[error("the job is no longer this worker's: its lease ran out, or it was asked for anew")]
    ClaimLost,
    /// A row that does not say what its type needs.
    #[error("the database holds something this version does not understand ({what}); was it written by a newer one?")]
    Unreadable {
        /// Which value.
        what: String,
    },
    /// The schema has a change that this version does not know.
    #[error(
        "the database is from a newer version of Carrel: it has the change `{change}`, which this version does not know; \
         start that version again, or a newer one"
    )]
    Newer {
        /// The change.
        change: String,
    },
    /// There is no environment of this name.
    #[error("no environment `{name}`; create one with `carrel environment create {name}`")]
    UnknownEnvironment {
        /// The name.
        name: EnvironmentName,
    },
    /// The name is taken.
    #[error(
        "there is an environment `{name}` already; change it with `carrel environment edit {name}`, or choose another name"
    )]
    EnvironmentExists {
        /// The name.
        name: EnvironmentName,
    },
    /// There are as many as there may be.
    #[error("there are {most} environments, and no more can be made; delete one that is not used")]
    TooManyEnvironments {
        /// How many there may be.
        most: u32,
    },
    /// The environment is not for this repository.
    #[error("{}", not_covered(.name.as_ref(), .repository))]
    NotCovered {
        /// The environment that was chosen, if one was.
        name: Option<EnvironmentName>,
        /// The repository.
        repository: RepositoryLocation,
    },
    /// A task's environment was deleted since.
    #[error("the task's environment `{name}` was deleted; create a new task in another environment")]
    EnvironmentDeleted {
        /// What it was called.
        name: EnvironmentName,
    },
    /// There is no such attachment.
    #[error(
        "there is no attachment {id}; it was never uploaded, or it was collected for not having been used for a day"
    )]
    UnknownAttachment {
        /// Which one.
        id: AttachmentId,
    },
    /// An attempt hears nothing any more.
    #[error("the attempt is {state} and hears nothing any more; {}", instead_of_a_message(state))]
    TooLate {
        /// Where it stands.
        state: &'static str,
    },
    /// An attempt's agent has not taken up what it was told.
    #[error("{most} messages wait for the attempt already; wait until its agent has taken them up, or stop it")]
    TooManyMessages {
        /// How many may wait.
        most: u32,
    },
    /// Somebody has given more files than turns have taken.
    #[error(
        "{files} of your attachments, {bytes} bytes, wait for a task already; give them to one, or wait: what no task takes is removed after a day"
    )]
    TooManyAttachments {
        /// How many wait.
        files: u32,
        /// How long they are together.
        bytes: u64,
    },
    /// An attempt cannot be made again.
    #[error("{reason}")]
    NotRetried {
        /// Why, and the way out.
        reason: String,
    },
    /// The person may not.
    #[error("only owners of the organization may {what}; ask one of them")]
    OwnersOnly {
        /// What was asked for.
        what: &'static str,
    },
    /// Attempts run in the environment.
    #[error(
        "attempts are under way in the environment `{name}` ({attempts}); wait until they have ended, or stop them"
    )]
    EnvironmentInUse {
        /// What it is called.
        name: EnvironmentName,
        /// How many there are.
        attempts: u32,
    },
    /// The default environment stays.
    #[error("the environment `default` cannot be deleted; `carrel environment edit default` changes it")]
    DefaultEnvironment,
    /// A secret's value is no longer kept.
    #[error("the value of the secret `{name}` is no longer kept: its environment was changed or deleted; try again")]
    SecretGone {
        /// The secret.
        name: VariableName,
    },
    /// A secret's value cannot be sealed or opened.
    #[error(
        "the value of the secret `{name}` cannot be used: {reason}; put the key back into the file of keys and start the \
         service again, or give the secret a new value with `carrel environment edit`"
    )]
    SecretClosed {
        /// The secret.
        name: VariableName,
        /// Why.
        reason: String,
    },
    /// The folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Folder {
        /// The path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no room left. Nothing was changed.
    #[error("the disk of the data folder is full; free some space there")]
    DiskFull,
    /// Whoever keeps the artifacts cannot be used now.
    #[error("the artifact store {place} {problem}")]
    Artifacts {
        /// Which one.
        place: String,
        /// What it does, such as that it does not answer, and why.
        problem: String,
    },
    /// The bytes of an artifact are not there, or not what was kept.
    #[error("the artifact {sha256} in {place} {how}; put it back from a backup")]
    ArtifactLost {
        /// Where it was kept.
        place: String,
        /// The SHA-256 of its bytes.
        sha256: String,
        /// What became of it.
        how: &'static str,
    },
    /// A file of ours cannot be read or written.
    #[error("cannot keep a file: {0}")]
    File(std::io::Error),
    /// There is no database to work on.
    #[error("cannot use the database {place}: {reason}; does it run, and is DATABASE_URL right?")]
    NoDatabase {
        /// Where it should be.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The database refused.
    #[error("the database refused: {0}")]
    Database(DbErr),
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::File(error),
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        // SQLITE_FULL has this text of its own; the driver keeps the code to itself.
        if error.to_string().contains("database or disk is full") { Self::DiskFull } else { Self::Database(error) }
    }
}

fn not_covered(name: Option<&EnvironmentName>, repository: &RepositoryLocation) -> String {
    match name {
        Some(name) => format!(
            "the environment `{name}` does not cover `{repository}`; add it with `carrel environment edit {name} \
             --repository {repository}`, or choose another environment"
        ),
        None => format!(
            "no environment covers `{repository}`; create one with `carrel environment create NAME --repository \
             {repository}`, and choose it"
        ),
    }
}

/// Where an attempt stands that has said all it will, and has not ended.
pub(crate) const AT_ITS_END: &str = "at its end";

/// What to do with a message that comes too late.
fn instead_of_a_message(state: &str) -> &'static str {
    if state == AT_ITS_END {
        "say it once it has ended, with `carrel task follow-up`"
    } else {
        "say it in a follow-up, with `carrel task follow-up`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_to_an_attempt_that_has_ended_is_not_told_to_wait_for_its_end() {
        let ended = StoreError::TooLate { state: "ready" }.to_string();
        let ending = StoreError::TooLate { state: AT_ITS_END }.to_string();

        assert!(ended.ends_with("; say it in a follow-up, with `carrel task follow-up`"), "{ended}");
        assert!(ending.ends_with("; say it once it has ended, with `carrel task follow-up`"), "{ending}");
    }
}
