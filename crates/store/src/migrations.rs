//! The schema's changes, oldest first. A migration is one change and works with yesterday's binary; one that has
//! landed is never edited.

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

use crate::StoreError;

/// All migrations.
pub(crate) struct Migrations;

impl MigratorTrait for Migrations {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Script { name: "0001_first", sql: include_str!("migrations/0001_first.sql") }),
            Box::new(Script { name: "0002_environments", sql: include_str!("migrations/0002_environments.sql") }),
            Box::new(Script { name: "0003_recipes", sql: include_str!("migrations/0003_recipes.sql") }),
            Box::new(Script { name: "0004_models", sql: include_str!("migrations/0004_models.sql") }),
            Box::new(Script { name: "0005_turns", sql: include_str!("migrations/0005_turns.sql") }),
            Box::new(Script { name: "0006_budgets", sql: include_str!("migrations/0006_budgets.sql") }),
            Box::new(Script { name: "0007_diffs", sql: include_str!("migrations/0007_diffs.sql") }),
            Box::new(Script { name: "0008_workers", sql: include_str!("migrations/0008_workers.sql") }),
            Box::new(Script { name: "0009_agents", sql: include_str!("migrations/0009_agents.sql") }),
            Box::new(Script { name: "0010_attachments", sql: include_str!("migrations/0010_attachments.sql") }),
            Box::new(Script { name: "0011_shares", sql: include_str!("migrations/0011_shares.sql") }),
            Box::new(Script { name: "0013_sessions", sql: include_str!("migrations/0013_sessions.sql") }),
            Box::new(Script { name: "0014_places", sql: include_str!("migrations/0014_places.sql") }),
            Box::new(Script { name: "0015_packed", sql: include_str!("migrations/0015_packed.sql") }),
            Box::new(Script { name: "0016_rests", sql: include_str!("migrations/0016_rests.sql") }),
        ]
    }
}

impl Migrations {
    /// The names of all of them, oldest first.
    pub(crate) fn names() -> Vec<String> {
        Self::migrations().iter().map(|migration| migration.name().to_owned()).collect()
    }

    /// The names of those that a database has had, which are all known, by age. Nothing is changed.
    pub(crate) async fn applied(connection: &impl ConnectionTrait) -> Result<Vec<String>, StoreError> {
        let backend = connection.get_database_backend();
        let is_there = match backend {
            DbBackend::Postgres => "select 1 as there where to_regclass('seaql_migrations') is not null",
            _ => "select 1 as there from sqlite_master where type = 'table' and name = 'seaql_migrations'",
        };
        if connection.query_one_raw(Statement::from_string(backend, is_there)).await?.is_none() {
            return Ok(Vec::new());
        }
        let sql = "select version from seaql_migrations order by version";
        let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await?;
        let mut applied = rows.iter().map(|row| row.try_get("", "version")).collect::<Result<Vec<String>, DbErr>>()?;
        let known = Self::names();
        match applied.iter().find(|name| !known.contains(name)) {
            Some(change) => Err(StoreError::Newer { change: change.clone() }),
            None => {
                applied.sort();
                Ok(applied)
            }
        }
    }
}

/// A migration that is a file of SQL.
struct Script {
    name: &'static str,
    sql: &'static str,
}

impl MigrationName for Script {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for Script {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.sql).await.map(drop)
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would take away, or ask for, something that yesterday's binary uses or does not know.
    fn faults(sql: &str) -> Vec<String> {
        let lines: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let statements = lines.join(" ").to_ascii_lowercase();
        let words = |statement: &str| format!(" {} ", statement.split_whitespace().collect::<Vec<_>>().join(" "));
        let is_fault = |statement: &String| {
            let begins = ["create table", "create index", "alter table", "update"];
            let takes_away =
                [" drop ", " rename ", " alter column ", " add constraint ", " add check ", " add unique "];
            let asks = statement.contains(" add column ")
                && (statement.contains(" not null") && !statement.contains(" default ")
                    || statement.contains(" unique "));
            !begins.iter().any(|begin| statement.trim_start().starts_with(begin))
                || takes_away.iter().any(|word| statement.contains(word))
                || asks
        };
        statements.split(';').map(words).filter(|statement| !statement.trim().is_empty()).filter(is_fault).collect()
    }

    #[test]
    fn every_migration_leaves_the_previous_binary_all_it_needs() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/migrations");

        let files = std::fs::read_dir(folder).expect("our own folder").flatten();
        let mut names: Vec<String> = Vec::new();
        for file in files {
            let sql = std::fs::read_to_string(file.path()).expect("our own file");
            assert_eq!(faults(&sql), Vec::<String>::new(), "{}", file.path().display());
            names.push(file.path().file_stem().expect("a name").to_string_lossy().into_owned());
        }

        names.sort();
        assert_eq!(names, Migrations::names(), "each of them is made, by age");
    }

    #[test]
    fn what_the_previous_binary_would_trip_over_is_seen() {
        for sql in [
            "drop table task",
            "alter table task drop column title",
            "alter table task rename to job",
            "alter table task alter column title set not null",
            "alter table task add column size bigint not null",
            "alter table task add column size bigint unique",
            "create unique index one on task (title)",
            "delete from task",
            "create table a (id uuid); -- and\ndrop\n  table b",
        ] {
            assert_eq!(faults(sql).len(), 1, "{sql}");
        }
        assert!(faults("-- drop\nalter table task add column size bigint not null default 0").is_empty());
    }
}
