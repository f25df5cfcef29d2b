//! The data file: what neither an image's tools nor their indexes can say. Its format stands at its own head.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use carrel_domain::HostName;
use serde::Deserialize;

use super::{Index, Tool, address, tools};

/// Longest data file, in bytes.
const MAX_BYTES: usize = 256 << 10;

/// Why a data file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKnown {
    /// It is no TOML, or has a key that means nothing.
    #[error("the data file of package hosts cannot be read: {0}")]
    Unreadable(Box<toml::de::Error>),
    /// It is larger than 256 KiB.
    #[error("the data file of package hosts has {0} bytes; 262144 are the most")]
    TooLarge(usize),
    /// A table is for a tool that nobody asks.
    #[error("the data file of package hosts names the tool `{0}`; the tools are {tools}", tools = names())]
    UnknownTool(String),
    /// A default is no address.
    #[error("the default `{text}` of {tool} {problem}")]
    Default {
        /// Whose.
        tool: Tool,
        /// The default.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

fn names() -> String {
    Tool::ALL.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ")
}

/// The data file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    tools: BTreeMap<Tool, OfTool>,
    indexes: BTreeMap<HostName, OfIndex>,
    hosts: BTreeSet<HostName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OfTool {
    default: Vec<String>,
    also: Vec<HostName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OfIndex {
    also: Vec<HostName>,
    files: Vec<HostName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    tool: BTreeMap<String, OfTool>,
    #[serde(default)]
    index: BTreeMap<HostName, OfIndex>,
}

impl Known {
    /// Reads a data file.
    ///
    /// # Errors
    ///
    /// [`InvalidKnown`]: it names what there is not, or is no such file.
    pub fn parse(text: &str) -> Result<Self, InvalidKnown> {
        if text.len() > MAX_BYTES {
            return Err(InvalidKnown::TooLarge(text.len()));
        }
        let raw: Raw = toml::from_str(text).map_err(|error| InvalidKnown::Unreadable(Box::new(error)))?;
        let mut tools = BTreeMap::new();
        let mut hosts = BTreeSet::new();
        for (name, of_tool) in raw.tool {
            let Ok(tool) = name.parse::<Tool>() else { return Err(InvalidKnown::UnknownTool(name)) };
            for text in &of_tool.default {
                let wrong = |problem| InvalidKnown::Default { tool, text: text.clone(), problem };
                let (_, host) = address(text).unwrap_or(Err("is no address")).map_err(wrong)?;
                hosts.insert(host);
            }
            tools.insert(tool, of_tool);
        }
        hosts.extend(raw.index.keys().cloned());
        Ok(Self { tools, indexes: raw.index, hosts })
    }

    /// The data file that comes with the program.
    ///
    /// # Panics
    ///
    /// Never: a test reads it.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: OnceLock<Known> = OnceLock::new();
        let text = include_str!("../../data/packages.toml");
        BUILT_IN.get_or_init(|| Self::parse(text).expect("the built-in data file is read by a test"))
    }

    /// Whether a host is one of the indexes it names.
    #[must_use]
    pub fn names(&self, host: &HostName) -> bool {
        self.hosts.contains(host)
    }

    /// What a tool asks while it is not told otherwise.
    pub(super) fn default_indexes(&self, tool: Tool) -> impl Iterator<Item = Index> {
        let texts = self.tools.get(&tool).map_or(&[][..], |of_tool| &of_tool.default);
        texts.iter().filter_map(move |text| {
            let (url, host) = address(text)?.ok()?;
            Some(Index { tool, url, host, names_files: tools::names_files(tool, text) })
        })
    }

    /// Further hosts of a tool.
    pub(super) fn beside_tool(&self, tool: Tool) -> &[HostName] {
        self.tools.get(&tool).map_or(&[], |of_tool| &of_tool.also)
    }

    /// Further hosts of an index.
    pub(super) fn beside_index(&self, host: &HostName) -> &[HostName] {
        self.indexes.get(host).map_or(&[], |of_index| &of_index.also)
    }

    /// Hosts of an index's files, for when it cannot be asked.
    pub(super) fn files(&self, host: &HostName) -> &[HostName] {
        self.indexes.get(host).map_or(&[], |of_index| &of_index.files)
    }
}
