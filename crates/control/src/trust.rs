//! What makes programs in a sandbox use the egress proxy and trust its certificate authority: variables, files beside the
//! image, and, where the service may lay layers over the image's root, its system store.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use carrel_domain::environment::variables::{BUNDLE_VARIABLES, NO_PROXY};
use carrel_sandbox::{LayerName, ReadOnlyMount, Root, SandboxError};
use sha2::{Digest as _, Sha256};

use crate::Control;

/// What Java reads options from. Those of an environment stand behind ours, and win one by one.
pub(crate) const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";

/// Where the proxy listens in every sandbox.
const PROXY: &str = "http://127.0.0.1:3128";

/// Where images have their trusted certificates, the first that is there counts: Debian and its kin, Fedora and its kin,
/// openSUSE.
const STORES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The longest store that is read.
const STORE_BYTES: u64 = 16 << 20;

/// Where our files are shown.
const FOLDER: &str = "/run/carrel/trust";

/// Where tools of the image that make the store anew (`update-ca-certificates`) look for further authorities.
const LOCAL_AUTHORITY: &str = "/usr/local/share/ca-certificates/carrel.crt";

/// Where login shells find what follows: distributions' own profiles set `PATH` anew, whatever the image or the environment
/// says.
const PROFILE: &str = "/etc/profile.d/carrel.sh";

/// Puts the `PATH` of the image or the environment back.
const PROFILE_TEXT: &str = "if [ -n \"${CARREL_PATH-}\" ]; then PATH=$CARREL_PATH; export PATH; fi\n";

/// What a sandbox gets.
pub(crate) struct Trust {
    /// Variables of every command.
    pub(crate) variables: Vec<(String, String)>,
    /// Files to show.
    pub(crate) mounts: Vec<ReadOnlyMount>,
}

/// What was made for one store of certificates.
struct Made {
    /// The store of the image it is for.
    store: &'static str,
    /// The folder on the host that holds the files.
    folder: PathBuf,
    bundle: Vec<u8>,
    name: LayerName,
}

/// How many stores' bundles are remembered, each up to as long as a store may be. What is forgotten is made again.
const REMEMBERED: usize = 16;

/// What was made already, by the digest of the store it was made from.
#[derive(Default)]
pub(crate) struct Known {
    made: Mutex<Newest<Arc<Made>>>,
    /// Held by whoever makes something.
    making: Mutex<()>,
}

/// The newest things by their names, the oldest first.
struct Newest<T>(VecDeque<(String, T)>);

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Newest<T> {
    fn get(&self, name: &str) -> Option<T> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, thing)| thing.clone())
    }

    fn put(&mut self, name: String, thing: T) {
        self.0.retain(|(known, _)| *known != name);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((name, thing));
    }
}

/// The layer that puts our authority into the system store of this root; nothing where no layer can be laid over it.
pub(crate) async fn layer(control: &Control, root: &Root) -> Result<Option<LayerName>, SandboxError> {
    let sandboxes = &control.inner.sandboxes;
    if !sandboxes.can_layer(root) {
        return Ok(None);
    }
    let made = make(control, root).await?;
    let authority = control.inner.egress.trusted_pem().as_bytes().to_vec();
    let files = vec![
        (made.store.to_owned(), made.bundle.clone()),
        (LOCAL_AUTHORITY.to_owned(), authority),
        (PROFILE.to_owned(), PROFILE_TEXT.as_bytes().to_vec()),
    ];
    sandboxes.make_layer(&made.name, root, files).await?;
    Ok(Some(made.name.clone()))
}

/// Variables and files for a sandbox on this root.
pub(crate) async fn files(control: &Control, root: &Root) -> Result<Trust, SandboxError> {
    let made = make(control, root).await?;
    let shown = |name: &str| ReadOnlyMount { source: made.folder.join(name), target: format!("{FOLDER}/{name}") };
    let store =
        if control.inner.sandboxes.can_layer(root) { made.store.to_owned() } else { format!("{FOLDER}/bundle.pem") };
    let mut variables = Vec::new();
    let mut set = |names: &[&str], value: &str| {
        variables.extend(names.iter().map(|name| ((*name).to_owned(), value.to_owned())));
    };
    set(&["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY"], PROXY);
    set(&["NO_PROXY", "no_proxy"], NO_PROXY);
    set(&["NODE_USE_ENV_PROXY"], "1");
    set(BUNDLE_VARIABLES, &store);
    set(&["NODE_EXTRA_CA_CERTS"], &format!("{FOLDER}/ca.pem"));
    set(&[JAVA_OPTIONS], &java_options());
    let mounts = ["bundle.pem", "ca.pem", "java.p12"].iter().map(|name| shown(name)).collect();
    Ok(Trust { variables, mounts })
}

fn java_options() -> String {
    let hosts = NO_PROXY.replace(',', "|");
    format!(
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128 \
         -Dhttp.nonProxyHosts={hosts} -Daether.connector.http.useSystemProperties=true \
         -Djavax.net.ssl.trustStore={FOLDER}/java.p12 -Djavax.net.ssl.trustStoreType=PKCS12"
    )
}

async fn make(control: &Control, root: &Root) -> Result<Arc<Made>, SandboxError> {
    let (control, root) = (control.clone(), root.clone());
    let made = tokio::task::spawn_blocking(move || make_now(&control, &root)).await;
    made.unwrap_or_else(|panicked| Err(host("cannot prepare certificates")(std::io::Error::other(panicked))))
}

fn make_now(control: &Control, root: &Root) -> Result<Arc<Made>, SandboxError> {
    let (store, system) = system_store(root)?;
    let digest = Sha256::new()
        .chain_update(store)
        .chain_update(PROFILE_TEXT)
        .chain_update(&system)
        .chain_update(control.inner.egress.trusted_pem())
        .finalize();
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let known = || control.trust.made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = known().get(&digest) {
        return Ok(made);
    }
    let _alone = control.trust.making.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = known().get(&digest) {
        return Ok(made);
    }
    let files = control.inner.egress.trust(&system).map_err(|error| SandboxError::Invalid(error.to_string()))?;
    let folder = control.inner.trust_folder.join(&digest);
    let failed = || host("cannot write certificates for sandboxes");
    std::fs::create_dir_all(&folder).map_err(failed())?;
    sweep(&folder).map_err(failed())?;
    for (name, bytes) in [
        ("bundle.pem", files.bundle_pem.as_slice()),
        ("java.p12", &files.java_pkcs12),
        ("ca.pem", control.inner.egress.trusted_pem().as_bytes()),
    ] {
        keep(&folder.join(name), bytes).map_err(failed())?;
    }
    let name = format!("trust-{digest}").parse().expect("hexadecimal digits are a name");
    let made = Arc::new(Made { store, folder, bundle: files.bundle_pem.clone(), name });
    known().put(digest, Arc::clone(&made));
    Ok(made)
}

/// The store of the root, and what is in it; that of the host where the root has none, so that programs which come
/// later find one.
fn system_store(root: &Root) -> Result<(&'static str, Vec<u8>), SandboxError> {
    for root in [root, &Root::Host] {
        for store in STORES {
            if let Some(bytes) = root.read(store, STORE_BYTES)? {
                return Ok((store, bytes));
            }
        }
    }
    Ok((STORES[0], Vec::new()))
}

/// Removes what was being written when a service was killed.
fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension.as_encoded_bytes().starts_with(b"new-")) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes a file as a whole or not at all, readable to everybody. One that says so already stays as it is: what is replaced
/// while a sandbox is just being shown it cannot be mounted any more.
fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if std::fs::read(path).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("new-{}", uuid::Uuid::now_v7()));
    std::fs::write(&temporary, bytes)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&temporary, path)
}

fn host(what: &'static str) -> impl FnOnce(std::io::Error) -> SandboxError {
    move |source| SandboxError::Host { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_as_it_should_be_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let which = || path.metadata().expect("it is there").ino();

        keep(&path, b"one").expect("written");
        let first = which();
        keep(&path, b"one").expect("left alone");

        assert_eq!(which(), first);
        keep(&path, b"two").expect("written");
        assert_eq!(std::fs::read(&path).expect("it is there"), b"two");
        std::fs::write(folder.path().join("ca.new-1"), b"th").expect("left by one that was killed");
        sweep(folder.path()).expect("swept");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn as_many_stores_as_may_be_are_remembered_and_the_oldest_is_forgotten() {
        let mut known = Newest::default();
        for number in 0..=REMEMBERED {
            known.put(number.to_string(), number);
        }

        known.put("1".to_owned(), 100);
        known.put("new".to_owned(), 200);

        assert_eq!(known.0.len(), REMEMBERED);
        assert_eq!((known.get("0"), known.get("2")), (None, None), "the two oldest");
        assert_eq!((known.get("3"), known.get("1"), known.get("new")), (Some(3), Some(100), Some(200)));
    }
}
