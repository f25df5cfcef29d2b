//! A database as a whole: looked at as it was at one moment, or filled and brought forward in one transaction. Nothing else
//! of the store is needed for either, and a service may be at work on it.

use std::path::Path;

use carrel_domain::Secret;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use sea_orm_migration::MigratorTrait;

use super::{Row, StoreError, Transaction, Values, postgres, sqlite, statement};
use crate::migrations::Migrations;

/// A transaction about everything. It is rolled back when it is dropped.
pub(crate) struct Whole {
    pub(crate) transaction: Transaction,
    connection: DatabaseConnection,
}

impl Whole {
    /// What is in the database now, whatever happens to it meanwhile; nothing is changed. None: there is no database yet.
    pub(crate) async fn look(file: &Path, postgres: Option<&Secret>) -> Result<Option<Self>, StoreError> {
        let (connection, inner) = match postgres {
            Some(url) => postgres::look(url).await?,
            None if file.is_file() => sqlite::look(file).await?,
            None => return Ok(None),
        };
        Ok(Some(Self { transaction: Transaction { inner, turn: None, lasts: false }, connection }))
    }

    /// The database for whoever changes all of it, made when it is not there. Others wait until this is over.
    pub(crate) async fn fill(file: &Path, postgres: Option<&Secret>) -> Result<Self, StoreError> {
        let (connection, inner) = match postgres {
            Some(url) => postgres::fill(url).await?,
            None => sqlite::fill(file).await?,
        };
        Ok(Self { transaction: Transaction { inner, turn: None, lasts: false }, connection })
    }

    /// The names of the schema's changes that were made, all of which this version knows, and how many there are more.
    pub(crate) async fn changes_made(&self) -> Result<Vec<String>, StoreError> {
        Migrations::applied(&self.transaction.inner).await
    }

    /// Makes the next changes of the schema, so many at most.
    pub(crate) async fn bring_forward(&self, most: Option<u32>) -> Result<(), StoreError> {
        Ok(Migrations::up(&self.transaction.inner, most).await?)
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await?;
        // SQLite puts what was written into its place then, for whoever comes next, who does it too.
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a connection that is not needed any more could not be closed");
        }
        Ok(())
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.transaction.inner.get_database_backend() == DbBackend::Postgres
    }
}

impl Transaction {
    /// The names and types of a table's columns, in their order; none when there is no such table.
    pub(crate) async fn columns(&self, table: &str) -> Result<Vec<Row>, StoreError> {
        let sql = match self.inner.get_database_backend() {
            DbBackend::Postgres => {
                "select cast(column_name as text) as name, cast(data_type as text) as kind
                 from information_schema.columns
                 where table_schema = current_schema() and cast(table_name as text) = $1 order by ordinal_position"
            }
            _ => "select name, type as kind from pragma_table_info($1) order by cid",
        };
        self.all(sql, [table.into()]).await
    }

    /// The rows of an answer one by one: there may be more than fit into memory.
    pub(crate) async fn stream(
        &self,
        sql: &str,
        values: impl Into<Values>,
    ) -> Result<BoxStream<'_, Result<Row, StoreError>>, StoreError> {
        let statement = statement(&self.inner, sql, values.into());
        let rows = sea_orm::StreamTrait::stream_raw(&self.inner, statement).await?;
        Ok(rows.map_ok(Row).map_err(StoreError::from).boxed())
    }
}
