//! The archives of projects: had from a registry by its own package manager, as that is configured, kept below
//! `target/`, and never used unless their checksum is the one that the case names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::case::{Archive, Registry};
use super::program::run;

/// Unpacks an archive's only folder as this one.
pub(super) fn unpack(archive: &Archive, kept: &Path, into: &Path) -> Result<()> {
    let file = obtain(archive, kept).with_context(|| format!("{} {}", archive.name, archive.version))?;
    fs::create_dir_all(into)?;
    let arguments =
        ["-xf", &file.to_string_lossy(), "--strip-components=1", "--no-same-owner", "--no-same-permissions"];
    run("tar", &arguments, into)?;
    Ok(())
}

/// Gets an archive, once.
pub(super) fn obtain(archive: &Archive, kept: &Path) -> Result<PathBuf> {
    let folder = kept.join(&archive.sha256);
    if let Some(file) = only_file(&folder)? {
        return Ok(file);
    }
    let half = tempfile::tempdir_in(kept)?;
    let (name, to) = (format!("{}{}{}", archive.name, separator(archive.from), archive.version), half.path());
    match archive.from {
        Registry::Pip => {
            let to = to.to_string_lossy();
            let how = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", &to, &name];
            run("pip3", &how, kept)?;
        }
        Registry::Npm => {
            run("npm", &["pack", "--silent", "--pack-destination", &to.to_string_lossy(), &name], kept)?;
        }
        Registry::Cargo => {
            let file = crate_file(archive)?;
            fs::copy(&file, to.join(file.file_name().context("an archive has a name")?))?;
        }
    }
    let file = only_file(to)?.context("the package manager brought no archive")?;
    let sum = run("sha256sum", &[&file.to_string_lossy()], kept)?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    ensure!(sum == archive.sha256, "its SHA-256 is {sum}, and the case says {}", archive.sha256);
    // Whoever was first wins; the other's is the same.
    if fs::rename(half.keep(), &folder).is_err() && !folder.is_dir() {
        bail!("{} cannot be written", folder.display());
    }
    only_file(&folder)?.context("it was just there")
}

const fn separator(registry: Registry) -> &'static str {
    match registry {
        Registry::Pip => "==",
        Registry::Npm => "@",
        Registry::Cargo => "-",
    }
}

/// The archive that cargo keeps of a crate, fetched first if it has none.
fn crate_file(archive: &Archive) -> Result<PathBuf> {
    if let Some(file) = kept_by_cargo(archive)? {
        return Ok(file);
    }
    let project = tempfile::tempdir()?;
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{} = \"={}\"\n[workspace]\n",
        archive.name, archive.version
    );
    fs::write(project.path().join("Cargo.toml"), manifest)?;
    fs::write(project.path().join("lib.rs"), "")?;
    run("cargo", &["fetch", "--quiet"], project.path())?;
    kept_by_cargo(archive)?.context("cargo fetched it, and it is not among the archives it keeps")
}

fn kept_by_cargo(archive: &Archive) -> Result<Option<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let registries = home.context("neither CARGO_HOME nor HOME is set")?.join("registry/cache");
    let name = format!("{}-{}.crate", archive.name, archive.version);
    for registry in fs::read_dir(&registries).into_iter().flatten() {
        let file = registry?.path().join(&name);
        if file.is_file() {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn only_file(folder: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(None) };
    Ok(entries.collect::<Result<Vec<_>, _>>()?.first().map(fs::DirEntry::path))
}
