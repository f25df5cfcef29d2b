//! What the machine has: programs that are needed are installed from the distribution as root, or named.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{output, program, run, say, step};

/// A program, the Debian package it comes in, and what it is for.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) why: &'static str,
}

/// What building needs.
pub(crate) const TO_BUILD: &[Tool] = &[
    Tool { name: "git", package: "git", why: "mirrors and patches" },
    Tool { name: "gcc", package: "gcc", why: "the few dependencies with C in them" },
    Tool { name: "make", package: "make", why: "the few dependencies with C in them" },
    Tool { name: "node", package: "nodejs", why: "building the web app" },
    Tool { name: "npm", package: "npm", why: "building the web app" },
];

/// What tests need besides.
pub(crate) const TO_TEST: &[Tool] = &[
    Tool { name: "chromium", package: "chromium", why: "the browser story" },
    Tool { name: "sshd", package: "openssh-server", why: "pushing over ssh" },
    Tool { name: "bwrap", package: "bubblewrap", why: "comparing sandboxes" },
    Tool { name: "docker-registry", package: "docker-registry", why: "pulling images" },
    Tool { name: "skopeo", package: "skopeo", why: "making images" },
    Tool { name: "umoci", package: "umoci", why: "comparing unpacked images" },
    Tool { name: "busybox", package: "busybox-static", why: "small root file systems" },
    Tool { name: "openssl", package: "openssl", why: "certificates of test servers" },
    Tool { name: "python3", package: "python3", why: "escape attempts, real clients" },
    Tool { name: "pip3", package: "python3-pip", why: "asking package managers" },
    Tool { name: "sqlite3", package: "sqlite3", why: "looking at the database from outside" },
    Tool { name: "pg_createcluster", package: "postgresql", why: "the other database" },
    Tool { name: "perl", package: "perl", why: "fork bombs and their like" },
    Tool { name: "curl", package: "curl", why: "a real client for the egress policy" },
    Tool { name: "ip", package: "iproute2", why: "networks of tests' own" },
    Tool { name: "faketime", package: "faketime", why: "clocks that jump" },
    Tool { name: "mkfs.ext4", package: "e2fsprogs", why: "disks that are full" },
    Tool { name: "newuidmap", package: "uidmap", why: "images of an ordinary user" },
];

/// Makes sure that the tools are there.
pub(crate) fn ensure(tools: &[&Tool]) -> Result<()> {
    let missing: Vec<&&Tool> = tools.iter().filter(|tool| find(tool.name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if find("apt-get").is_none() || !is_root()? {
        let list: Vec<String> = missing.iter().map(|tool| format!("{} ({})", tool.name, tool.why)).collect();
        bail!("missing: {}; install them, with apt: sudo apt-get install {}", list.join(", "), packages.join(" "));
    }
    step(&format!("installing {}", packages.join(", ")));
    apt(&["update", "-qq"])?;
    let arguments: Vec<&str> =
        ["install", "-y", "-qq", "--no-install-recommends"].into_iter().chain(packages).collect();
    apt(&arguments)
}

/// Node is new enough for the web app's tools.
pub(crate) fn ensure_node() -> Result<()> {
    let version = String::from_utf8(output(program("node", &["--version"]))?)?;
    let major: u32 = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default().parse()?;
    if major < 20 {
        bail!("node is {}, and the web app needs 20 or newer to build", version.trim());
    }
    Ok(())
}

/// Whether cargo has this subcommand.
pub(crate) fn has_cargo(subcommand: &str) -> bool {
    find(&format!("cargo-{subcommand}")).is_some()
}

/// Where a program is.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command).context("the packages could not be installed")
}

fn is_root() -> Result<bool> {
    let id = String::from_utf8(output(program("id", &["-u"]))?)?;
    if id.trim() != "0" {
        say("not root: nothing can be installed");
    }
    Ok(id.trim() == "0")
}
