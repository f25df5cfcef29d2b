//! A case on this machine, without the product: whether its test fails with the bug and passes without it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::case::{Case, Language};
use super::program::{self, Ended, shell, tail};
use super::verdict::{self, Verdict};
use super::{patch, tree};

/// What cases share on this machine.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where archives are kept.
    pub(super) archives: PathBuf,
    /// The home folder of tests.
    pub(super) home: PathBuf,
    /// Where cargo and rustc are, where sandboxes can see them, if any case needs them.
    pub(super) rust: Option<PathBuf>,
}

impl Place {
    /// Makes the folders below `target/`, and finds a Rust toolchain if one is needed.
    pub(super) fn make(target: &Path, rust: bool) -> Result<Self> {
        let place = target.join("replay");
        let (archives, home) = (place.join("archives"), place.join("home"));
        fs::create_dir_all(&archives).and_then(|()| fs::create_dir_all(&home))?;
        Ok(Self { archives, home, rust: rust.then(program::toolchain).transpose()? })
    }

    /// Runs a case's setup, if it has one.
    pub(super) fn set_up(&self, case: &Case, folder: &Path) -> Result<()> {
        let Some(line) = &case.test.setup else { return Ok(()) };
        let ended = self.run(case, line, folder)?;
        if ended.code != 0 {
            bail!("its setup ended with {}: {}", ended.code, tail(&ended.output));
        }
        Ok(())
    }

    /// Runs a case's test, which must end as it is said to.
    pub(super) fn test(&self, case: &Case, folder: &Path, wanted: Verdict) -> Result<()> {
        let ended = self.run(case, &case.test.command, folder)?;
        judge(case, ended.code, &ended.output, wanted)
    }

    fn run(&self, case: &Case, line: &str, folder: &Path) -> Result<Ended> {
        let first = self.rust.as_deref().filter(|_| case.language == Language::Rust);
        shell(line, folder, &self.home, first)
    }
}

/// Whether a run of a case's test ended as it must: by its exit code and by what it says of the test.
pub(super) fn judge(case: &Case, code: i32, output: &str, wanted: Verdict) -> Result<()> {
    let said = verdict::of(case.test.framework, &case.test.name, output);
    let as_wanted = said == wanted && (code == 0) == (wanted == Verdict::Passed);
    ensure!(as_wanted, "`{}` is {said:?} with exit code {code}, not {wanted:?}: {}", case.test.name, tail(output));
    Ok(())
}

/// Checks one case.
pub(super) fn check(case: &Case, place: &Place) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    tree::lay_out(case, &place.archives, folder)?;
    patch::write(case, folder)?;
    place.set_up(case, folder)?;
    place.test(case, folder, Verdict::Failed).context("before the fix")?;
    for (file, text) in tree::fixed(case, folder)? {
        let path = folder.join(&file);
        match text {
            Some(text) => {
                fs::create_dir_all(path.parent().context("a file has a folder")?)?;
                fs::write(&path, text)
            }
            None => fs::remove_file(&path),
        }
        .with_context(|| format!("cannot change {file}"))?;
    }
    place.test(case, folder, Verdict::Passed).context("after the fix")
}
