//! Which place artifacts are kept in, as an administrator says it.

use std::path::PathBuf;

use carrel_domain::Secret;

/// How much of a bucket is kept on this machine, too, in bytes, when nothing else was said.
const CACHE_BYTES: u64 = 2_000_000_000;

/// Where artifacts are kept.
#[derive(Debug, Clone, Default)]
pub enum ArtifactPlace {
    /// In the data folder: only the processes of this machine have them.
    #[default]
    DataFolder,
    /// In a folder that all machines of the installation have at this path.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(Bucket),
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) name: String,
    /// What stands before the names of objects, without a `/` at either end.
    pub(crate) prefix: String,
    /// The endpoint, the region, the keys: variables by the names that Amazon's programs know, such as `AWS_REGION`.
    pub(crate) settings: Vec<(String, Secret)>,
    pub(crate) cache_bytes: u64,
}

/// Text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is neither `file:///` with an absolute path nor `s3://bucket/prefix`")]
pub struct InvalidPlace;

impl ArtifactPlace {
    /// The place with this URL: `file:///folder`, `s3://bucket` or `s3://bucket/prefix`. `settings` are the variables of the
    /// environment that a bucket is reached with, by their names.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(url: &str, settings: Vec<(String, Secret)>) -> Result<Self, InvalidPlace> {
        if let Some(path) = url.strip_prefix("file://") {
            let is_plain = path.starts_with('/') && path.len() > 1 && !path.contains(['%', '?', '#']);
            return if is_plain { Ok(Self::Folder(PathBuf::from(path))) } else { Err(InvalidPlace) };
        }
        let rest = url.strip_prefix("s3://").ok_or(InvalidPlace)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        let is_part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_=".contains(&byte))
        };
        // What a bucket may be called: Amazon S3, "Bucket naming rules".
        let is_bucket = (3..=63).contains(&name.len()) && name.bytes().all(is_name);
        if !is_bucket || !(prefix.is_empty() || prefix.split('/').all(is_part)) {
            return Err(InvalidPlace);
        }
        let (name, prefix) = (name.to_owned(), prefix.to_owned());
        Ok(Self::Bucket(Bucket { name, prefix, settings, cache_bytes: CACHE_BYTES }))
    }

    /// The same with so many bytes of a bucket on this machine.
    #[must_use]
    pub fn with_cache_bytes(self, cache_bytes: u64) -> Self {
        match self {
            Self::Bucket(bucket) => Self::Bucket(Bucket { cache_bytes, ..bucket }),
            other => other,
        }
    }
}

impl std::fmt::Display for ArtifactPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DataFolder => formatter.write_str("in the data folder"),
            Self::Folder(folder) => write!(formatter, "{}", folder.display()),
            Self::Bucket(bucket) => formatter.write_str(&bucket.url()),
        }
    }
}

impl Bucket {
    pub(crate) fn url(&self) -> String {
        if self.prefix.is_empty() {
            format!("s3://{}", self.name)
        } else {
            format!("s3://{}/{}", self.name, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket_with_a_prefix() {
        let folder = ArtifactPlace::parse("file:///srv/shared", Vec::new()).expect("a folder");
        let bucket = ArtifactPlace::parse("s3://acme-artifacts/carrel/one/", Vec::new()).expect("a bucket");
        let bare = ArtifactPlace::parse("s3://acme-artifacts", Vec::new()).expect("a bucket");

        assert!(matches!(folder, ArtifactPlace::Folder(path) if path.as_os_str() == "/srv/shared"));
        assert!(matches!(bucket, ArtifactPlace::Bucket(bucket) if bucket.url() == "s3://acme-artifacts/carrel/one"));
        assert!(matches!(bare, ArtifactPlace::Bucket(bucket) if bucket.url() == "s3://acme-artifacts"));
    }

    #[test]
    fn whatever_else_it_is_it_is_no_place() {
        for text in [
            "",
            "/srv/shared",
            "file://srv/shared",
            "file:///",
            "file:///a%20b",
            "s3://",
            "s3://a",
            "s3://Upper/x",
            "s3://key:secret@bucket/x",
            "s3://bucket/../x",
            "s3://bucket/a//b",
            "gs://bucket",
        ] {
            assert_eq!(ArtifactPlace::parse(text, Vec::new()).err(), Some(InvalidPlace), "{text}");
        }
    }
}
