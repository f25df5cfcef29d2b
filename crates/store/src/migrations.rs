//! The schema's changes, oldest first. A migration is one change and works with yesterday's binary; one that has
//! landed is never edited.

use sea_orm_migration::async_trait::async_trait;
use sea_orm_migration::sea_orm::ConnectionTrait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

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
            Box::new(Script { name: "0013_sessions", sql: include_str!("migrations/0013_sessions.sql") }),
        ]
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
