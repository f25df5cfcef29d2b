//! What benchmarks say of times and of processes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, the same on every architecture Linux runs on today.
const TICKS_A_SECOND: f64 = 100.0;

/// The time below which this share of all times stayed, in milliseconds.
pub(crate) fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.len().checked_sub(1).map_or(f64::NAN, |last| times[last * percent / 100].as_secs_f64() * 1000.0)
}

/// What a process has used so far; the programs it has started are not counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Processor time.
    pub(crate) cpu_seconds: f64,
    /// The most memory it had at once.
    pub(crate) peak_mib: f64,
    /// Its share of the memory it has now: pages it has with others are divided among them.
    pub(crate) share_mib: f64,
}

impl Used {
    /// Reads it from the kernel.
    pub(crate) fn by(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
        // The name stands in brackets and may hold anything; what follows is numbers, user time the 12th of them.
        let (_, numbers) = stat.rsplit_once(") ").context("a line of /proc/PID/stat has a name in it")?;
        let ticks = numbers.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(Self {
            cpu_seconds: ticks / TICKS_A_SECOND,
            peak_mib: mebibytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmHWM:")?,
            share_mib: mebibytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")?,
        })
    }
}

/// A line `Name:   123 kB`.
fn mebibytes(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no line {name}"))?;
    let kibibytes = line.trim().strip_suffix("kB").context("memory is counted in kB")?;
    Ok(kibibytes.trim().parse::<f64>()? / 1024.0)
}
