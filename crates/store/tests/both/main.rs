//! What holds on SQLite and on PostgreSQL alike: every test runs on both.
#![expect(clippy::duplicate_mod, reason = "each file is compiled once for each database")]

mod archive;
mod place;

#[path = "artifacts.rs"]
mod artifacts_on_postgres;
#[path = "artifacts.rs"]
mod artifacts_on_sqlite;
#[path = "attachments.rs"]
mod attachments_on_postgres;
#[path = "attachments.rs"]
mod attachments_on_sqlite;
#[path = "budgets.rs"]
mod budgets_on_postgres;
#[path = "budgets.rs"]
mod budgets_on_sqlite;
#[path = "claims.rs"]
mod claims_on_postgres;
#[path = "claims.rs"]
mod claims_on_sqlite;
#[path = "environments.rs"]
mod environments_on_postgres;
#[path = "environments.rs"]
mod environments_on_sqlite;
#[path = "histories.rs"]
mod histories_on_postgres;
#[path = "histories.rs"]
mod histories_on_sqlite;
#[path = "places.rs"]
mod places_on_postgres;
#[path = "places.rs"]
mod places_on_sqlite;
#[path = "shares.rs"]
mod shares_on_postgres;
#[path = "shares.rs"]
mod shares_on_sqlite;
#[path = "store.rs"]
mod store_on_postgres;
#[path = "store.rs"]
mod store_on_sqlite;
#[path = "tails.rs"]
mod tails_on_postgres;
#[path = "tails.rs"]
mod tails_on_sqlite;
#[path = "transfer.rs"]
mod transfer_on_postgres;
#[path = "transfer.rs"]
mod transfer_on_sqlite;
#[path = "turmoil.rs"]
mod turmoil_on_postgres;
#[path = "turmoil.rs"]
mod turmoil_on_sqlite;
#[path = "turns.rs"]
mod turns_on_postgres;
#[path = "turns.rs"]
mod turns_on_sqlite;
