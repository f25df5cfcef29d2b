//! A task as many times as one likes: its rows as they are, but for their ids.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use carrel_testkit::Postgres;

/// What a task leaves in the tables that grow the most, and which of their columns name something of it.
const TABLES: [(&str, &[&str]); 4] = [
    ("task", &["id"]),
    ("turn", &["id", "task_id"]),
    ("attempt", &["id", "task_id", "turn_id"]),
    ("event", &["task_id", "attempt_id"]),
];

/// The database of an installation that does not run just now.
pub(super) enum Database {
    /// The file.
    Sqlite(PathBuf),
    /// The server.
    Postgres(Postgres),
}

impl Database {
    /// Makes of this task others of these numbers. One in so many has the log, too.
    pub(super) fn grow(&self, task: &str, numbers: Range<u32>, logs_of_one_in: u32) -> Result<()> {
        let Range { start: from, end: to } = numbers;
        let number = task.replace('-', "");
        for (table, ids) in TABLES {
            let own = if table == "task" { "id" } else { "task_id" };
            let which = if table == "event" { format!("and n % {logs_of_one_in} = 0") } else { String::new() };
            let columns = self.columns(table)?;
            let values: Vec<String> = columns
                .iter()
                .map(|column| if ids.contains(&column.as_str()) { self.renamed(column) } else { format!("t.{column}") })
                .collect();
            let names = columns.join(", ");
            let values = values.join(", ");
            self.run(&match self {
                Self::Sqlite(_) => format!(
                    "pragma cache_size = -200000; with recursive n(n) as
                         (select {from} union all select n + 1 from n where n + 1 < {to})
                     insert into {table} ({names}) select {values} from n, {table} t
                     where t.{own} = x'{number}' {which}"
                ),
                Self::Postgres(_) => format!(
                    "insert into {table} ({names}) select {values} from generate_series({from}, {to} - 1) n, {table} t
                     where t.{own} = '{task}' {which}"
                ),
            })?;
        }
        self.run("analyze").map(drop)
    }

    /// The id in a column with its second half replaced by a number: later ones are newer, as those of real tasks are.
    fn renamed(&self, column: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("cast(substr(t.{column}, 1, 8) || printf('%08x', n) as blob)"),
            Self::Postgres(_) => {
                format!("(substr(replace(t.{column}::text, '-', ''), 1, 16) || lpad(to_hex(n), 16, '0'))::uuid")
            }
        }
    }

    fn columns(&self, table: &str) -> Result<Vec<String>> {
        let listed = self.run(&match self {
            Self::Sqlite(_) => format!("select name from pragma_table_info('{table}')"),
            Self::Postgres(_) => {
                format!("select column_name from information_schema.columns where table_name = '{table}'")
            }
        })?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    fn run(&self, sql: &str) -> Result<String> {
        match self {
            Self::Sqlite(file) => {
                let ran = Command::new("sqlite3").arg(file).arg(sql).output().context("sqlite3 cannot be started")?;
                ensure!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
                Ok(String::from_utf8(ran.stdout)?)
            }
            Self::Postgres(postgres) => postgres.query(sql).with_context(|| format!("refused: {sql}")),
        }
    }

    /// How much of the disk it takes.
    pub(super) fn size_bytes(&self) -> Result<u64> {
        match self {
            Self::Sqlite(file) => Ok(file.metadata()?.len()),
            Self::Postgres(_) => Ok(self.run("select pg_database_size(current_database())")?.trim().parse()?),
        }
    }
}
