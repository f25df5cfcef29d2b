//! Whether there is a PostgreSQL database to work on, before a pool of connections is made, which would only say that it
//! has waited in vain.

use std::str::FromStr as _;
use std::time::Duration;

use carrel_domain::Secret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
use tokio::time::{Instant, timeout};

use crate::StoreError;

/// How long one try may take, and how long to wait before the next.
const TRY: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_millis(250);

/// Waits for a database that takes connections, and writes if it is to; it may just be starting, or failing over. After so
/// long it is not tried again.
pub(super) async fn reach(url: &Secret, within: Duration, writes: bool) -> Result<(), StoreError> {
    let options = PgConnectOptions::from_str(url.expose())
        .map_err(|error| StoreError::NoDatabase { place: "DATABASE_URL".to_owned(), reason: words(&error) })?;
    let (place, deadline) = (place(&options), Instant::now() + within);
    let mut said = false;
    loop {
        let tried = timeout(TRY, try_once(&options, writes)).await;
        let error = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        let reason = words(&error);
        if !may_pass(&error) || Instant::now() >= deadline {
            return Err(StoreError::NoDatabase { place, reason });
        }
        if !said {
            tracing::warn!(place, reason, seconds = within.as_secs(), "waiting for the database");
            said = true;
        }
        tokio::time::sleep(REST).await;
    }
}

async fn try_once(options: &PgConnectOptions, writes: bool) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    if writes {
        takes_writes(&mut connection).await?;
    }
    connection.close().await
}

/// While a database fails over, its address may lead to a standby.
pub(super) async fn takes_writes(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = connection.fetch_one("show transaction_read_only").await?;
    match row.try_get::<&str, _>(0)? {
        "on" => Err(sqlx::Error::Protocol("it takes no writes: it is a standby, or made read-only".to_owned())),
        _ => Ok(()),
    }
}

/// Whether waiting may help.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
        _ => false,
    }
}

/// Why, without where in its own source the server found it.
fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Protocol(reason) => reason.clone(),
        sqlx::Error::PoolTimedOut => "it does not answer".to_owned(),
        other => other.to_string(),
    }
}

/// Where it is, and nothing of a login.
fn place(options: &PgConnectOptions) -> String {
    let name = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(folder) => format!("`{name}` in {}", folder.display()),
        None => format!("`{name}` at {}:{}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> String {
        let url = Secret::new(url.to_owned());
        reach(&url, Duration::ZERO, true).await.expect_err("there is no database").to_string()
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_is_named_with_the_reason_and_without_its_login() {
        let closed = refused("postgres://carrel:hunter2hunter2@127.0.0.1:1/work").await;
        let socket = refused("postgres://carrel:hunter2hunter2@%2Fnowhere/work").await;
        let malformed = refused("postgres://carrel:hunter2hunter2@127.0.0.1:port/work").await;

        assert!(closed.contains("`work` at 127.0.0.1:1") && closed.contains("refused"), "{closed}");
        assert!(socket.contains("`work` in /nowhere"), "{socket}");
        assert!(malformed.contains("port"), "{malformed}");
        for said in [closed, socket, malformed] {
            assert!(said.contains("DATABASE_URL") && !said.contains("hunter2"), "{said}");
        }
    }
}
