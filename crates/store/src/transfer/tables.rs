//! The tables of an installation: which there are, in what order they are filled, and how their rows are written as text.
//! Columns are those that the database's own catalogue names.

use sea_orm::Value;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::database::{Row, StoreError, Transaction, unreadable};

/// All tables with their primary keys. What a table refers to stands before it.
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("organization", &["id"]),
    ("account", &["id"]),
    ("member", &["organization_id", "account_id"]),
    ("api_token", &["id"]),
    ("owner_link", &["hash"]),
    ("web_session", &["id"]),
    ("repository", &["id"]),
    ("environment", &["id"]),
    ("environment_version", &["environment_id", "version"]),
    ("secret", &["id"]),
    ("snapshot", &["id"]),
    ("worker", &["id"]),
    ("task", &["id"]),
    ("turn", &["id"]),
    ("attempt", &["id"]),
    ("recipe", &["attempt_id"]),
    ("event", &["task_id", "seq"]),
    ("publication", &["id"]),
    ("artifact", &["id"]),
    ("job", &["id"]),
    ("job_passed_on", &["job_id", "worker_id"]),
    ("message", &["id"]),
    ("attachment", &["id"]),
    ("turn_attachment", &["turn_id", "attachment_id"]),
    ("prompt_diff", &["turn_id", "position"]),
    ("budget", &["organization_id", "owner_id"]),
    ("spending", &["organization_id", "owner_id", "month"]),
];

/// What is true only of workers that are at it, and so not of the installation elsewhere: who has a job now, and who has said
/// to be back soon. Where an attempt's sandbox is stays written down; whoever takes the job finds that it is not there.
const LEFT_OUT: &[(&str, &str)] = &[
    ("job", "lease_owner"),
    ("job", "lease_until"),
    ("job", "worker_id"),
    ("worker", "returns_by"),
    // Its layer stays behind, too: it is built again.
    ("snapshot", "pack_key"),
    ("snapshot", "packed_sha256"),
    ("snapshot", "packed_bytes"),
];

/// A table as the catalogue describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<(String, Kind)>,
}

/// What a column holds. Any may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Uuid,
    Bigint,
    Text,
}

impl Kind {
    const fn sql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Bigint => "bigint",
            Self::Text => "text",
        }
    }
}

/// The tables of [`TABLES`] that are there.
pub(super) async fn tables(transaction: &Transaction) -> Result<Vec<Table>, StoreError> {
    let mut tables = Vec::new();
    for (name, _) in TABLES {
        let mut columns = Vec::new();
        for row in transaction.columns(name).await? {
            let (column, kind) = (row.get::<String>("name")?, row.get::<String>("kind")?);
            let kind = match kind.to_ascii_lowercase().as_str() {
                "uuid" => Kind::Uuid,
                "bigint" => Kind::Bigint,
                "text" => Kind::Text,
                other => return Err(unreadable(&format!("{name}.{column} of the type {other}"))),
            };
            columns.push((column, kind));
        }
        if !columns.is_empty() {
            tables.push(Table { name: (*name).to_owned(), columns });
        }
    }
    Ok(tables)
}

impl Table {
    /// Reads all rows, always in the same order, whatever the database sorts text by.
    pub(super) fn select(&self, is_postgres: bool) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(column, kind)| self.column(column, *kind)).collect();
        let key = TABLES.iter().find(|(name, _)| *name == self.name).map_or(&[][..], |(_, key)| key);
        let order: Vec<String> = key
            .iter()
            .map(|column| {
                let is_text = self.columns.iter().any(|(name, kind)| name == column && *kind == Kind::Text);
                let collation = if is_text && is_postgres { " collate \"C\"" } else { "" };
                format!("\"{column}\"{collation}")
            })
            .collect();
        format!("select {} from \"{}\" order by {}", columns.join(", "), self.name, order.join(", "))
    }

    fn column(&self, column: &str, kind: Kind) -> String {
        if LEFT_OUT.contains(&(self.name.as_str(), column)) {
            format!("cast(null as {}) as \"{column}\"", kind.sql())
        } else {
            format!("\"{column}\"")
        }
    }

    /// Writes so many rows.
    pub(super) fn insert(&self, rows: usize) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect();
        let width = columns.len();
        let rows: Vec<String> = (0..rows)
            .map(|row| {
                let values: Vec<String> = (1..=width).map(|number| format!("${}", row * width + number)).collect();
                format!("({})", values.join(", "))
            })
            .collect();
        format!("insert into \"{}\" ({}) values {}", self.name, columns.join(", "), rows.join(", "))
    }

    /// A row as a line of text: a JSON array of the values in the order of the columns.
    pub(super) fn line(&self, row: &Row) -> Result<Vec<u8>, StoreError> {
        let values = self.columns.iter().map(|(column, kind)| {
            Ok(match kind {
                Kind::Uuid => row.get::<Option<Uuid>>(column)?.map_or(Json::Null, |id| Json::String(id.to_string())),
                Kind::Bigint => row.get::<Option<i64>>(column)?.map_or(Json::Null, Json::from),
                Kind::Text => row.get::<Option<String>>(column)?.map_or(Json::Null, Json::String),
            })
        });
        let values = values.collect::<Result<Vec<Json>, StoreError>>()?;
        let mut line = serde_json::to_vec(&values).expect("values are plain data");
        line.push(b'\n');
        Ok(line)
    }

    /// The values in a line of text, or what is wrong with it.
    pub(super) fn values(&self, line: &[u8]) -> Result<Vec<Value>, String> {
        let values: Vec<Json> = serde_json::from_slice(line).map_err(|error| format!("is no row: {error}"))?;
        if values.len() != self.columns.len() {
            return Err(format!("has {} values, and {} has {} columns", values.len(), self.name, self.columns.len()));
        }
        let pairs = values.into_iter().zip(&self.columns);
        let typed = pairs.map(|(value, (column, kind))| {
            let wrong = || format!("has no {} for {column}", kind.sql());
            Ok(match (kind, value) {
                (Kind::Uuid, Json::Null) => None::<Uuid>.into(),
                (Kind::Bigint, Json::Null) => None::<i64>.into(),
                (Kind::Text, Json::Null) => None::<String>.into(),
                (Kind::Uuid, Json::String(text)) => text.parse::<Uuid>().map_err(|_| wrong())?.into(),
                (Kind::Bigint, Json::Number(number)) => number.as_i64().ok_or_else(wrong)?.into(),
                (Kind::Text, Json::String(text)) => text.into(),
                _ => return Err(wrong()),
            })
        });
        typed.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::database::Database;

    async fn rows(database: &Database, sql: &str) -> Vec<Row> {
        database.all(sql, []).await.expect("the catalogue")
    }

    #[tokio::test]
    async fn no_table_is_forgotten_and_each_stands_behind_those_it_refers_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(&folder.path().join("carrel.sqlite")).await.expect("a database");

        let sql = "select name from sqlite_master where type = 'table' and name not like 'sqlite%'";
        let all: BTreeSet<String> =
            rows(&database, sql).await.iter().map(|row| row.get("name").expect("a name")).collect();

        let listed: BTreeSet<String> = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let unlisted: Vec<&String> = all.difference(&listed).collect();
        assert_eq!(unlisted, ["seaql_migrations"], "a new table belongs into TABLES");
        assert_eq!(listed.difference(&all).count(), 0, "a table of TABLES is not there");
        for (position, (name, key)) in TABLES.iter().enumerate() {
            let sql = format!("select name from pragma_table_info('{name}') where pk > 0 order by pk");
            let known: Vec<String> =
                rows(&database, &sql).await.iter().map(|row| row.get("name").expect("one")).collect();
            assert_eq!(known, *key, "{name}");
            let sql = format!("select distinct \"table\" as name from pragma_foreign_key_list('{name}')");
            for row in rows(&database, &sql).await {
                let other: String = row.get("name").expect("a name");
                assert!(TABLES[..position].iter().any(|(before, _)| *before == other), "{name} refers to {other}");
            }
        }
    }

    #[test]
    fn a_line_that_is_no_row_of_the_table_is_refused() {
        let columns = [("id", Kind::Uuid), ("at", Kind::Bigint), ("body", Kind::Text)];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind)).into();
        let table = Table { name: "thing".to_owned(), columns };
        let id = "\"01890000-0000-7000-8000-000000000000\"";

        assert_eq!(table.values(format!("[{id},-7,\"x\"]").as_bytes()).expect("a row").len(), 3);
        assert_eq!(table.values(b"[null,null,null]").expect("a row").len(), 3);
        for line in [
            "",
            "{}",
            "[]",
            "[null,null]",
            "[null,null,null,null]",
            "[null,null,null] x",
            "[7,null,null]",
            "[\"x\",null,null]",
            "[null,\"7\",null]",
            "[null,1.5,null]",
            "[null,9223372036854775808,null]",
            "[null,true,null]",
            "[null,null,7]",
            "[null,null,[]]",
        ] {
            assert!(table.values(line.as_bytes()).is_err(), "{line}");
        }
    }
}
