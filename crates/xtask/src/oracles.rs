//! Independent programs that tests compare ours with: the vendors' own clients, a second model server, Codex's
//! `apply_patch`, an S3 server. They are installed below `target/oracles`, at pinned versions, by this machine's package
//! managers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::root;
use crate::run::{program, run, step};

/// A folder of packages.
struct Oracle {
    folder: &'static str,
    manager: Manager,
    packages: &'static [&'static str],
}

enum Manager {
    Npm,
    Pip,
}

const ORACLES: &[Oracle] = &[
    Oracle {
        folder: "models",
        manager: Manager::Npm,
        packages: &["openai@7.57.0", "@anthropic-ai/sdk@1.12.0", "@copilotkit/aimock@1.43.0", "typescript@5.9.3"],
    },
    Oracle { folder: "models-python", manager: Manager::Pip, packages: &["openai==2.54.0", "anthropic==2.12.0"] },
    Oracle { folder: "codex", manager: Manager::Npm, packages: &["@openai/codex@0.169.0"] },
    Oracle { folder: "s3", manager: Manager::Npm, packages: &["s3rver@3.7.1"] },
    Oracle {
        folder: "s3-python",
        manager: Manager::Pip,
        packages: &["moto[iam,s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"],
    },
    Oracle { folder: "acp", manager: Manager::Npm, packages: &["@zed-industries/codex-acp@0.16.0"] },
];

/// Installs what is not there yet.
pub(crate) fn ensure() -> Result<()> {
    let folder = root().join("target/oracles");
    for oracle in ORACLES {
        let place = folder.join(oracle.folder);
        let list = oracle.packages.join("\n");
        // Written last, so an installation that was cut off is made again.
        let mark = place.join(".installed");
        if fs::read_to_string(&mark).is_ok_and(|installed| installed == list) {
            continue;
        }
        step(&format!("installing {} for tests", oracle.packages.join(", ")));
        oracle.install(&place).with_context(|| {
            format!("tests compare with {}; they could not be installed", oracle.packages.join(", "))
        })?;
        fs::write(mark, list)?;
    }
    Ok(())
}

impl Oracle {
    fn install(&self, place: &Path) -> Result<()> {
        fs::create_dir_all(place)?;
        let place = place.to_str().context("the path of the checkout is not UTF-8")?;
        let mut command = match self.manager {
            Manager::Npm => program("npm", &["install", "--silent", "--no-audit", "--no-fund", "--prefix", place]),
            Manager::Pip => program("pip3", &["install", "--quiet", "--upgrade", "--target", place]),
        };
        run(command.args(self.packages))
    }
}
