//! Other programs: run to their end within a time, and what they printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How long anything may take that is not an agent's task.
const LIMIT_S: &str = "600";

/// Where programs are found: those of the machine, as in a sandbox.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    /// Of both of its outputs, the standard one first.
    pub(super) output: String,
}

/// Runs a program; anything but success is an error with what it printed.
pub(super) fn run(name: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let ended = end(Command::new("timeout").arg(LIMIT_S).arg(name).args(arguments).current_dir(folder))?;
    if ended.code != 0 {
        bail!("`{name} {}` ended with {}: {}", arguments.join(" "), ended.code, tail(&ended.output));
    }
    Ok(ended.output)
}

/// Runs a line of bash as a sandbox would, but on this machine: with a home folder and a `PATH` of its own.
pub(super) fn shell(line: &str, folder: &Path, home: &Path, first_in_path: Option<&Path>) -> Result<Ended> {
    std::fs::create_dir_all(home)?;
    let path = first_in_path.map_or_else(|| PATH.to_owned(), |first| format!("{}:{PATH}", first.display()));
    let mut command = Command::new("timeout");
    command.args([LIMIT_S, "bash", "-c", line]).current_dir(folder).env("PATH", path).env("HOME", home);
    // Whoever measures may have settings of their own; those of package managers stay, they say where packages are.
    for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "RUSTC_WRAPPER", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "PYTHONPATH"] {
        command.env_remove(name);
    }
    end(&mut command)
}

fn end(command: &mut Command) -> Result<Ended> {
    let output = command.stdin(Stdio::null()).output().context("cannot start `timeout`, of the coreutils")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ok(Ended { code, output: text(&output.stdout) + &text(&output.stderr) })
}

/// The last lines of a text.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Where a toolchain of a home folder is copied to, because sandboxes on this machine's root see no home folders.
const SEEN_BY_SANDBOXES: &str = "/opt/carrel-replay";

/// The folder of a cargo and a rustc that sandboxes see: a copy of whoever's toolchain runs this, or else the
/// distribution's. The copy's files are hard links where the disk is the same, so it costs nothing.
pub(super) fn toolchain() -> Result<PathBuf> {
    let here = Path::new(".");
    let version = run("rustc", &["--version"], here)?;
    let version = version.split_whitespace().nth(1).context("rustc says no version")?;
    let copy = Path::new(SEEN_BY_SANDBOXES).join(format!("rust-{version}"));
    if copy.is_dir() {
        return Ok(copy.join("bin"));
    }
    let sysroot = PathBuf::from(run("rustc", &["--print", "sysroot"], here)?.trim());
    let distribution = Path::new("/usr/bin");
    if sysroot.starts_with("/usr") && distribution.join("cargo").is_file() {
        return Ok(distribution.to_owned());
    }
    let half = Path::new(SEEN_BY_SANDBOXES).join(format!("rust-{version}.half"));
    let line = "set -e; rm -rf \"$2\"; mkdir -p \"$2/bin\" \"$2/lib\"; cd \"$1\"; \
        copy() { cp -al \"$@\" 2>/dev/null || cp -a \"$@\"; }; \
        copy bin/cargo bin/rustc \"$2/bin/\"; copy lib/. \"$2/lib/\"; chmod -R a+rX \"$2\"";
    run("bash", &["-c", line, "bash", &sysroot.to_string_lossy(), &half.to_string_lossy()], here).with_context(
        || format!("sandboxes see no toolchain: make {SEEN_BY_SANDBOXES} writable, or use one in /usr"),
    )?;
    std::fs::rename(&half, &copy)?;
    Ok(copy.join("bin"))
}
