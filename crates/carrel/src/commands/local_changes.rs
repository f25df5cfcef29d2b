//! `--with-local-changes` and `--local-changes`: what a checkout has beyond what its remote has, as a patch that goes along with
//! a task. The person's own git makes it, and nothing in the checkout is written: the index and the objects that takes are in
//! a folder of their own.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use carrel_domain::LocalChanges;
use carrel_wire::Attachment;
use uuid::Uuid;

use crate::cli::LocalChangesArguments;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::safe;

/// The name of the patch among the files of the task.
const NAME: &str = "local-changes.patch";

/// What goes along, and the commit it is on where we know that.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) patch: Option<Uuid>,
    pub(super) commit: Option<String>,
}

/// A patch, the commit it is on, and what a person is to know about it.
#[derive(Debug)]
struct Gathered {
    patch: Vec<u8>,
    commit: String,
    notes: Vec<String>,
}

/// Uploads what is asked for. `repository` is where the service fetches from.
pub(super) async fn send(
    client: &Client,
    arguments: &LocalChangesArguments,
    repository: &str,
) -> Result<Sent, Failure> {
    if let Some(file) = &arguments.local_changes {
        let patch = read(file)?;
        return Ok(Sent { patch: Some(upload(client, patch).await?), commit: None });
    }
    if !arguments.with_local_changes {
        return Ok(Sent::default());
    }
    let (here, there) = (Path::new("."), Path::new(repository));
    // A clone of a checkout on this machine is what it is called in, not what it was cloned from.
    let is_there = there.is_absolute() && there.join(".git").exists() && remote_of(here, repository)?.is_none();
    let place = if is_there { there } else { here };
    let gathered = gather(place, repository)?;
    for note in &gathered.notes {
        tell(note);
    }
    if gathered.patch.is_empty() {
        tell("there are no local changes");
        return Ok(Sent { patch: None, commit: Some(gathered.commit) });
    }
    Ok(Sent { patch: Some(upload(client, gathered.patch).await?), commit: Some(gathered.commit) })
}

/// Says it on standard error: standard output is for the task.
fn tell(note: &str) {
    anstream::eprintln!("note: {note}");
}

async fn upload(client: &Client, patch: Vec<u8>) -> Result<Uuid, Failure> {
    within_limit(patch.len() as u64, "the patch of the local changes")?;
    let attachment: Attachment = client.upload(&format!("attachments?name={NAME}"), patch).await?;
    Ok(attachment.id)
}

fn within_limit(size_bytes: u64, what: &str) -> Result<(), Failure> {
    if size_bytes <= LocalChanges::MAX_BYTES {
        return Ok(());
    }
    let most = LocalChanges::MAX_BYTES;
    Err(Failure::usage(format!(
        "{what} has {size_bytes} bytes, more than the {most} that go along; push a branch instead"
    )))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let shown = safe(&file.to_string_lossy());
    let unreadable = |error: std::io::Error| Failure::usage(format!("cannot read the patch `{shown}`: {error}"));
    let mut patch = Vec::new();
    let most = LocalChanges::MAX_BYTES + 1;
    if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut patch).map_err(unreadable)?;
    } else {
        std::fs::File::open(file).map_err(unreadable)?.take(most).read_to_end(&mut patch).map_err(unreadable)?;
    }
    Ok(patch)
}

/// What the checkout has beyond a commit that the service's repository has, too.
fn gather(place: &Path, repository: &str) -> Result<Gathered, Failure> {
    let top = line(&git(place, &["rev-parse", "--show-toplevel"], &[])?)
        .ok_or_else(|| Failure::usage("this folder is not in a git checkout; change into the one with the changes"))?;
    let checkout = Checkout { top: PathBuf::from(top), scratch: scratch()? };
    let mut notes = Vec::new();
    let commit = checkout.base(repository, &mut notes)?;
    let unsettled = checkout.text(&["diff", "--name-only", "--diff-filter=U"])?;
    if !unsettled.is_empty() {
        let list = safe(&unsettled.lines().collect::<Vec<_>>().join(", "));
        return Err(Failure::usage(format!("this checkout has unsettled conflicts in {list}; settle them first")));
    }
    checkout.add_all(&mut notes)?;
    let patch = checkout.patch(&commit)?;
    checkout.tell_what_stays(&commit, &mut notes)?;
    Ok(Gathered { patch, commit, notes })
}

fn scratch() -> Result<tempfile::TempDir, Failure> {
    tempfile::tempdir().map_err(|error| Failure::usage(format!("cannot make a temporary folder: {error}")))
}

struct Checkout {
    top: PathBuf,
    /// The index and the objects of what is not committed.
    scratch: tempfile::TempDir,
}

impl Checkout {
    /// The commit that the service is to start from: where it fetches from this very checkout, what is checked out; else the
    /// latest one that a branch of the remote has.
    fn base(&self, repository: &str, notes: &mut Vec<String>) -> Result<String, Failure> {
        let head = line(&git(&self.top, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], &[])?)
            .ok_or_else(|| Failure::usage("this checkout has no commit yet; make one, and push it"))?;
        let is_this = Path::new(repository).canonicalize().is_ok_and(|path| Some(path) == self.top.canonicalize().ok());
        if is_this {
            return Ok(head);
        }
        let remotes = self.remotes(repository)?;
        let unpushed = self.text(&["rev-list", "--first-parent", "HEAD", "--not", &remotes])?;
        let Some(oldest) = unpushed.lines().last() else { return Ok(head) };
        let base = line(&git(&self.top, &["rev-parse", "--verify", "--quiet", &format!("{oldest}^")], &[])?);
        let base = base.ok_or_else(|| {
            Failure::usage(
                "no commit of this checkout is on a branch of its remote, as far as it knows; push one, or `git fetch`",
            )
        })?;
        let count = unpushed.lines().count();
        let commits = if count == 1 { "1 commit that is".to_owned() } else { format!("{count} commits that are") };
        notes.push(format!(
            "{commits} not pushed goes along as local changes, on commit {}",
            &base[..base.len().min(10)]
        ));
        Ok(base)
    }

    /// The branches of the remote that the service fetches from, or of all where none has that address.
    fn remotes(&self, repository: &str) -> Result<String, Failure> {
        let name = remote_of(&self.top, repository)?;
        Ok(name.map_or_else(|| "--remotes".to_owned(), |name| format!("--remotes={name}")))
    }

    /// Puts all that is there, and not ignored, into an index of our own.
    fn add_all(&self, notes: &mut Vec<String>) -> Result<(), Failure> {
        let untracked = self.text(&["ls-files", "--others", "--exclude-standard", "-z"])?;
        let (mut together, mut largest) = (0, (0, ""));
        for path in untracked.split('\0').filter(|path| !path.is_empty()) {
            if path.ends_with('/') {
                notes.push(format!("left out: `{}`, a repository of its own", safe(path)));
                continue;
            }
            let size = std::fs::symlink_metadata(self.top.join(path)).map_or(0, |file| file.len());
            together += size;
            largest = largest.max((size, path));
        }
        // Files are most often smaller in a patch, but not those that are this large.
        if together > 4 * LocalChanges::MAX_BYTES {
            let what = format!("what git does not know of here, such as `{}`, which it could ignore,", safe(largest.1));
            return within_limit(together, &what);
        }
        let index = line(&git(&self.top, &["rev-parse", "--git-path", "index"], &[])?).unwrap_or_default();
        let failed = |error: std::io::Error| Failure::usage(format!("cannot read the index of this checkout: {error}"));
        if self.top.join(&index).exists() {
            let own = self.scratch.path().join("index");
            std::fs::copy(self.top.join(&index), &own).map_err(failed)?;
            // With its time: git tells by it which files may have changed within the same second.
            let time = self.top.join(&index).metadata().and_then(|data| data.modified()).map_err(failed)?;
            std::fs::File::options().write(true).open(&own).and_then(|file| file.set_modified(time)).map_err(failed)?;
        }
        std::fs::create_dir_all(self.scratch.path().join("objects")).map_err(failed)?;
        let quiet = ["-c", "advice.addEmbeddedRepo=false", "-c", "core.safecrlf=false"];
        self.text(&[&quiet[..], &["add", "--all", "--", "."]].concat()).map(drop)
    }

    fn patch(&self, commit: &str) -> Result<Vec<u8>, Failure> {
        let form = ["--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames"];
        let names = ["--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=all"];
        let made = self.run(&[&["diff", "--cached"], &form[..], &names[..], &[commit]].concat())?;
        Ok(made.stdout)
    }

    /// Says what a person may miss.
    fn tell_what_stays(&self, commit: &str, notes: &mut Vec<String>) -> Result<(), Failure> {
        let changes = self.text(&["diff", "--cached", "--raw", "--no-abbrev", "--ignore-submodules=none", commit])?;
        for line in changes.lines().filter(|line| line.split(' ').take(2).any(|mode| mode.ends_with("160000"))) {
            let path = line.split_once('\t').map_or(line, |(_, path)| path);
            notes.push(format!("left out: the submodule `{}`", safe(path)));
        }
        let ignored = git(
            &self.top,
            &["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "--no-empty-directory", "-z"],
            &[],
        )?;
        let ignored = String::from_utf8_lossy(&ignored.stdout).into_owned();
        let mut names = ignored.split('\0').filter(|name| !name.is_empty());
        if let Some(first) = names.next() {
            let more = match names.count() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            notes.push(format!("left out: what git ignores, `{}`{more}", safe(first)));
        }
        Ok(())
    }

    fn text(&self, arguments: &[&str]) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.run(arguments)?.stdout).into_owned())
    }

    /// A call of git with an index and objects of our own; one that fails says why.
    fn run(&self, arguments: &[&str]) -> Result<Output, Failure> {
        let objects = line(&git(&self.top, &["rev-parse", "--git-path", "objects"], &[])?).unwrap_or_default();
        let mut own: Vec<(&str, PathBuf)> = Vec::new();
        if self.scratch.path().join("objects").exists() {
            own.push(("GIT_INDEX_FILE", self.scratch.path().join("index")));
            own.push(("GIT_OBJECT_DIRECTORY", self.scratch.path().join("objects")));
            own.push(("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.top.join(objects)));
        }
        let own: Vec<(&str, &OsStr)> = own.iter().map(|(name, path)| (*name, path.as_os_str())).collect();
        let ran = git(&self.top, arguments, &own)?;
        if ran.status.success() {
            return Ok(ran);
        }
        let said = safe(String::from_utf8_lossy(&ran.stderr).trim());
        Err(Failure::usage(format!("git cannot tell the local changes: {said}")))
    }
}

/// The name of the remote of a checkout that has this address.
fn remote_of(place: &Path, address: &str) -> Result<Option<String>, Failure> {
    let all = git(place, &["config", "--get-regexp", r"^remote\..*\.url$"], &[])?;
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    let name = all.lines().find_map(|line| {
        let (key, url) = line.split_once(' ')?;
        (url == address).then(|| key.strip_prefix("remote.")?.strip_suffix(".url")).flatten()
    });
    Ok(name.map(str::to_owned))
}

/// The one line that git printed, if it worked.
fn line(ran: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&ran.stdout).trim_end_matches('\n').to_owned();
    (ran.status.success() && !text.is_empty()).then_some(text)
}

fn git(place: &Path, arguments: &[&str], variables: &[(&str, &OsStr)]) -> Result<Output, Failure> {
    Command::new("git")
        .arg("-C")
        .arg(place)
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::usage(format!("cannot run git: {error}; install it")))
}
