//! The programs that everything in a sandbox is made of: those the image lacks come from the tool kit, and all are asked for
//! before anything is done.

use std::time::Duration;

use carrel_domain::{EventBody, Image, Recipe};
use carrel_sandbox::{Command, Kit, Sandbox, SandboxError, USUAL_PATH};
use uuid::Uuid;

use super::place;
use crate::attempt::{Halt, Site, succeeded};

/// What checking out, the scripts, the agent's commands and collecting are made of.
const NEEDED: &[&str] = &["sh", "bash", "git", "sed", "cat", "cp", "mkdir", "rm"];

/// How long it may take to ask.
const LIMIT: Duration = Duration::from_secs(20);

const LOOK: &str = "for tool; do command -v -- \"$tool\" >/dev/null 2>&1 || printf '%s\\n' \"$tool\"; done";

/// The tool kit, where the image as it was made lacks something, and what that is. What setup installs changes nothing here:
/// it stands before the kit in `PATH`.
pub(super) async fn kit(site: &Site<'_>, recipe: &Recipe) -> Result<Option<(Kit, Vec<&'static str>)>, SandboxError> {
    let inner = &site.control.inner;
    inner.kits.for_root(&inner.sandboxes, &place::root(site, recipe)?, &path(recipe)).await
}

/// Where commands look for programs: as the environment says, or else the image.
pub(super) fn path(recipe: &Recipe) -> String {
    let said = recipe.variables.get("PATH").or_else(|| recipe.image_variables.get("PATH"));
    said.map_or_else(|| USUAL_PATH.to_owned(), Clone::clone)
}

/// Fails where one is not there, and names it.
pub(super) async fn are_there(site: &Site<'_>, sandbox: &Sandbox, recipe: &Recipe) -> Result<(), Halt> {
    if let Some((_, lacks)) = kit(site, recipe).await?
        && !lacks.is_empty()
    {
        let message = format!(
            "the image {} has no {}: these come from this machine, at the end of PATH",
            recipe.image,
            lacks.join(", no ")
        );
        site.tell(EventBody::Progress { message, duration_ms: None }).await?;
    }
    let argv = ["sh", "-c", LOOK, "look"].into_iter().chain(NEEDED.iter().copied());
    let command = Command::new(format!("setup.look-for.{}", Uuid::now_v7()), argv).directory("/").time_limit(LIMIT);
    let missing = match sandbox.run(command).await {
        Ok(finished) => {
            succeeded(&finished, "look for the programs that are needed")?;
            let said = String::from_utf8_lossy(&finished.output).into_owned();
            NEEDED.iter().copied().filter(|tool| said.lines().any(|line| line == *tool)).collect()
        }
        Err(SandboxError::CannotStart { .. }) => vec!["sh"],
        Err(error) => return Err(error.into()),
    };
    if missing.is_empty() { Ok(()) } else { Err(Halt::failed(lacks(&recipe.image, &missing))) }
}

/// What an image lacks the kit has; so this is the machine's own root, or an image whose own programs do not run.
fn lacks(image: &Image, missing: &[&str]) -> String {
    let place = match image {
        Image::Host => "this machine".to_owned(),
        Image::Folder(_) | Image::Oci(_) => format!("the image {image}"),
    };
    format!(
        "{place} has no {}, and no attempt can work without: install what is missing, or choose another image with \
         `carrel environment edit NAME --image IMAGE`",
        missing.join(", no ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_image() {
        let said = lacks(&Image::Oci("debian:12".to_owned()), &["git", "sed"]);

        assert!(said.starts_with("the image debian:12 has no git, no sed, and no attempt can work without"), "{said}");
    }
}
