//! The table of a run, and what did not work.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};

use super::case::{Case, Language};
use super::play::Played;

/// Says how one case went, as soon as it is known.
#[expect(clippy::print_stderr, reason = "whoever waits wants to see how far it is")]
pub(super) fn done(case: &Case, error: Option<&anyhow::Error>) {
    match error {
        None => eprintln!("{}: well", case.name),
        Some(error) => eprintln!("{}: {error:#}", case.name),
    }
}

/// Says that nothing was played, and why.
#[expect(clippy::print_stderr, reason = "whoever tests wants to know what was not")]
pub(super) fn passed_over(error: &anyhow::Error) {
    eprintln!("no bug fixes are played: {error:#}");
}

/// The outcome of checks.
#[expect(clippy::print_stdout, reason = "the summary is what this command is for")]
pub(super) fn checked(cases: &[(Case, Result<()>)]) -> Result<()> {
    println!("{}", kinds(cases));
    all_well(cases)
}

/// The outcome of a run through the product.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
pub(super) fn played(cases: &[(Case, Result<Played>)]) -> Result<()> {
    println!("{}{}", table(cases)?, kinds(cases));
    all_well(cases)
}

fn table(cases: &[(Case, Result<Played>)]) -> Result<String> {
    let mut text =
        format!("{:<38} {:<26} {:>7} {:>11} {:>15}\n", "case", "project", "task s", "commands s", "a turn's own ms");
    for (case, outcome) in cases {
        let project = format!("{} {}", case.project, case.archive.version);
        match outcome {
            Ok(played) => writeln!(
                text,
                "{:<38} {project:<26} {:>7.2} {:>11.2} {:>15.1}",
                case.name,
                played.task.as_secs_f64(),
                played.commands.as_secs_f64(),
                percentile(&played.turns, 50).as_secs_f64() * 1000.0,
            )?,
            Err(_) => writeln!(text, "{:<38} {project:<26} did not work", case.name)?,
        }
    }
    let well: Vec<&Played> = cases.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).collect();
    let tasks: Vec<Duration> = well.iter().map(|played| played.task).collect();
    let turns: Vec<Duration> = well.iter().flat_map(|played| played.turns.clone()).collect();
    for (name, times, unit) in [("task, s", &tasks, 1.0), ("overhead of a turn, ms", &turns, 1000.0)] {
        let [median, p95, most] = [50, 95, 100].map(|percent| percentile(times, percent).as_secs_f64() * unit);
        writeln!(text, "{name}: median {median:.2}, p95 {p95:.2}, most {most:.2} (of {})", times.len())?;
    }
    Ok(text)
}

/// How many of which language worked.
fn kinds<T>(cases: &[(Case, Result<T>)]) -> String {
    let mut counts: BTreeMap<Language, (usize, usize)> = BTreeMap::new();
    for (case, outcome) in cases {
        let (well, all) = counts.entry(case.language).or_default();
        *well += usize::from(outcome.is_ok());
        *all += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(language, (well, all))| format!("{language:?} {well} of {all}")).collect();
    counts.join(", ")
}

fn all_well<T>(cases: &[(Case, Result<T>)]) -> Result<()> {
    let failed: Vec<&str> =
        cases.iter().filter(|(_, outcome)| outcome.is_err()).map(|(case, _)| case.name.as_str()).collect();
    if !failed.is_empty() {
        bail!("{} of {} cases did not work: {}", failed.len(), cases.len(), failed.join(", "));
    }
    Ok(())
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}
