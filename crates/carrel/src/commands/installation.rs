//! What is done with an installation as a whole: its schema brought forward, all of it written into one file, and taken from
//! one. These commands work on the database and the data folder themselves; no service is asked. What an archive is, is
//! `carrel-store`'s; which files of the data folder go along is decided here.

mod files;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use carrel_store::{Moved, SealingKeys, StatePlace, StoreError, TransferError};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use crate::cli::installation::{InstallationCommand, OutputArguments};
use crate::exit::Failure;
use crate::output;
use crate::serve;
use crate::settings::Settings;

/// What is read and written at a time.
const CHUNK_BYTES: usize = 1 << 20;

pub(crate) async fn installation(command: InstallationCommand, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        InstallationCommand::Migrate { check: true } => check(settings, json).await,
        InstallationCommand::Migrate { check: false } => migrate(settings, json).await,
        InstallationCommand::Export { output, with_keys } => export(settings, &output, with_keys, json).await,
        InstallationCommand::Backup { output } => export(settings, &output, true, json).await,
        InstallationCommand::Import { file } | InstallationCommand::Restore { file } => {
            import(settings, &file, json).await
        }
    }
}

/// Where the installation is that the settings name.
pub(super) fn place(settings: &Settings) -> Result<StatePlace, Failure> {
    Ok(StatePlace {
        folder: settings.data.clone(),
        postgres: settings.postgres().map_err(Failure::usage)?,
        artifacts: settings.artifact_place().map_err(Failure::usage)?,
    })
}

async fn check(settings: &Settings, json: bool) -> Result<(), Failure> {
    let schema = carrel_store::schema(&place(settings)?).await.map_err(|error| refused(&error))?;
    let is_there = schema.as_ref().is_some_and(|schema| !schema.made.is_empty());
    let missing = schema.map(|schema| schema.missing);
    if json {
        output::document(&json!({ "exists": is_there, "missing": missing.as_deref().unwrap_or_default() }))?;
    }
    match missing {
        Some(missing) if missing.is_empty() => said(json, "the schema is up to date"),
        _ if json => Err(Failure::exit(1)),
        Some(missing) if is_there => Err(Failure::work(format!(
            "the schema lacks {}; `carrel migrate`, or the next start of this version, brings it forward",
            missing.join(", ")
        ))),
        _ => Err(Failure::work("there is no schema yet; `carrel migrate`, or `carrel serve`, makes it")),
    }
}

async fn migrate(settings: &Settings, json: bool) -> Result<(), Failure> {
    let made = carrel_store::migrate(&place(settings)?).await.map_err(|error| refused(&error))?;
    if json {
        return output::document(&json!({ "made": made }));
    }
    if made.is_empty() {
        return output::line("the schema is up to date");
    }
    output::line(&format!("brought forward: {}", made.join(", ")))
}

async fn export(settings: &Settings, to: &OutputArguments, with_keys: bool, json: bool) -> Result<(), Failure> {
    let place = place(settings)?;
    let files = if with_keys { files::all(settings)? } else { Vec::new() };
    let is_stream = to.file == Path::new("-");
    let moved = if is_stream {
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage(
                "an archive is nothing for a terminal; name a file, or send it to another program",
            ));
        }
        write(&place, &files, tokio::io::stdout()).await?
    } else {
        let file = NewFile::beside(to)?;
        // One that is stopped takes what there is of it away: there may be keys in it.
        let moved = tokio::select! {
            moved = write(&place, &files, tokio::fs::File::from_std(file.handle()?)) => moved?,
            asked = serve::asked_to_stop() => return asked.and(Err(Failure::work("stopped; nothing was written"))),
        };
        file.keep(to)?;
        moved
    };
    let mut text = format!("wrote {}", counted(&moved));
    if !moved.sealed_under.is_empty() && !with_keys {
        let file = settings.secrets.key_file.display();
        text.push_str(&format!(
            "\nvalues of secrets are sealed in it: keep the key ({file}) as well, in another place"
        ));
    }
    text.push_str(&lost(&moved));
    told(&moved, &text, is_stream, json)
}

async fn write(
    place: &StatePlace,
    files: &[carrel_store::MovedFile],
    output: impl AsyncWrite + Unpin + Send,
) -> Result<Moved, Failure> {
    let output = BufWriter::with_capacity(CHUNK_BYTES, output);
    let written = carrel_store::export(place, files, output).await;
    let (moved, mut output) = written.map_err(failed)?;
    output.shutdown().await.map_err(|error| failed(TransferError::Output(error)))?;
    Ok(moved)
}

async fn import(settings: &Settings, file: &Path, json: bool) -> Result<(), Failure> {
    let place = place(settings)?;
    let input: Box<dyn AsyncRead + Unpin + Send> = if file == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        let opened = tokio::fs::File::open(file).await;
        Box::new(opened.map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?)
    };
    serve::make_data_folder(&settings.data)?;
    let _alone = serve::lock(&settings.data).await?;
    let mut kept = files::Kept::default();
    let input = BufReader::with_capacity(CHUNK_BYTES, input);
    let taken = carrel_store::import(&place, input, |files| kept.keep(settings, files)).await;
    let moved = taken.map_err(|error| {
        if !matches!(error, TransferError::Unsettled(_)) {
            kept.take_back();
        }
        failed(error)
    })?;
    let mut text = format!("took over {}", counted(&moved));
    let keys = files::keys(settings)?.map(|keys| SealingKeys::parse(&keys)).transpose().map_err(Failure::usage)?;
    let known = |id| keys.as_ref().is_some_and(|keys| keys.ids().any(|known| known == id));
    if !moved.sealed_under.iter().all(known) {
        let file = settings.secrets.key_file.display();
        text.push_str(&format!(
            "\nthe key of the secrets is not here: put it into {file} before `carrel serve` is started"
        ));
    }
    text.push_str(&lost(&moved));
    told(&moved, &text, false, json)
}

/// How names of files begin that are not whole yet, and after how long nobody is at it any more.
const PARTIAL: &str = ".carrel-export-";
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A file that gets its name when it is whole.
struct NewFile(tempfile::NamedTempFile);

impl NewFile {
    fn beside(to: &OutputArguments) -> Result<Self, Failure> {
        if !to.force && to.file.exists() {
            return Err(exists(&to.file));
        }
        let folder = to.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sweep(folder);
        // Only its owner can read it.
        let made = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder);
        made.map(Self).map_err(|error| Failure::usage(format!("cannot write into {}: {error}", folder.display())))
    }

    fn handle(&self) -> Result<std::fs::File, Failure> {
        self.0.as_file().try_clone().map_err(|error| Failure::service(format!("cannot write the archive: {error}")))
    }

    fn keep(self, to: &OutputArguments) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::service(format!("cannot write {}: {error}", to.file.display()));
        self.0.as_file().sync_all().map_err(failed)?;
        let named = if to.force { self.0.persist(&to.file) } else { self.0.persist_noclobber(&to.file) };
        named.map(drop).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&to.file),
            _ => failed(error.error),
        })
    }
}

/// Removes what was left by those that were killed in the middle of it, a day ago or longer.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_partial = entry.file_name().to_string_lossy().starts_with(PARTIAL);
        let modified = entry.metadata().and_then(|data| data.modified()).ok();
        let is_old = modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED);
        if is_partial && is_old {
            // Somebody else's stays.
            let _removed = std::fs::remove_file(entry.path());
        }
    }
}

fn exists(file: &Path) -> Failure {
    Failure::usage(format!("{} is there already; take another name, or --force to replace it", file.display()))
}

/// What a person wants to know of an archive.
fn counted(moved: &Moved) -> String {
    let rows = |table| moved.rows.get(table).copied().unwrap_or_default();
    let files = if moved.files.is_empty() { String::new() } else { format!(", and {}", moved.files.join(", ")) };
    format!(
        "{} with {} and {}, {}, {} of {}{files}",
        so_many(rows("task"), "task"),
        so_many(rows("attempt"), "attempt"),
        so_many(rows("event"), "event"),
        so_many(rows("environment"), "environment"),
        so_many(moved.artifacts, "artifact"),
        so_many(moved.artifact_bytes, "byte"),
    )
}

/// `1 task`, `2 tasks`.
fn so_many(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn lost(moved: &Moved) -> String {
    match moved.missing.len() {
        0 => String::new(),
        count => format!("\nnot there, and lost before: the bytes of {count} artifacts ({} …)", moved.missing[0]),
    }
}

fn told(moved: &Moved, text: &str, is_stream: bool, json: bool) -> Result<(), Failure> {
    let keys: Vec<String> = moved.sealed_under.iter().map(ToString::to_string).collect();
    let document: Value = json!({
        "rows": moved.rows,
        "artifacts": moved.artifacts,
        "artifact_bytes": moved.artifact_bytes,
        "missing": moved.missing,
        "sealed_under": keys,
        "files": moved.files,
    });
    match (is_stream, json) {
        (false, false) => output::line(text),
        (false, true) => output::document(&document),
        // Standard output is the archive's.
        (true, _) => {
            let line = if json { document.to_string() } else { text.to_owned() };
            let _nobody_listens = writeln!(anstream::stderr(), "{line}");
            Ok(())
        }
    }
}

fn said(json: bool, text: &str) -> Result<(), Failure> {
    if json { Ok(()) } else { output::line(text) }
}

fn refused(error: &StoreError) -> Failure {
    match error {
        StoreError::Newer { .. } => Failure::refused_here(error.to_string()),
        _ => Failure::service(error.to_string()),
    }
}

fn failed(error: TransferError) -> Failure {
    match error {
        TransferError::Store(error) => refused(&error),
        TransferError::Output(_) | TransferError::Input(_) | TransferError::Unsettled(_) => {
            Failure::service(error.to_string())
        }
        TransferError::Nothing { .. }
        | TransferError::Behind
        | TransferError::Archive { .. }
        | TransferError::NewerArchive { .. }
        | TransferError::NotEmpty { .. }
        | TransferError::TooFar
        | TransferError::TooManyMissing { .. }
        | TransferError::File(_) => Failure::refused_here(error.to_string()),
    }
}
