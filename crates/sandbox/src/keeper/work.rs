//! What a keeper does: takes on the ids, does one piece of work, says what came of it, and ends.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{ExitCode, exit};
use std::sync::atomic::AtomicBool;
use std::thread;

use carrel_runner::ids::{IdMap, join_one_of};
use serde::Serialize;
use serde_json::Value;

use super::{Trouble, Work};
use crate::disk::measure;
use crate::pack::{pack, unpack};
use crate::search::Needles;
use crate::trash::Trash;
use crate::tree::total_bytes;

/// The longest request: many secrets to look for, in JSON.
const REQUEST_BYTES: u64 = 256 << 20;

/// The keeper's program: `arguments` are the ids it takes on, the work stands on standard input, and what came of it goes
/// to standard output. To be called before the program has a second thread.
pub fn keep(arguments: &[String]) -> ExitCode {
    let answer = match read_work() {
        Ok(work) => take_ids(arguments, &work).and_then(|()| {
            end_when_abandoned();
            run(&work).map_err(|error| Trouble { number: error.raw_os_error(), words: error.to_string() })
        }),
        Err(error) => Err(format!("it was asked for what it does not understand: {error}").into()),
    };
    let written = serde_json::to_vec(&answer).map_err(io::Error::other).and_then(|text| io::stdout().write_all(&text));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_work() -> io::Result<Work> {
    let mut line = Vec::new();
    BufReader::new(io::stdin().lock().take(REQUEST_BYTES)).read_until(b'\n', &mut line)?;
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// Becomes somebody who may do the work.
fn take_ids(arguments: &[String], work: &Work) -> Result<(), Trouble> {
    let [map] = arguments else { return Err("it was not told which ids to take on".to_owned().into()) };
    let map: IdMap = map.parse().map_err(|error| format!("{error}"))?;
    // What the processes of a sandbox hold open can only be seen in their own user namespace, or above it.
    if let Work::Measure { processes, .. } = work
        && join_one_of(processes)
    {
        return Ok(());
    }
    Ok(map.enter()?)
}

/// Nothing is said to a keeper after its work: the end of its input is the end of whoever waited.
fn end_when_abandoned() {
    thread::spawn(|| {
        let _nobody_is_there = io::stdin().read(&mut [0]);
        exit(1);
    });
}

fn run(work: &Work) -> io::Result<Value> {
    let wanted = AtomicBool::new(false);
    match work {
        Work::Sweep { trash } => value(sweep(trash)?),
        Work::Measure { folder, processes } => value(measure(folder, processes)?),
        Work::Size { folder } => value(total_bytes(folder, &wanted)?),
        Work::Find { folder, needles } => {
            let needles = Needles::new(needles).map_err(io::Error::other)?;
            value(needles.find(folder, &wanted)?)
        }
        Work::Pack { folder, file } => value(pack(folder, file, &wanted)?),
        Work::Unpack { file, folder } => value(unpack(file, folder, &wanted)?),
    }
}

/// Under names of its own, because the service goes on to put things there.
fn sweep(trash: &Path) -> io::Result<()> {
    Trash::open_beside(trash.to_path_buf(), format!("k{}-", std::process::id()))?.sweep()
}

fn value(result: impl Serialize) -> io::Result<Value> {
    serde_json::to_value(result).map_err(io::Error::other)
}
