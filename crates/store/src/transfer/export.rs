//! Writing an installation down, as it was at one moment, while a service may be at work on it.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::archive::ArchiveWriter;
use super::tables::{Table, tables};
use super::{End, FORMAT, Header, MOST_MISSING, Moved, MovedFile, StatePlace, TransferError};
use super::{named_artifacts, sealed_under};
use crate::StoreError;
use crate::database::Whole;
use crate::migrations::Migrations;
use crate::objects::Objects;

/// A part of a table is ended when it is longer.
const PART_BYTES: usize = 4 << 20;

/// Writes everything of an installation, with these files of its data folder, and gives what it was written to.
///
/// # Errors
/// When there is no installation, its schema is not up to date, it cannot be read, or the archive cannot be written.
pub async fn export<W: AsyncWrite + Unpin + Send>(
    place: &StatePlace,
    files: &[MovedFile],
    output: W,
) -> Result<(Moved, W), TransferError> {
    let nothing = || TransferError::Nothing { place: place.words() };
    let whole = place.look().await?.ok_or_else(nothing)?;
    let schema = whole.changes_made().await?;
    if schema.is_empty() {
        return Err(nothing());
    }
    // What it says of itself is read with the rows: the schema may be brought forward at any moment.
    if schema != Migrations::names() {
        return Err(TransferError::Behind);
    }
    let tables = tables(&whole.transaction).await?;
    let mut export = Export { archive: ArchiveWriter::new(output), whole, tables };
    let (carrel_export, program) = (FORMAT, env!("CARGO_PKG_VERSION").to_owned());
    let header = Header { carrel_export, program, schema, tables: export.tables.clone() };
    export.json("carrel/header-", &header).await?;
    for file in files {
        export.add(&format!("files/{}-", file.name), "", file.content.expose().as_bytes()).await?;
    }
    let mut end = export.artifacts(&place.objects()?).await?;
    for table in export.tables.clone() {
        let rows = export.rows(&table).await?;
        end.rows.insert(table.name, rows);
    }
    end.headers_sha256 = export.archive.so_far();
    export.json("carrel/end-", &end).await?;
    let moved = Moved {
        rows: end.rows,
        artifacts: end.artifacts,
        artifact_bytes: end.artifact_bytes,
        missing: end.missing,
        sealed_under: sealed_under(&export.whole).await?,
        files: files.iter().map(|file| file.name.clone()).collect(),
    };
    Ok((moved, export.archive.finish().await.map_err(TransferError::Output)?))
}

struct Export<W> {
    archive: ArchiveWriter<W>,
    whole: Whole,
    tables: Vec<Table>,
}

impl<W: AsyncWrite + Unpin + Send> Export<W> {
    async fn add(&mut self, stem: &str, suffix: &str, content: &[u8]) -> Result<(), TransferError> {
        self.archive.add(stem, suffix, content).await.map_err(TransferError::Output)
    }

    async fn json(&mut self, stem: &str, content: &impl Serialize) -> Result<(), TransferError> {
        let content = serde_json::to_vec(content).expect("plain data with string keys");
        self.add(stem, ".json", &content).await
    }

    /// Before the rows that name them: what nobody needs any more is collected meanwhile, and the less the sooner.
    async fn artifacts(&mut self, objects: &Objects) -> Result<End, TransferError> {
        let (mut artifacts, mut artifact_bytes, mut missing) = (0, 0, Vec::new());
        let sql = named_artifacts(&self.tables, self.whole.is_postgres());
        let mut named = self.whole.transaction.stream(&sql, []).await?;
        while let Some(row) = named.try_next().await? {
            let sha256: String = row.get("sha256")?;
            let size_bytes = row.get::<i64>("size_bytes")?.unsigned_abs();
            match objects.file(&sha256, size_bytes).await {
                Ok(path) => {
                    let content = tokio::fs::read(path).await.map_err(StoreError::from)?;
                    artifacts += 1;
                    artifact_bytes += content.len() as u64;
                    self.archive.add("artifacts/", "", &content).await.map_err(TransferError::Output)?;
                }
                Err(StoreError::ArtifactLost { .. }) if missing.len() < MOST_MISSING => missing.push(sha256),
                Err(StoreError::ArtifactLost { place, .. }) => return Err(TransferError::TooManyMissing { place }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(End { rows: BTreeMap::new(), artifacts, artifact_bytes, missing, headers_sha256: String::new() })
    }

    async fn rows(&mut self, table: &Table) -> Result<u64, TransferError> {
        let stem = |part: u32| format!("tables/{}-{part:08}-", table.name);
        let (mut count, mut parts, mut content) = (0, 0, Vec::new());
        let mut rows = self.whole.transaction.stream(&table.select(self.whole.is_postgres()), []).await?;
        while let Some(row) = rows.try_next().await? {
            content.extend(table.line(&row)?);
            count += 1;
            if content.len() > PART_BYTES {
                parts += 1;
                self.archive.add(&stem(parts), ".jsonl", &content).await.map_err(TransferError::Output)?;
                content.clear();
            }
        }
        if !content.is_empty() {
            self.archive.add(&stem(parts + 1), ".jsonl", &content).await.map_err(TransferError::Output)?;
        }
        Ok(count)
    }
}
