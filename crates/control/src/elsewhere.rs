//! Repositories that are named by a path, where several machines work: what is not on this one may be on another. Its job is
//! passed on then, and who was asked in vain is said at the end.

use carrel_domain::{AttemptId, EventBody, NewEvent, OrganizationId, RepositoryLocation, Task};
use carrel_forge::ForgeError;
use carrel_store::{Passed, Store, StoreError};

use crate::Control;

/// What becomes of work whose repository is not on this machine.
pub(crate) enum Elsewhere {
    /// Another worker was told to look: the job is to be given back.
    PassedOn,
    /// No worker has it.
    Nowhere {
        /// Why not, for people.
        reason: String,
        /// Whether somebody had it who may come back.
        retryable: bool,
    },
}

/// Takes note that a repository that is named by a path is on this machine.
pub(crate) async fn is_here(
    control: &Control,
    store: &Store,
    organization: OrganizationId,
    location: &RepositoryLocation,
) -> Result<(), StoreError> {
    match location {
        RepositoryLocation::Path(_) => {
            store.repository_is_here(organization, location, control.inner.limits.gone_after).await
        }
        RepositoryLocation::Url(_) | RepositoryLocation::Scp { .. } => Ok(()),
    }
}

/// Whether an error says no more than that a path leads nowhere on this machine.
pub(crate) fn is_not_here(location: &RepositoryLocation, error: &ForgeError) -> bool {
    matches!(location, RepositoryLocation::Path(_))
        && matches!(error, ForgeError::NotFound { .. } | ForgeError::NotARepository { .. })
}

/// Passes the job that the store is held under on to a worker that may have its task's repository, and tells the log of the
/// attempt.
pub(crate) async fn pass_on(
    control: &Control,
    store: &Store,
    task: &Task,
    attempt: AttemptId,
    error: &ForgeError,
) -> Result<Elsewhere, StoreError> {
    if !store.is_shared() {
        return Ok(Elsewhere::Nowhere { reason: error.to_string(), retryable: false });
    }
    let (path, machine) = (&task.repository, &control.inner.machine);
    match store.pass_on(task, control.inner.limits.gone_after).await? {
        Passed::To(next) => {
            let message = format!(
                "there is no repository at `{path}` on the machine of the worker `{machine}`; left to the worker `{}`",
                next.name
            );
            let event = NewEvent { attempt: Some(attempt), body: EventBody::Warning { message } };
            store.append(task.organization, task.id, vec![event]).await?;
            Ok(Elsewhere::PassedOn)
        }
        Passed::Nobody { asked, had } => {
            let names: Vec<String> = asked.iter().map(|name| format!("`{name}`")).collect();
            let retryable = had.is_some();
            let had = had.map_or_else(String::new, |had| {
                format!("; the worker `{}` had it and was not heard of since {}", had.name, had.seen_at)
            });
            let reason = format!("{error} (looked for on the machines of the workers {}{had})", names.join(", "));
            Ok(Elsewhere::Nowhere { reason, retryable })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> [ForgeError; 2] {
        let location = "/srv/code/api".to_owned();
        [ForgeError::NotFound { location: location.clone() }, ForgeError::NotARepository { location }]
    }

    #[test]
    fn only_a_path_that_leads_nowhere_may_be_on_another_machine() {
        let path: RepositoryLocation = "/srv/code/api".parse().expect("a path");
        let url: RepositoryLocation = "https://git.example/code/api".parse().expect("a URL");

        for error in absent() {
            assert!(is_not_here(&path, &error), "{error}");
            assert!(!is_not_here(&url, &error), "{error}");
        }
        let broken = ForgeError::Unreachable { location: "/srv/code/api".to_owned(), words: "it hangs".to_owned() };
        assert!(!is_not_here(&path, &broken));
    }
}
