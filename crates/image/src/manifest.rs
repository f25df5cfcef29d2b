//! What a registry says about an image: indexes, manifests and configs of OCI and of docker's schema 2, read strictly.
//!
//! Media types and fields are those of the OCI image specification 1.1 and of docker's "image manifest version 2,
//! schema 2". Schema 1 has no digests of its config and is refused.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::digest::Digest;
use crate::platform::Platform;

/// The most that an image's variables may take together, in bytes: what a single one of a program may.
const MAX_ENV_BYTES: usize = 128 << 10;
/// Longest user and working folder, in bytes.
const MAX_TEXT_BYTES: usize = 4095;

/// What a manifest's request accepts.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Which compression a layer has is seen from its first bytes, as docker's own types are sometimes wrong about it.
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// One blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

/// What a reference led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    /// One image in several builds.
    Index(Vec<(Platform, Digest)>),
    /// One image.
    Manifest(Manifest),
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

impl RawDescriptor {
    fn read(&self, what: &str) -> Result<Descriptor, String> {
        let digest = self.digest.parse().map_err(|error| format!("the digest of {what} {error}"))?;
        Ok(Descriptor { digest, size_bytes: self.size })
    }
}

/// Reads an index or a manifest. What it is must be said the same everywhere it is said: a document that is one thing
/// to one reader and another to the next could show a harmless image to a check and run another.
pub(crate) fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Document, String> {
    let raw: RawDocument =
        serde_json::from_slice(bytes).map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if raw.schema_version == 1 || raw.fs_layers.is_some() {
        return Err("its manifest is of docker's schema 1, which nobody should use any more; push it again".to_owned());
    }
    if raw.schema_version != 2 {
        return Err(format!("its manifest has the unknown schema {}", raw.schema_version));
    }
    let known = |text: &str| {
        let text = text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase();
        if INDEXES.contains(&text.as_str()) {
            Some(true)
        } else if MANIFESTS.contains(&text.as_str()) {
            Some(false)
        } else {
            None
        }
    };
    let says = [raw.media_type.as_deref(), content_type].map(|text| text.and_then(known));
    if raw.media_type.is_some() && says[0].is_none() {
        return Err(format!("it is no image but `{}`", shown(raw.media_type.as_deref().unwrap_or_default())));
    }
    let is_index = match (raw.manifests.is_some(), raw.layers.is_some() || raw.config.is_some()) {
        (true, false) => true,
        (false, true) => false,
        _ => return Err("its manifest is neither an index nor an image, or both".to_owned()),
    };
    if says.into_iter().flatten().any(|says| says != is_index) {
        return Err("its manifest says that it is one thing and holds another".to_owned());
    }
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), ..) => index(manifests),
        (None, Some(config), Some(layers)) => manifest(&config, &layers),
        _ => Err("its manifest has no config or no layers".to_owned()),
    }
}

fn index(manifests: Vec<RawDescriptor>) -> Result<Document, String> {
    let mut read = Vec::new();
    for entry in manifests {
        // Indexes within indexes, and other artifacts, are none of this machine's images.
        if !MANIFESTS.contains(&entry.media_type.as_str()) {
            continue;
        }
        let Descriptor { digest, .. } = entry.read("an image in its index")?;
        if let Some(platform) = entry.platform {
            read.push((platform, digest));
        }
    }
    Ok(Document::Index(read))
}

fn manifest(config: &RawDescriptor, layers: &[RawDescriptor]) -> Result<Document, String> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(format!("it is no image but holds `{}`", shown(&config.media_type)));
    }
    let mut read = Vec::new();
    for layer in layers {
        let kind = layer.media_type.as_str();
        if kind.contains("nondistributable") || kind.contains("foreign") {
            return Err("a layer of it is not given out by its registry but by another server; use an image whose \
                        layers are all there"
                .to_owned());
        }
        if !LAYERS.contains(&kind) {
            return Err(format!("a layer of it is of the unknown kind `{}`", shown(kind)));
        }
        read.push(layer.read("a layer")?);
    }
    Ok(Document::Manifest(Manifest { config: config.read("its config")?, layers: read }))
}

/// What an image says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) platform: Platform,
    /// The digests of the layers' archives, unpacked.
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) runs_as: ImageConfig,
}

/// How an image wants its programs to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Variables, in its order.
    pub env: Vec<(String, String)>,
    /// The user, as `name`, `id`, `name:group` or `id:id`; empty for root.
    pub user: String,
    /// The working folder, absolute; `None` where it names none.
    pub working_dir: Option<String>,
}

impl ImageConfig {
    /// Its `PATH`, when it has one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str())
    }
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    config: Option<RawRunConfig>,
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRunConfig {
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Reads an image's config. Variables without a name, and texts with NUL bytes, are left out: no program could see
/// them.
pub(crate) fn read_config(bytes: &[u8]) -> Result<Config, String> {
    let raw: RawConfig =
        serde_json::from_slice(bytes).map_err(|error| format!("its config cannot be read: {error}"))?;
    let mut diff_ids = Vec::new();
    for text in &raw.rootfs.diff_ids {
        diff_ids.push(text.parse().map_err(|error| format!("the digest of a layer's archive {error}"))?);
    }
    let run = raw.config.unwrap_or_default();
    let has_no_nul = |text: &String| !text.contains('\0');
    let texts = [&run.user, &run.working_dir].into_iter().flatten();
    if run.env.iter().flatten().map(String::len).sum::<usize>() > MAX_ENV_BYTES
        || texts.into_iter().any(|text| text.len() > MAX_TEXT_BYTES)
    {
        return Err("its config has variables, a user or a folder longer than any program takes".to_owned());
    }
    let env = run.env.unwrap_or_default().into_iter().filter(has_no_nul).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    });
    let runs_as = ImageConfig {
        env: env.collect(),
        user: run.user.filter(has_no_nul).unwrap_or_default(),
        working_dir: run.working_dir.filter(has_no_nul).filter(|path| path.starts_with('/')),
    };
    Ok(Config { platform: raw.platform, diff_ids, runs_as })
}

fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(fill: char) -> String {
        format!("sha256:{}", String::from(fill).repeat(64))
    }

    fn plain() -> serde_json::Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFESTS[0],
            "config": {"mediaType": CONFIGS[0], "digest": digest('a'), "size": 7},
            "layers": [{"mediaType": LAYERS[1], "digest": digest('b'), "size": 9, "urls": ["http://169.254.169.254/"]}],
        })
    }

    fn read_json(value: &serde_json::Value, content_type: Option<&str>) -> Result<Document, String> {
        read(&serde_json::to_vec(value).expect("json"), content_type)
    }

    #[test]
    fn a_manifest_is_read_with_sizes_and_digests() {
        let read = read_json(&plain(), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"));

        let descriptor = |fill, size_bytes| Descriptor { digest: digest(fill).parse().expect("a digest"), size_bytes };
        let expected = Manifest { config: descriptor('a', 7), layers: vec![descriptor('b', 9)] };
        assert_eq!(read, Ok(Document::Manifest(expected)));
    }

    #[test]
    fn a_document_that_means_two_things_is_refused() {
        let mut both = plain();
        both["manifests"] = json!([]);
        assert!(read_json(&both, None).expect_err("both").contains("or both"));

        assert!(read_json(&plain(), Some(INDEXES[0])).expect_err("header").contains("one thing"));

        let mut other = plain();
        other["mediaType"] = json!(INDEXES[1]);
        assert!(read_json(&other, None).expect_err("body").contains("one thing"));
    }

    #[test]
    fn what_is_no_image_or_only_promises_layers_says_so() {
        for (pointer, value, words) in [
            ("/schemaVersion", json!(1), "schema 1"),
            ("/schemaVersion", json!(3), "unknown schema"),
            ("/config/mediaType", json!("application/vnd.cncf.helm.config.v1+json"), "no image but holds"),
            (
                "/layers/0/mediaType",
                json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
                "another server",
            ),
            ("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "unknown kind"),
            ("/layers/0/digest", json!("sha256:../../x"), "no digest"),
            ("/layers/0/size", json!(-1), "cannot be read"),
        ] {
            let mut document = plain();
            *document.pointer_mut(pointer).expect("a field") = value;
            let error = read_json(&document, None).expect_err(pointer);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_config_that_no_program_could_be_run_with_is_refused() {
        let long = "x".repeat(5000);
        for run in [json!({"User": long}), json!({"WorkingDir": format!("/{long}")}), json!({"Env": vec![long; 30]})] {
            let text = json!({"os": "linux", "architecture": "amd64", "config": run, "rootfs": {"diff_ids": []}});
            let error = read_config(&serde_json::to_vec(&text).expect("json")).expect_err("too long");
            assert!(error.contains("longer than any program takes"), "{error}");
        }
    }

    #[test]
    fn a_config_tells_how_programs_are_run() {
        let text = json!({
            "os": "linux", "architecture": "arm64", "variant": "v8",
            "config": {"Env": ["PATH=/a", "EMPTY=", "=x", "none", "N=a\0b", "EQ=a=b"], "User": "1:2",
                       "WorkingDir": "src"},
            "rootfs": {"type": "layers", "diff_ids": [digest('c')]},
        });

        let config = read_config(&serde_json::to_vec(&text).expect("json")).expect("a config");

        let env =
            [("PATH", "/a"), ("EMPTY", ""), ("EQ", "a=b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(config.platform.to_string(), "linux/arm64/v8");
        assert_eq!(config.runs_as.path(), Some("/a"));
        assert_eq!(config.runs_as, ImageConfig { env: env.to_vec(), user: "1:2".to_owned(), working_dir: None });
    }
}
