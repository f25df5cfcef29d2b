//! Carries changes between the processes that share a PostgreSQL database. What is rung together goes together, apart from
//! the transactions: one that notifies waits for every other that does, all over the database.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{StoreError, statement};
use crate::changes::{Bell, Change};

const CHANNEL: &str = "carrel_changes";

/// How many changes go together. PostgreSQL takes 8,000 bytes; one of ours has less than 150.
const TOGETHER: usize = 50;

/// How long to wait before the database is asked again that could not be reached.
const REST: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Carried {
    /// The process it is from, which has rung already.
    from: Uuid,
    changes: Vec<Change>,
}

/// Begins to carry, until the tasks are dropped. What is told from now on is heard.
pub(super) async fn begin(
    connection: &DatabaseConnection,
    bell: Bell,
    changes: mpsc::UnboundedReceiver<Change>,
) -> Result<JoinSet<()>, StoreError> {
    let own = Uuid::new_v4();
    let listener = listener(connection).await.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(tell(connection.clone(), own, changes));
    tasks.spawn(hear(connection.clone(), listener, own, bell));
    Ok(tasks)
}

async fn tell(connection: DatabaseConnection, own: Uuid, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while changes.recv_many(&mut batch, TOGETHER).await > 0 {
        let carried = Carried { from: own, changes: latest(std::mem::take(&mut batch)) };
        let text = serde_json::to_string(&carried).expect("changes are plain data");
        let notify = statement(&connection, "select pg_notify($1, $2)", vec![CHANNEL.into(), text.into()]);
        if let Err(error) = connection.execute_raw(notify).await {
            // Nothing is lost: listeners look now and then, and when they have found the database again.
            tracing::warn!(%error, "could not tell other processes of changes");
        }
    }
}

/// Without what a later change of the same task says as well.
fn latest(changes: Vec<Change>) -> Vec<Change> {
    let mut kept: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes.into_iter().rev() {
        let is_known = kept.iter().any(|known| match (known, &change) {
            (Change::Log { task: later, .. }, Change::Log { task, .. }) => later == task,
            (known, change) => known == change,
        });
        if !is_known {
            kept.push(change);
        }
    }
    kept.reverse();
    kept
}

async fn listener(connection: &DatabaseConnection) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(connection.get_postgres_connection_pool()).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

async fn hear(connection: DatabaseConnection, mut listener: PgListener, own: Uuid, bell: Bell) {
    loop {
        // It ends when the connection does.
        while let Ok(Some(told)) = listener.try_recv().await {
            // Another version may tell of what this one does not know.
            let carried = serde_json::from_str(told.payload())
                .unwrap_or(Carried { from: Uuid::nil(), changes: vec![Change::Anything] });
            if carried.from != own {
                carried.changes.into_iter().for_each(|change| bell.ring_here(change));
            }
        }
        listener = loop {
            match self::listener(&connection).await {
                Ok(listener) => break listener,
                Err(error) => tracing::warn!(%error, "cannot hear other processes; trying again"),
            }
            tokio::time::sleep(REST).await;
        };
        bell.ring_here(Change::Anything);
    }
}
