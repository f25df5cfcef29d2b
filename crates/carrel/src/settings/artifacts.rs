//! Where artifacts are kept: `CARREL_ARTIFACTS`, and for a bucket the variables that Amazon's own programs know.

use std::ffi::OsString;
use std::path::PathBuf;

use carrel_domain::Secret;
use carrel_store::ArtifactPlace;

use super::{InvalidSetting, Settings, Variables, invalid};

/// The variables a bucket is reached with: the endpoint, the region, keys, and whoever gives keys to a machine or a pod.
const BUCKET: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];

/// Those of them that must never be seen.
const SECRET: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What is said of artifacts. Only the service looks at it: other programs have the same variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArtifactSettings {
    url: Option<String>,
    bucket: Vec<(String, Secret)>,
    cache_bytes: Option<usize>,
}

impl<L: Fn(&str) -> Option<OsString>> Variables<L> {
    pub(super) fn artifacts(&self) -> Result<ArtifactSettings, InvalidSetting> {
        let known = BUCKET.iter().filter_map(|name| Some(((*name).to_owned(), Secret::new(self.text(name).ok()??))));
        Ok(ArtifactSettings {
            url: self.text("CARREL_ARTIFACTS")?,
            bucket: known.collect(),
            cache_bytes: self.positive("CARREL_ARTIFACT_CACHE_BYTES")?,
        })
    }
}

impl Settings {
    /// Where artifacts are kept.
    ///
    /// # Errors
    /// When what is named is no place.
    pub(crate) fn artifact_place(&self) -> Result<ArtifactPlace, InvalidSetting> {
        let ArtifactSettings { url, bucket, cache_bytes } = &self.artifacts;
        let Some(url) = url else { return Ok(ArtifactPlace::DataFolder) };
        let place = ArtifactPlace::parse(url, bucket.clone())
            .map_err(|error| invalid("CARREL_ARTIFACTS", &error.to_string()))?;
        Ok(match cache_bytes {
            Some(bytes) => place.with_cache_bytes(*bytes as u64),
            None => place,
        })
    }
}

impl ArtifactSettings {
    /// The folder they are in, if one was named: no sandbox is to see it.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        Some(PathBuf::from(self.url.as_ref()?.strip_prefix("file://")?))
    }

    /// What must never be seen in an event or a log line, if a bucket is used.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Secret> {
        let is_bucket = self.url.as_ref().is_some_and(|url| url.starts_with("s3:"));
        let named = self.bucket.iter().filter(move |(name, _)| is_bucket && SECRET.contains(&name.as_str()));
        named.map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Settings::from_lookup(lookup).expect("settings")
    }

    #[test]
    fn artifacts_are_in_the_data_folder_in_a_shared_one_or_in_a_bucket() {
        let bucket =
            [("CARREL_ARTIFACTS", "s3://acme/carrel"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_REGION", "x")];

        assert!(matches!(settings(&[]).artifact_place(), Ok(ArtifactPlace::DataFolder)));
        let shared = settings(&[("CARREL_ARTIFACTS", "file:///srv/shared")]);
        let folder = shared.artifact_place();
        assert_eq!(shared.artifacts.folder(), Some(PathBuf::from("/srv/shared")), "hidden from sandboxes");
        assert!(matches!(folder, Ok(ArtifactPlace::Folder(path)) if path.as_os_str() == "/srv/shared"));
        assert!(matches!(settings(&bucket).artifact_place(), Ok(ArtifactPlace::Bucket(_))));
        let secrets: Vec<String> =
            settings(&bucket).artifacts.secrets().map(|secret| secret.expose().to_owned()).collect();
        assert_eq!(secrets, ["hunter2"]);
        assert!(!format!("{:?}", settings(&bucket)).contains("hunter2"));
    }

    #[test]
    fn what_is_no_place_is_refused_by_the_service_and_not_repeated() {
        let wrong = settings(&[("CARREL_ARTIFACTS", "https://user:hunter2@host/x")]);

        let error = wrong.artifact_place().expect_err("no place").to_string();

        assert!(error.starts_with("CARREL_ARTIFACTS is neither") && !error.contains("hunter2"), "{error}");
    }
}
