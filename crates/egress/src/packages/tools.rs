//! What each package manager's own words mean: its answers into the addresses it is configured for.

use std::collections::BTreeMap;

use super::Tool;
use super::reading::Answers;
use super::scan;

/// What a tool is configured for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Configured {
    /// Addresses of indexes, as the tool writes them.
    pub(super) indexes: Vec<String>,
    /// Addresses of plain places: pages of links, databases of sums.
    pub(super) places: Vec<String>,
    /// Whether its built-in default is in force.
    pub(super) uses_default: bool,
}

impl Configured {
    /// Those, or the default where there are none.
    fn or_default(indexes: Vec<String>) -> Self {
        let uses_default = !indexes.iter().any(|text| text.contains("://"));
        Self { indexes, places: Vec::new(), uses_default }
    }
}

/// Reads a tool's answers.
pub(super) fn configured(tool: Tool, answers: &Answers<'_>, notes: &mut Vec<String>) -> Configured {
    let indexes = || answers.of("index").map(str::to_owned).collect::<Vec<_>>();
    match tool {
        Tool::Npm | Tool::Pnpm => {
            let Configured { mut indexes, uses_default, .. } = Configured::or_default(indexes());
            indexes.extend(answers.of("scope").filter_map(scan::first_address));
            Configured { indexes, uses_default, ..Configured::default() }
        }
        Tool::Yarn => {
            let Configured { mut indexes, uses_default, .. } = Configured::or_default(indexes());
            let scopes = answers.of("scopes").flat_map(|json| scan::values(json.as_bytes(), &["npmRegistryServer"]));
            indexes.extend(scopes);
            Configured { indexes, uses_default, ..Configured::default() }
        }
        Tool::Pip => pip(answers),
        Tool::Uv => uv(answers, notes),
        Tool::Poetry => poetry(answers),
        Tool::Cargo => cargo(answers, notes),
        // Without a line in its sources it asks nobody.
        Tool::Apt => Configured { indexes: indexes(), ..Configured::default() },
        Tool::Go => go(answers, notes),
        Tool::Maven => maven(answers),
        Tool::Gradle => gradle(answers),
        Tool::Gem => Configured::or_default(indexes()),
        Tool::Bundler => bundler(answers),
        // `https?://` stands for "https, or http where it must be".
        Tool::Composer => Configured::or_default(
            answers
                .of("config")
                .filter_map(|line| Some(line.split_once("] ")?.1.replace("https?://", "https://")))
                .collect(),
        ),
        // `E https://...` is enabled, `D ...` is not; `EM` is enabled for the machine.
        Tool::Nuget => Configured::or_default(
            answers.of("source").filter(|line| line.starts_with('E')).filter_map(scan::first_address).collect(),
        ),
    }
}

/// Whether an index of that tool, as it writes it, can be asked where its files are.
pub(super) fn names_files(tool: Tool, text: &str) -> bool {
    match tool {
        Tool::Npm | Tool::Pnpm | Tool::Yarn | Tool::Pip | Tool::Uv | Tool::Poetry => true,
        Tool::Composer | Tool::Nuget => true,
        // An index in git is not read over HTTP.
        Tool::Cargo => text.starts_with("sparse+"),
        Tool::Apt | Tool::Go | Tool::Maven | Tool::Gradle | Tool::Gem | Tool::Bundler => false,
    }
}

/// `global.index-url='https://...'`, several addresses in one value divided by blanks or by an escaped line break.
fn pip(answers: &Answers<'_>) -> Configured {
    // What the help names is the index in force.
    let mut indexes: Vec<String> = answers.of("index").map(str::to_owned).collect();
    let mut configured = Configured { uses_default: indexes.is_empty(), ..Configured::default() };
    for (key, value) in answers.of("config").filter_map(|line| line.split_once('=')) {
        let value = value.trim_matches(['\'', '"']).replace("\\n", " ");
        let addresses = value.split_whitespace().map(str::to_owned);
        match key.rsplit('.').next().unwrap_or(key) {
            "index-url" => {
                configured.uses_default = false;
                indexes.extend(addresses);
            }
            "extra-index-url" => indexes.extend(addresses),
            "find-links" => configured.places.extend(addresses),
            "no-index" if is_true(&value) => return Configured::default(),
            _ => {}
        }
    }
    configured.indexes = indexes;
    configured
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on" | "y" | "t")
}

fn uv(answers: &Answers<'_>, notes: &mut Vec<String>) -> Configured {
    let mut configured = Configured { uses_default: true, ..Configured::default() };
    for (name, value) in answers.of("env").filter_map(|line| line.split_once('=')) {
        // UV_INDEX may name its indexes: `internal=https://...`.
        let addresses = value.split_whitespace().filter_map(scan::first_address);
        match name {
            "UV_FIND_LINKS" => configured.places.extend(addresses),
            "UV_NO_INDEX" if is_true(value) => return Configured::default(),
            "UV_DEFAULT_INDEX" | "UV_INDEX_URL" => {
                configured.uses_default = false;
                configured.indexes.extend(addresses);
            }
            _ => configured.indexes.extend(addresses),
        }
    }
    for table in tables(Tool::Uv, answers, notes) {
        let pip = table.get("pip").and_then(toml::Value::as_table);
        for table in [Some(&table), pip].into_iter().flatten() {
            configured.uses_default &= !table.contains_key("index-url");
            configured.indexes.extend(["index-url", "extra-index-url"].iter().flat_map(|key| strings(table.get(*key))));
            configured.places.extend(strings(table.get("find-links")));
        }
        let list = table.get("index").and_then(toml::Value::as_array);
        for index in list.into_iter().flatten().filter_map(toml::Value::as_table) {
            configured.uses_default &= index.get("default").and_then(toml::Value::as_bool) != Some(true);
            configured.indexes.extend(strings(index.get("url")));
        }
    }
    configured
}

/// `repositories.internal.url = "https://..."`, or a variable.
fn poetry(answers: &Answers<'_>) -> Configured {
    let mut configured = Configured { uses_default: true, ..Configured::default() };
    for line in answers.of("config") {
        let Some(address) = scan::first_address(line) else { continue };
        configured.uses_default &= !line.to_ascii_lowercase().contains("pypi_mirror");
        configured.indexes.push(address);
    }
    configured
}

/// `[source]` tables with their replacements, and `[registries]`. The file that comes first wins.
fn cargo(answers: &Answers<'_>, notes: &mut Vec<String>) -> Configured {
    let mut indexes: Vec<String> =
        answers.of("env").filter_map(|line| Some(line.split_once('=')?.1.to_owned())).collect();
    let mut sources: BTreeMap<String, toml::Table> = BTreeMap::new();
    for table in tables(Tool::Cargo, answers, notes) {
        let tables_of = |key: &str| {
            let entries = table.get(key).and_then(toml::Value::as_table).into_iter().flatten();
            entries.filter_map(|(name, value)| Some((name.clone(), value.as_table()?.clone()))).collect::<Vec<_>>()
        };
        for (_, registry) in tables_of("registries") {
            indexes.extend(strings(registry.get("index")));
        }
        for (name, source) in tables_of("source") {
            sources.entry(name).or_insert(source);
        }
    }
    let is_replaced = |source: &toml::Table| source.contains_key("replace-with");
    for source in sources.values().filter(|source| !is_replaced(source)) {
        indexes.extend(strings(source.get("registry")));
    }
    let uses_default = !sources.get("crates-io").is_some_and(is_replaced);
    Configured { indexes, uses_default, ..Configured::default() }
}

/// `GOPROXY` is a list divided by commas and bars; `GOSUMDB` is `name`, `name+key` or `name+key address`.
fn go(answers: &Answers<'_>, notes: &mut Vec<String>) -> Configured {
    let mut configured = Configured::default();
    let proxies: Vec<&str> = answers.of("proxy").flat_map(|line| line.split([',', '|'])).map(str::trim).collect();
    if proxies.iter().all(|proxy| proxy.is_empty()) {
        return Configured { uses_default: true, ..Configured::default() };
    }
    if proxies.first() == Some(&"direct") {
        notes.push(
            "go is configured to ask each module's own host, which cannot be known; allow those by name".to_owned(),
        );
    }
    configured.indexes = proxies.iter().filter_map(|proxy| scan::first_address(proxy)).collect();
    if configured.indexes.is_empty() {
        return configured;
    }
    for sums in answers.of("sumdb").filter(|sums| !matches!(*sums, "" | "off")) {
        let name = sums.split([' ', '+']).next().unwrap_or_default();
        configured.places.push(scan::first_address(sums).unwrap_or_else(|| format!("https://{name}/")));
    }
    configured
}

/// Mirrors and repositories of `settings.xml`. A mirror of everything, or of Central, takes Central's place.
fn maven(answers: &Answers<'_>) -> Configured {
    let mut configured = Configured { uses_default: true, ..Configured::default() };
    for text in answers.files() {
        let text = scan::without_comments(&text, "<!--", "-->");
        let mut rest = String::new();
        for (number, part) in text.split("<mirror>").enumerate() {
            let Some((mirror, after)) = part.split_once("</mirror>").filter(|_| number > 0) else {
                rest.push_str(part);
                continue;
            };
            rest.push_str(after);
            // What Maven 3.8 brings along to stop plain HTTP leads nowhere.
            if mirror.contains("<blocked>true") {
                continue;
            }
            configured.indexes.extend(scan::elements(mirror, "url"));
            let of = scan::elements(mirror, "mirrorOf").join(",");
            let takes_its_place = of.split(',').any(|of| matches!(of.trim(), "*" | "external:*" | "central"));
            configured.uses_default &= !takes_its_place;
        }
        configured.indexes.extend(scan::elements(&rest, "url"));
    }
    configured
}

/// Addresses in init scripts. Whether they stand beside the defaults or in their place is a program's doing, so the
/// defaults stay.
fn gradle(answers: &Answers<'_>) -> Configured {
    let mut configured = Configured { uses_default: true, ..Configured::default() };
    for text in answers.files() {
        let is_comment = |line: &&str| ["//", "/*", "*"].iter().any(|begin| line.trim_start().starts_with(begin));
        let code = text.lines().filter(|line| !is_comment(line));
        configured.indexes.extend(code.filter_map(scan::first_address));
    }
    configured
}

/// `mirror.https://rubygems.org/=https://...`.
fn bundler(answers: &Answers<'_>) -> Configured {
    let mut configured = Configured { uses_default: true, ..Configured::default() };
    for (key, value) in answers.of("config").filter_map(|line| line.split_once('=')) {
        let Some(address) = scan::first_address(value) else { continue };
        let of = key.trim_start_matches("mirror.").trim_end_matches('/');
        configured.uses_default &= !(of == "all" || of.ends_with("://rubygems.org"));
        configured.indexes.push(address);
    }
    configured
}

/// The configuration files of a tool that keeps them as TOML.
fn tables(tool: Tool, answers: &Answers<'_>, notes: &mut Vec<String>) -> Vec<toml::Table> {
    let mut tables = Vec::new();
    for text in answers.files() {
        match text.parse::<toml::Table>() {
            Ok(table) => tables.push(table),
            Err(_) => notes.push(format!("a configuration file of {tool} in the image is no TOML; it was left out")),
        }
    }
    tables
}

/// A string, or the strings of a list.
fn strings(value: Option<&toml::Value>) -> Vec<String> {
    match value {
        Some(toml::Value::String(text)) => vec![text.clone()],
        Some(toml::Value::Array(list)) => list.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect(),
        _ => Vec::new(),
    }
}
