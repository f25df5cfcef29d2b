//! Filling an empty installation from an archive, in one transaction: when anything is wrong, there is nothing.

use std::collections::{BTreeMap, HashMap};

use carrel_domain::Secret;
use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;

use super::archive::{ArchiveReader, Broken, Entry};
use super::tables::{Table, tables};
use super::{AnyHeader, End, FORMAT, Header, MOST_MISSING, Moved, MovedFile, StatePlace, TransferError};
use super::{named_artifacts, sealed_under};
use crate::StoreError;
use crate::database::Whole;
use crate::migrations::Migrations;
use crate::objects::Objects;

/// Rows that one statement writes, and the values in them: SQLite takes 32,766.
const ROWS_AT_ONCE: usize = 500;
const VALUES_AT_ONCE: usize = 30_000;

/// The most files that go along, and the longest.
const MAX_FILES: usize = 16;
const MAX_FILE_BYTES: usize = 1 << 20;

/// Fills the empty installation at a place from an archive. The files that went along are given to `keep` when all else has
/// been found right, and before it becomes true; what it refuses is refused.
///
/// # Errors
/// When the installation is not empty, the archive is not whole, or the database refuses. Then nothing was changed.
pub async fn import<R: AsyncRead + Unpin + Send>(
    place: &StatePlace,
    input: R,
    keep: impl FnOnce(&[MovedFile]) -> Result<(), String> + Send,
) -> Result<Moved, TransferError> {
    let mut archive = ArchiveReader::new(input);
    let first = archive.next().await?.ok_or_else(|| broken("byte 0", "holds the end already"))?;
    let header = header(&first)?;
    let whole = empty(place, &header).await?;
    let mut import = Import {
        tables: header.tables,
        objects: place.objects()?,
        whole,
        stage: Stage::Files,
        files: Vec::new(),
        artifacts: HashMap::new(),
        artifact_bytes: 0,
        rows: BTreeMap::new(),
    };
    let taken = import.take(&mut archive, keep).await;
    let Import { whole, objects, artifacts, .. } = import;
    match taken {
        // Whatever became of it: rows that may be there name the artifacts. Those that nobody names are collected.
        Ok(moved) => whole.commit().await.map(|()| moved).map_err(TransferError::Unsettled),
        Err(error) => {
            drop(whole);
            put_away(&objects, &artifacts).await;
            Err(error)
        }
    }
}

/// An artifact that has come.
struct Come {
    size_bytes: u64,
    was_there: bool,
}

/// Which entries may come now: those of this stage, or of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Files,
    Artifacts,
    /// The part of the table that came last.
    Rows {
        table: usize,
        part: u32,
    },
}

struct Import {
    tables: Vec<Table>,
    whole: Whole,
    objects: Objects,
    stage: Stage,
    files: Vec<MovedFile>,
    artifacts: HashMap<[u8; 32], Come>,
    artifact_bytes: u64,
    rows: BTreeMap<String, u64>,
}

impl Import {
    async fn take<R: AsyncRead + Unpin + Send>(
        &mut self,
        archive: &mut ArchiveReader<R>,
        keep: impl FnOnce(&[MovedFile]) -> Result<(), String> + Send,
    ) -> Result<Moved, TransferError> {
        let end = loop {
            let entry = archive.next().await?;
            let entry = entry.ok_or_else(|| broken("the archive", "ends before its last entry"))?;
            match entry.stem.split_once('/') {
                Some(("files", name)) => self.file(name, &entry)?,
                Some(("artifacts", "")) if entry.suffix.is_empty() => self.artifact(entry).await?,
                Some(("tables", part)) if entry.suffix == ".jsonl" => self.part(part, &entry).await?,
                Some(("carrel", "end-")) if entry.suffix == ".json" => break entry,
                _ => return Err(broken(&name(&entry), "is nothing that an export has")),
            }
        };
        if archive.next().await?.is_some() {
            return Err(broken("the archive", "goes on behind its last entry"));
        }
        let moved = self.settle(&end).await?;
        self.whole.bring_forward(None).await?;
        keep(&self.files).map_err(TransferError::File)?;
        Ok(moved)
    }

    fn file(&mut self, stem: &str, entry: &Entry) -> Result<(), TransferError> {
        let wrong = |problem: &str| broken(&name(entry), problem);
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || b".-".contains(&byte);
        let known = stem.strip_suffix('-').filter(|name| !name.is_empty() && !name.starts_with('.'));
        let known = known.filter(|name| name.len() <= 40 && name.bytes().all(is_plain) && entry.suffix.is_empty());
        let known = known.ok_or_else(|| wrong("is no file of a data folder"))?;
        if self.stage > Stage::Files || self.files.iter().any(|file| file.name == known) {
            return Err(wrong("stands where it does not belong"));
        }
        if self.files.len() >= MAX_FILES || entry.content.len() > MAX_FILE_BYTES {
            return Err(wrong("is more than goes along"));
        }
        let content = String::from_utf8(entry.content.clone()).map_err(|_| wrong("is no text"))?;
        self.files.push(MovedFile { name: known.to_owned(), content: Secret::new(content) });
        Ok(())
    }

    async fn artifact(&mut self, entry: Entry) -> Result<(), TransferError> {
        let key = bytes_of(&entry.sha256);
        if self.stage > Stage::Artifacts || self.artifacts.contains_key(&key) {
            return Err(broken(&name(&entry), "stands where it does not belong"));
        }
        self.stage = Stage::Artifacts;
        let size_bytes = entry.content.len() as u64;
        let put = self.objects.put(&entry.content.into()).await?;
        self.artifact_bytes += size_bytes;
        self.artifacts.insert(key, Come { size_bytes, was_there: put.was_there });
        Ok(())
    }

    async fn part(&mut self, stem: &str, entry: &Entry) -> Result<(), TransferError> {
        let place = name(entry);
        let parts = stem.strip_suffix('-').and_then(|stem| stem.rsplit_once('-'));
        let (table, number) = parts.ok_or_else(|| broken(&place, "is no part of a table"))?;
        let index = self.tables.iter().position(|known| known.name == table);
        let index = index.ok_or_else(|| broken(&place, "is of a table that is not in the header"))?;
        let expected = match self.stage {
            Stage::Rows { table, part } if table == index => part + 1,
            Stage::Rows { table, .. } if table > index => 0,
            Stage::Files | Stage::Artifacts | Stage::Rows { .. } => 1,
        };
        if expected == 0 || number != format!("{expected:08}") {
            return Err(broken(&place, "stands where it does not belong: a part before it is missing, or moved"));
        }
        self.stage = Stage::Rows { table: index, part: expected };
        let written = insert(&self.whole, &self.tables[index], &entry.content, &place).await?;
        *self.rows.entry(table.to_owned()).or_default() += written;
        Ok(())
    }

    /// Compares what came with what the last entry says, and what is named with what came.
    async fn settle(&mut self, entry: &Entry) -> Result<Moved, TransferError> {
        let end: End = json(entry)?;
        let wrong = |problem: &str| broken(&name(entry), problem);
        if end.headers_sha256 != entry.before {
            return Err(wrong("belongs to another archive: entries are missing, or were added"));
        }
        if end.missing.len() > MOST_MISSING {
            return Err(wrong("names more lost artifacts than an export does"));
        }
        for table in &self.tables {
            self.rows.entry(table.name.clone()).or_default();
        }
        if end.rows != self.rows {
            return Err(wrong("says another number of rows than came"));
        }
        if (end.artifacts, end.artifact_bytes) != (self.artifacts.len() as u64, self.artifact_bytes) {
            return Err(wrong("says another number of artifacts than came"));
        }
        let sql = named_artifacts(&self.tables, self.whole.is_postgres());
        let mut named = self.whole.transaction.stream(&sql, []).await?;
        while let Some(row) = named.try_next().await? {
            let (sha256, size_bytes): (String, i64) = (row.get("sha256")?, row.get("size_bytes")?);
            let come = is_hash(&sha256).then(|| self.artifacts.get(&bytes_of(&sha256))).flatten();
            let is_there = come.is_some_and(|come| come.size_bytes == size_bytes.unsigned_abs());
            if !is_there && !end.missing.contains(&sha256) {
                return Err(broken(&format!("artifacts/{sha256}"), "is named by a row, and is not there"));
            }
        }
        drop(named);
        Ok(Moved {
            rows: end.rows,
            artifacts: end.artifacts,
            artifact_bytes: end.artifact_bytes,
            missing: end.missing,
            sealed_under: sealed_under(&self.whole).await?,
            files: self.files.iter().map(|file| file.name.clone()).collect(),
        })
    }
}

/// Writes the rows of a part, and says how many there were.
async fn insert(whole: &Whole, table: &Table, content: &[u8], place: &str) -> Result<u64, TransferError> {
    let content = content.strip_suffix(b"\n").ok_or_else(|| broken(place, "does not end with a whole row"))?;
    let mut lines = content.split(|byte| *byte == b'\n');
    let at_once = (VALUES_AT_ONCE / table.columns.len().max(1)).clamp(1, ROWS_AT_ONCE);
    let mut first = 1;
    loop {
        let group: Vec<&[u8]> = lines.by_ref().take(at_once).collect();
        if group.is_empty() {
            return Ok(first as u64 - 1);
        }
        let mut values = Vec::with_capacity(group.len() * table.columns.len());
        for (index, line) in group.iter().enumerate() {
            let row = table.values(line);
            values.extend(row.map_err(|problem| broken(place, &format!("line {} {problem}", first + index)))?);
        }
        let last = first + group.len() - 1;
        let written = whole.transaction.run(&table.insert(group.len()), values).await;
        let refused =
            |why: &str| broken(place, &format!("has rows that the database refuses, lines {first} to {last}: {why}"));
        match written {
            Ok(written) if written == group.len() as u64 => first = last + 1,
            Ok(_) => return Err(refused("not all of them were written")),
            Err(StoreError::Database(error)) => return Err(refused(&error.to_string())),
            Err(error) => return Err(error.into()),
        }
    }
}

fn header(entry: &Entry) -> Result<Header, TransferError> {
    if entry.stem != "carrel/header-" || entry.suffix != ".json" {
        return Err(broken("byte 0", "holds no header: is this an export of Carrel?"));
    }
    let AnyHeader { carrel_export, program } = json(entry)?;
    if carrel_export != FORMAT {
        return Err(TransferError::NewerArchive { program });
    }
    let header: Header = json(entry)?;
    let known = Migrations::names();
    if header.schema.iter().any(|name| !known.contains(name)) {
        return Err(TransferError::NewerArchive { program });
    }
    if header.schema.is_empty() || known[..header.schema.len().min(known.len())] != header.schema[..] {
        return Err(broken("carrel/header", "has a schema that no version had"));
    }
    Ok(header)
}

/// The empty database, with the schema that the archive was written with.
async fn empty(place: &StatePlace, header: &Header) -> Result<Whole, TransferError> {
    let whole = place.fill().await?;
    let made = whole.changes_made().await?;
    for Table { name, .. } in tables(&whole.transaction).await? {
        if whole.transaction.one(&format!("select 1 as there from \"{name}\" limit 1"), []).await?.is_some() {
            return Err(TransferError::NotEmpty { table: name });
        }
    }
    let missing = header.schema.len().checked_sub(made.len()).ok_or(TransferError::TooFar)?;
    if missing > 0 {
        whole.bring_forward(u32::try_from(missing).ok()).await?;
    }
    if tables(&whole.transaction).await? != header.tables {
        return Err(broken("carrel/header", "describes other tables than there are"));
    }
    Ok(whole)
}

/// Takes back the artifacts that came with an archive that was refused.
async fn put_away(objects: &Objects, artifacts: &HashMap<[u8; 32], Come>) {
    for (sha256, _) in artifacts.iter().filter(|(_, come)| !come.was_there) {
        // What stays takes room until it is collected: no row names it.
        let _removed = objects.remove(&super::hex(sha256)).await;
    }
}

fn json<T: DeserializeOwned>(entry: &Entry) -> Result<T, TransferError> {
    serde_json::from_slice(&entry.content).map_err(|error| broken(&name(entry), &format!("is not readable: {error}")))
}

fn name(entry: &Entry) -> String {
    format!("{}{}{}", entry.stem, entry.sha256, entry.suffix)
}

fn broken(place: &str, problem: &str) -> TransferError {
    TransferError::Archive { place: place.to_owned(), problem: problem.to_owned() }
}

impl From<Broken> for TransferError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Archive { place, problem } => Self::Archive { place, problem },
            Broken::Input(error) => Self::Input(error),
        }
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A hash as bytes; its text was looked at before.
fn bytes_of(sha256: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(sha256.as_bytes().chunks(2)) {
        let text = std::str::from_utf8(digits).unwrap_or_default();
        *byte = u8::from_str_radix(text, 16).unwrap_or_default();
    }
    bytes
}
