//! Asking for environments: made, changed, deleted, and their cache reset. What a change means is its caller's.

use std::path::PathBuf;

use carrel_domain::{Environment, EnvironmentName, Image, OrganizationId, UserId};
use carrel_sandbox::SandboxError;
use carrel_store::{EnvironmentContent, NewEnvironment, StoreError};

use crate::{Control, ControlError};

/// How often a change is made again because somebody else was faster.
const TRIES: u32 = 50;

/// A change of an environment that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentEdit {
    /// Whose it is.
    pub organization: OrganizationId,
    /// What it is called.
    pub name: EnvironmentName,
    /// The version that was looked at; `None` for whichever is current.
    pub expected: Option<i64>,
    /// Who asks.
    pub by: UserId,
}

impl Control {
    /// Refuses an image that this installation gives to nobody: a folder of the host that is not listed.
    ///
    /// # Errors
    /// Says which setting lists it.
    pub fn check_image(&self, image: &Image) -> Result<(), ControlError> {
        match image {
            Image::Host | Image::Oci(_) => Ok(()),
            Image::Folder(path) => {
                self.image_folder(path).map(drop).map_err(|error| ControlError::invalid("image", error))
            }
        }
    }

    /// The folder that is to be a root file system, if an administrator has listed it or one it lies in. What is in it can
    /// be read inside whoever owns it, so it is nobody's to choose freely.
    pub(crate) fn image_folder(&self, path: &str) -> Result<PathBuf, SandboxError> {
        let refused = |problem: &str| Err(SandboxError::Invalid(format!("the image `{path}` {problem}")));
        let Ok(real) = std::fs::canonicalize(path) else { return refused("is no folder of this machine") };
        if !real.is_dir() {
            return refused("is no folder");
        }
        let listed = |folder: &PathBuf| std::fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder));
        if self.inner.image_folders.iter().any(listed) {
            Ok(real)
        } else {
            refused("is a folder that an administrator has not listed for images; list it in CARREL_IMAGE_FOLDERS")
        }
    }

    /// Takes a new environment.
    ///
    /// # Errors
    /// When its name is taken, or there are too many.
    pub async fn create_environment(&self, new: NewEnvironment) -> Result<Environment, ControlError> {
        self.check_image(new.content.spec.image.as_ref().unwrap_or(&Image::Host))?;
        let made = self.inner.store.create_environment(new).await?;
        tracing::info!(environment = %made.name, "an environment was made");
        Ok(made)
    }

    /// Makes the next version of an environment: `change` says what it is to say, from what the current one says. It is
    /// asked again when somebody else was faster, unless a version was expected.
    ///
    /// # Errors
    /// When there is none of that name, another version is current than was expected, or `change` refuses.
    pub async fn edit_environment<E: From<ControlError>>(
        &self,
        edit: &EnvironmentEdit,
        change: impl Fn(&Environment) -> Result<EnvironmentContent, E>,
    ) -> Result<Environment, E> {
        let store = &self.inner.store;
        let mut tries = 0;
        loop {
            tries += 1;
            let current = store.environment(edit.organization, &edit.name).await.map_err(ControlError::from)?;
            if edit.expected.is_some_and(|expected| expected != current.version) {
                return Err(ControlError::from(StoreError::Conflict { noun: "environment" }).into());
            }
            let content = change(&current)?;
            // Only a new one is judged: a change of something else does not fail over what an administrator took back.
            if content.spec.image != current.spec.image {
                self.check_image(content.spec.image.as_ref().unwrap_or(&Image::Host))?;
            }
            match store.edit_environment(&current, content, edit.by).await {
                Err(StoreError::Conflict { .. }) if edit.expected.is_none() && tries < TRIES => {}
                Err(error) => return Err(ControlError::from(error).into()),
                Ok(next) => {
                    tracing::info!(environment = %next.name, version = next.version, "an environment was changed");
                    return Ok(next);
                }
            }
        }
    }

    /// Deletes an environment with the values of its secrets.
    ///
    /// # Errors
    /// When it is the default one, or attempts are under way in it.
    pub async fn delete_environment(
        &self,
        organization: OrganizationId,
        name: &EnvironmentName,
    ) -> Result<(), ControlError> {
        self.inner.store.delete_environment(organization, name).await?;
        self.tend_layers_soon();
        tracing::info!(environment = %name, "an environment was deleted");
        Ok(())
    }

    /// Lets no snapshot of an environment be reused, and says how many there were. Their layers go in the background.
    ///
    /// # Errors
    /// When there is no environment of that name.
    pub async fn reset_snapshots(
        &self,
        organization: OrganizationId,
        name: &EnvironmentName,
    ) -> Result<u64, ControlError> {
        let environment = self.inner.store.environment(organization, name).await?;
        let count = self.inner.store.reset_snapshots(organization, environment.id).await?;
        self.tend_layers_soon();
        Ok(count)
    }
}
