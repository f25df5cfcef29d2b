//! Archives taken apart and put together again by somebody else than who writes and reads them.

use serde_json::Value;
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) stem: String,
    pub(crate) suffix: String,
    pub(crate) content: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) parts: Vec<Part>,
}

impl Part {
    pub(crate) fn new(stem: &str, suffix: &str, content: &[u8]) -> Self {
        Self { stem: stem.to_owned(), suffix: suffix.to_owned(), content: content.to_owned() }
    }

    /// Changes the first place where the content says so.
    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        let text = String::from_utf8(self.content.clone()).expect("text");
        assert!(text.contains(from), "{} does not say {from}", self.stem);
        self.content = text.replacen(from, to, 1).into_bytes();
    }

    /// Its rows with those of their values alone that are kept.
    fn narrowed(&self, kept: &[bool]) -> Vec<u8> {
        let mut content = Vec::new();
        for line in self.content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let values: Vec<Value> = serde_json::from_slice(line).expect("a row");
            let values = values.into_iter().zip(kept).filter(|(_, kept)| **kept).map(|(value, _)| value);
            content.extend(serde_json::to_vec(&values.collect::<Vec<Value>>()).expect("JSON"));
            content.push(b'\n');
        }
        content
    }

    /// The header of a tar archive for it: POSIX.1-1988, "Extended tar format".
    fn header(&self) -> [u8; 512] {
        let name = format!("{}{}{}", self.stem, hash(&self.content), self.suffix);
        let (prefix, name) = name.split_once('/').expect("a folder");
        let mut block = [0; 512];
        let size = format!("{:011o}", self.content.len());
        let fields: [(usize, &str); 9] = [
            (0, name),
            (100, "0000600"),
            (108, "0000000"),
            (116, "0000000"),
            (124, &size),
            (136, "00000000000"),
            (148, "        "),
            (156, "0"),
            (345, prefix),
        ];
        for (start, text) in fields {
            block[start..start + text.len()].copy_from_slice(text.as_bytes());
        }
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl Archive {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = bytes;
        while rest[0] != 0 {
            let text = |start: usize, length: usize| {
                let field = rest[start..start + length].split(|byte| *byte == 0).next().expect("a field");
                String::from_utf8(field.to_vec()).expect("text")
            };
            let name = format!("{}/{}", text(345, 155), text(0, 100));
            let size = usize::from_str_radix(&text(124, 12), 8).expect("a size");
            let content = rest[512..512 + size].to_vec();
            let (stem, suffix) = name.split_once(&hash(&content)).expect("its name has its hash");
            parts.push(Part::new(stem, suffix, &content));
            rest = &rest[512 + size.next_multiple_of(512)..];
        }
        Self { parts }
    }

    /// The archive, with a last entry that fits to the headers before it.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let (mut bytes, mut headers) = (Vec::new(), Sha256::new());
        for part in &mut self.parts {
            if part.stem == "carrel/end-"
                && let Ok(mut end) = serde_json::from_slice::<Value>(&part.content)
            {
                end["headers_sha256"] = hex(&headers.clone().finalize()).into();
                part.content = serde_json::to_vec(&end).expect("JSON");
            }
            let header = part.header();
            headers.update(header);
            bytes.extend(header);
            bytes.extend(&part.content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend([0; 1024]);
        bytes
    }

    /// The same with a change in the first part of this name.
    pub(crate) fn with(mut self, stem: &str, change: impl FnOnce(&mut Part)) -> Vec<u8> {
        change(self.parts.iter_mut().find(|part| part.stem.starts_with(stem)).expect("a part"));
        self.bytes()
    }

    /// Makes it what it would be had the schema only had its first changes, so many.
    pub(crate) fn take_back(&mut self, changes: usize) {
        let header = self.parts.iter_mut().find(|part| part.stem == "carrel/header-").expect("a header");
        let mut said: Value = serde_json::from_slice(&header.content).expect("JSON");
        let later = said["schema"].as_array_mut().expect("names").split_off(changes);
        let later: String = later.iter().map(|name| change(name.as_str().expect("a name"))).collect();
        let is_new = |table: &str, column: &str| later.contains(&format!("alter table {table} add column {column} "));
        let tables = said["tables"].as_array_mut().expect("tables");
        let is_later = |table: &str| later.contains(&format!("create table {table} ("));
        tables.retain(|table| !is_later(table["name"].as_str().expect("a name")));
        self.parts.retain(|part| {
            let table = part.stem.strip_prefix("tables/").and_then(|stem| stem.split('-').next());
            !table.is_some_and(is_later)
        });
        let end = self.parts.iter_mut().find(|part| part.stem == "carrel/end-").expect("an end");
        let mut counted: Value = serde_json::from_slice(&end.content).expect("JSON");
        counted["rows"].as_object_mut().expect("tables").retain(|table, _| !is_later(table));
        end.content = serde_json::to_vec(&counted).expect("JSON");
        for table in tables {
            let name = table["name"].as_str().expect("a name").to_owned();
            let columns = table["columns"].as_array_mut().expect("columns");
            let stays = |column: &Value| !is_new(&name, column[0].as_str().expect("a name"));
            let kept: Vec<bool> = columns.iter().map(stays).collect();
            columns.retain(stays);
            let stem = format!("tables/{name}-");
            for part in self.parts.iter_mut().filter(|part| part.stem.starts_with(&stem)) {
                part.content = part.narrowed(&kept);
            }
        }
        let header = self.parts.iter_mut().find(|part| part.stem == "carrel/header-").expect("a header");
        header.content = serde_json::to_vec(&said).expect("JSON");
    }

    /// The rows of a table.
    pub(crate) fn rows(&self, table: &str) -> Vec<Value> {
        let stem = format!("tables/{table}-");
        let parts = self.parts.iter().filter(|part| part.stem.starts_with(&stem));
        let lines = parts.flat_map(|part| part.content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()));
        lines.map(|line| serde_json::from_slice(line).expect("a row")).collect()
    }

    /// The parts that only one of two archives has.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let lacks = |one: &Self, other: &Self| {
            let only = one.parts.iter().filter(|part| !other.parts.contains(part)).cloned().collect::<Vec<_>>();
            only.into_iter().map(|part| format!("{}: {}", part.stem, String::from_utf8_lossy(&part.content)))
        };
        lacks(self, other).chain(lacks(other, self)).collect()
    }
}

/// The SQL of a change of the schema, all in one line.
fn change(name: &str) -> String {
    let file = format!("{}/src/migrations/{name}.sql", env!("CARGO_MANIFEST_DIR"));
    let sql = std::fs::read_to_string(file).expect("our own file");
    sql.split_whitespace().flat_map(|word| [word, " "]).collect()
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
