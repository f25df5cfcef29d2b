//! The programs that an image must have for anything to be done in it, asked for before anything is.

use std::time::Duration;

use carrel_domain::{Image, Recipe};
use carrel_sandbox::{Command, Sandbox, SandboxError};
use uuid::Uuid;

use crate::attempt::{Halt, succeeded};

/// What checking out, the scripts, the agent's commands and collecting are made of.
const NEEDED: &[&str] = &["sh", "bash", "git", "sed", "cat", "cp", "mkdir", "rm"];

/// How long it may take to ask.
const LIMIT: Duration = Duration::from_secs(20);

const LOOK: &str = "for tool; do command -v -- \"$tool\" >/dev/null 2>&1 || printf '%s\\n' \"$tool\"; done";

/// Fails where the image lacks one, and names it.
pub(super) async fn are_there(sandbox: &Sandbox, recipe: &Recipe) -> Result<(), Halt> {
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

fn lacks(image: &Image, missing: &[&str]) -> String {
    let place = match image {
        Image::Host => "this machine".to_owned(),
        Image::Folder(_) | Image::Oci(_) => format!("the image {image}"),
    };
    format!(
        "{place} has no {}, and no attempt can work without: put git, bash and the usual small programs of a distribution \
         into it, or choose another with `carrel environment edit NAME --image IMAGE`",
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
