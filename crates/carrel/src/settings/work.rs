//! What a process does, and how it shares the work with others.

use std::ffi::OsString;

use carrel_store::Role;

use super::{InvalidSetting, Settings, Variables, invalid};

/// What is said of the process as a worker among others.
#[derive(Debug, Clone)]
pub(crate) struct WorkSettings {
    /// What it does.
    pub(crate) role: Role,
    /// What others on the same database know it by.
    pub(crate) name: String,
    /// After how many seconds without a sign of life a worker is gone; nothing when nothing was said.
    pub(crate) gone_s: Option<usize>,
    /// How many seconds this one may be away when it was stopped; nothing when nothing was said.
    pub(crate) return_s: Option<usize>,
    /// Attempts at once of one person who has no limit of their own.
    pub(crate) attempts_per_person: Option<usize>,
    /// Attempts at once of one organization that has no limit of its own.
    pub(crate) attempts_per_organization: Option<usize>,
}

impl<L: Fn(&str) -> Option<OsString>> Variables<L> {
    pub(super) fn work(&self) -> Result<WorkSettings, InvalidSetting> {
        let role = match self.text("CARREL_ROLE")? {
            None => Role::All,
            Some(word) => {
                Role::of(&word).ok_or_else(|| invalid("CARREL_ROLE", "is none of `all`, `api` and `worker`"))?
            }
        };
        Ok(WorkSettings {
            role,
            name: self.text("CARREL_WORKER_NAME")?.unwrap_or_else(host_name),
            gone_s: self.positive("CARREL_WORKER_GONE_SECONDS")?,
            return_s: self.positive("CARREL_WORKER_RETURN_SECONDS")?,
            attempts_per_person: self.positive("CARREL_ATTEMPTS_PER_PERSON")?,
            attempts_per_organization: self.positive("CARREL_ATTEMPTS_PER_ORGANIZATION")?,
        })
    }
}

impl Settings {
    /// Refuses a role that needs other processes where there can be none.
    ///
    /// # Errors
    /// When the role is only a part of the work, and the database is this process's own.
    pub(crate) fn check_role(&self) -> Result<(), InvalidSetting> {
        let role = self.work.role;
        if role == Role::All || self.postgres()?.is_some() {
            return Ok(());
        }
        let word = role.word();
        Err(invalid(
            "CARREL_ROLE",
            &format!(
                "(or --role) is `{word}`, which leaves a part of the work to other processes, and SQLite is for one alone; set \
                 DATABASE_URL to a PostgreSQL database that all of them use, or take the role `all`"
            ),
        ))
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "worker".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Settings::from_lookup(lookup).expect("settings")
    }

    #[test]
    fn a_part_of_the_work_needs_a_database_that_others_use_too() {
        let url = ("DATABASE_URL", "postgres://carrel@localhost/carrel");

        for role in ["api", "worker"] {
            let alone = settings(&[("CARREL_ROLE", role)]).check_role().expect_err("nobody does the rest").to_string();
            assert!(alone.starts_with("CARREL_ROLE") && alone.contains("DATABASE_URL"), "{alone}");
            assert_eq!(settings(&[("CARREL_ROLE", role), url]).check_role(), Ok(()));
        }
        assert_eq!(settings(&[]).check_role(), Ok(()));
    }
}
