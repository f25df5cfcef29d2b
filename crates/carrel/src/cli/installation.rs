//! What is done with an installation as a whole, as it is written on the command line. A service need not run for it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const MIGRATE_HELP: &str = "\
The database is the one of DATABASE_URL, or that of the data folder. `carrel serve` does the same when it starts. No change takes
away what the version before needs: a service of that version may go on meanwhile.

Exit codes:
  0    the schema is up to date, with --check: it was before
  1    with --check: something is to be done";

const EXPORT_HELP: &str = "\
The archive holds everything that a database and the artifacts hold, as it is at one moment; the service may go on meanwhile.
`carrel import` fills an empty installation with it, on SQLite or PostgreSQL. Sandboxes, prepared environments, mirrors and
images are not in it: they are made again.

Values of secrets stay sealed. The keys that open them, the git credentials and the local token are only in it with --with-keys:
whoever has such an archive has all secrets. Without it, keep `secrets.key` of the data folder in another place.

To move, stop the service first: what it does after the export is not in the archive. A long stream can be packed on its way:
carrel export - | zstd > carrel.tar.zst; zstd -dc carrel.tar.zst | carrel import -";

const IMPORT_HELP: &str = "\
The installation is filled in one transaction, and everything is compared with what the archive says of itself: it is there as a
whole, or not at all. Ids, the numbers of events, tokens and sealed secrets stay what they were. An archive of an older version is
brought forward.

The database is the one of DATABASE_URL, or that of the data folder, and has to be empty; artifacts go to where
CARREL_ARTIFACTS says. Attempts that were under way are taken up when the service is started: those whose sandbox is not here end
with that reason, and are made again.";

#[derive(Debug, Subcommand)]
pub(crate) enum InstallationCommand {
    /// Bring the schema of the database forward
    #[command(after_help = MIGRATE_HELP)]
    Migrate {
        /// Only say what is to be done
        #[arg(long)]
        check: bool,
    },
    /// Write the whole installation into one file
    #[command(after_help = EXPORT_HELP)]
    Export {
        #[command(flatten)]
        output: OutputArguments,
        /// With the keys that open the values of secrets, the git credentials and the local token
        #[arg(long)]
        with_keys: bool,
    },
    /// Fill an empty installation from such a file
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The file; `-` reads it from standard input
        file: PathBuf,
    },
    /// Write the whole installation with its keys into one file: `export --with-keys`
    Backup {
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Put an installation back from a backup: the same as `import`
    Restore {
        /// The file; `-` reads it from standard input
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OutputArguments {
    /// The file, which only its owner will be able to read; `-` writes to standard output
    pub(crate) file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub(crate) force: bool,
}
