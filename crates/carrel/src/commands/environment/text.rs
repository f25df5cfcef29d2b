//! Environments for people.

use std::fmt::Write as _;

use carrel_wire::{Environment, EnvironmentList, Internet, Limits, Methods, NetworkPolicy, SecretKind, Setup};

use crate::output::safe;

/// The environments by name, a line each, below what the columns are.
pub(super) fn environments(all: &EnvironmentList) -> String {
    let mut items: Vec<&Environment> = all.items.iter().collect();
    items.sort_by(|one, other| one.name.cmp(&other.name));
    let rows = items.into_iter().map(|one| {
        let covers = match one.repositories.as_slice() {
            [] => "any repository".to_owned(),
            [only] => safe(only),
            [first, rest @ ..] => format!("{} and {} more", safe(first), rest.len()),
        };
        let image = one.image.as_deref().map_or_else(|| "-".to_owned(), safe);
        [safe(&one.name), one.version.to_string(), image, reach(&one.agent_network), covers]
    });
    let head = ["NAME", "VERSION", "IMAGE", "INTERNET", "REPOSITORIES"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, version, image, internet] = [0, 1, 2, 3].map(width);
    let lines = rows.iter().map(|[one, two, three, four, five]| {
        format!("{one:<name$}  {two:<version$}  {three:<image$}  {four:<internet$}  {five}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What may be reached, in a few words.
fn reach(policy: &NetworkPolicy) -> String {
    let read = if policy.methods == Methods::Read { ", reads only" } else { "" };
    let preset = internet(policy.internet);
    match (policy.internet, policy.domains.len()) {
        (Internet::Off, 0) => preset.to_owned(),
        (Internet::Off, 1) => format!("1 domain{read}"),
        (Internet::Off, count) => format!("{count} domains{read}"),
        (_, 0) | (Internet::All, _) => format!("{preset}{read}"),
        (_, count) => format!("{preset} + {count}{read}"),
    }
}

/// One environment.
pub(super) fn environment(one: &Environment) -> String {
    let mut text = String::new();
    let mut row = |what: &str, value: &str| {
        writeln!(text, "{what:<14}{value}").expect("a string takes everything");
    };
    row("environment", &format!("{} v{}", safe(&one.name), one.version));
    match one.repositories.as_slice() {
        [] => row("repositories", "any"),
        all => all.iter().for_each(|location| row("repository", &safe(location))),
    }
    row("image", &one.image.as_deref().map_or_else(|| "as the repository says, or the host".to_owned(), safe));
    row("setup", &setup(one.setup.as_ref()));
    row("maintenance", &one.maintenance_script.as_deref().map_or_else(|| "-".to_owned(), lines));
    for (name, value) in &one.variables {
        row("variable", &format!("{}={}", safe(name), one_line(value)));
    }
    for secret in &one.secrets {
        let kind = match secret.kind {
            SecretKind::Setup => "for setup".to_owned(),
            SecretKind::Network => format!("for {}", safe(&secret.hosts.join(", "))),
        };
        let given = secret.updated_at.map_or_else(|| "its value is gone".to_owned(), |at| format!("given {at}"));
        row("secret", &format!("{} {kind}, {given}", safe(&secret.name)));
    }
    row("internet", &format!("agent: {}", network(&one.agent_network)));
    row("", &format!("setup: {}", network(&one.setup_network)));
    row("limits", &limits(&one.limits));
    row("snapshots", &format!("reused for {}", duration(one.snapshot_life_s)));
    for hint in &one.hints {
        row("hint", &safe(hint));
    }
    text.trim_end().to_owned()
}

fn setup(setup: Option<&Setup>) -> String {
    match setup {
        None => "as the repository says, or automatic".to_owned(),
        Some(Setup::Nothing {}) => "nothing".to_owned(),
        Some(Setup::Automatic {}) => "automatic".to_owned(),
        Some(Setup::Script { script }) => lines(script),
    }
}

/// A script, by its first line and its length.
fn lines(script: &str) -> String {
    let count = script.trim().lines().count();
    let first = crate::output::first_line(script);
    if count > 1 { format!("{first} ({count} lines)") } else { first }
}

fn one_line(value: &str) -> String {
    safe(&value.replace('\n', "\\n"))
}

fn network(policy: &NetworkPolicy) -> String {
    let mut text = internet(policy.internet).to_owned();
    if !policy.domains.is_empty() {
        text = format!("{text}, and {}", safe(&policy.domains.join(", ")));
    }
    if policy.methods == Methods::Read {
        text.push_str(" (only GET, HEAD and OPTIONS)");
    }
    text
}

const fn internet(internet: Internet) -> &'static str {
    match internet {
        Internet::Off => "off",
        Internet::Packages => "packages",
        Internet::Common => "common",
        Internet::All => "all",
    }
}

fn limits(limits: &Limits) -> String {
    let mut parts = Vec::new();
    if limits.cpu_millis > 0 {
        parts.push(format!("{}.{:03} processors", limits.cpu_millis / 1000, limits.cpu_millis % 1000));
    }
    if limits.memory_bytes > 0 {
        parts.push(format!("memory {}", size(limits.memory_bytes)));
    }
    if limits.disk_bytes > 0 {
        parts.push(format!("disk {}", size(limits.disk_bytes)));
    }
    parts.push(format!("{} processes", limits.processes));
    if limits.wall_clock_s > 0 {
        parts.push(format!("{} in all", duration(limits.wall_clock_s)));
    }
    parts.push(format!("{} for setup", duration(limits.setup_s)));
    parts.push(format!("output {}", size(limits.output_bytes)));
    parts.join(", ")
}

/// A size in the largest unit that leaves nothing over.
fn size(bytes: u64) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let fits = units.into_iter().find(|(shift, _)| bytes.is_multiple_of(1_u64 << shift));
    fits.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// A duration in the largest unit that leaves nothing over.
fn duration(seconds: u32) -> String {
    if seconds == 0 {
        return "no time".to_owned();
    }
    let units = [(3600, "h"), (60, "m")];
    let fits = units.into_iter().find(|(each, _)| seconds.is_multiple_of(*each));
    fits.map_or_else(|| format!("{seconds}s"), |(each, unit)| format!("{}{unit}", seconds / each))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(internet: Internet, domains: &[&str]) -> NetworkPolicy {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        NetworkPolicy { internet, domains, methods: Methods::All }
    }

    #[test]
    fn what_may_be_reached_is_said_in_a_few_words() {
        for (policy, words) in [
            (policy(Internet::Off, &[]), "off"),
            (policy(Internet::Off, &["a.example"]), "1 domain"),
            (policy(Internet::Off, &["a.example", "b.example"]), "2 domains"),
            (policy(Internet::Packages, &["a.example"]), "packages + 1"),
            (policy(Internet::All, &["a.example"]), "all"),
            (NetworkPolicy { methods: Methods::Read, ..policy(Internet::All, &[]) }, "all, reads only"),
        ] {
            assert_eq!(reach(&policy), words);
        }
    }

    #[test]
    fn sizes_and_durations_are_shown_as_they_can_be_given() {
        assert_eq!((size(4 << 30), size(1536 << 20), size(1000)), ("4G".into(), "1536M".into(), "1000".into()));
        assert_eq!((duration(43_200), duration(5400), duration(61)), ("12h".into(), "90m".into(), "61s".into()));
    }
}
