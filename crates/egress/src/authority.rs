//! The installation's certificate authority: one key and certificate, made at the first start and kept, and a certificate
//! for each host that TLS is opened for.
//!
//! Everything a sandbox trusts through it is decided here, so its key never leaves this process and its file is the owner's
//! alone.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

use crate::options::EgressError;
use crate::target::Host;

const FILE: &str = "certificate-authority.pem";
/// The line of the file that says how long the certificate holds, in seconds since 1970.
const UNTIL: &str = "valid until unix time ";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// With less than this left, a new one is made.
const AUTHORITY_RESERVE: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Shorter than the 398 days that programs accept at most.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
const LEAF_REUSE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Most certificates that are kept ready.
const MAX_LEAVES: usize = 4096;

struct Leaf {
    certified: Arc<CertifiedKey>,
    made: Instant,
}

/// The certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// One key for all hosts: it lives as long as this process.
    leaf_key: KeyPair,
    leaves: Mutex<HashMap<Host, Leaf>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Authority(…)")
    }
}

impl Authority {
    /// The one that is kept in this folder, or a new one.
    pub(crate) fn open(folder: &Path) -> Result<Self, EgressError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EgressError::Folder { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed(folder))?;
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => match Self::read(&text, &path)? {
                Some(authority) => Ok(authority),
                None => Self::make(folder, &path),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(folder, &path),
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// `None` when its time is nearly up.
    fn read(text: &str, path: &Path) -> Result<Option<Self>, EgressError> {
        let damaged = || EgressError::Damaged { path: path.to_owned() };
        let until = text.lines().find_map(|line| line.strip_prefix(UNTIL)).and_then(|until| until.parse().ok());
        let until = UNIX_EPOCH + Duration::from_secs(until.ok_or_else(damaged)?);
        if until < SystemTime::now() + AUTHORITY_RESERVE {
            return Ok(None);
        }
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged())?;
        let key = KeyPair::try_from(&PrivateKeyDer::Pkcs8(key)).map_err(|_| damaged())?;
        // The key's public half stands in the certificate, or the two are not of one authority.
        let public = key.public_key_raw();
        if !certificate.windows(public.len()).any(|part| part == public) {
            return Err(damaged());
        }
        Self::with(key, &certificate).map(Some)
    }

    fn make(folder: &Path, path: &Path) -> Result<Self, EgressError> {
        let failed = |source| EgressError::Folder { path: path.to_owned(), source };
        let key = KeyPair::generate()?;
        let until = SystemTime::now() + AUTHORITY_LIFE;
        let mut params = authority_params(&key);
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = until.into();
        let certificate = params.self_signed(&key)?;
        let until_s = until.duration_since(UNIX_EPOCH).map_or(0, |until| until.as_secs());
        let text = format!("{UNTIL}{until_s}\n{}{}", certificate.pem(), key.serialize_pem());
        // Both at once or neither: what is found at the next start belongs together.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Self::with(key, certificate.der())
    }

    fn with(key: KeyPair, certificate: &CertificateDer<'static>) -> Result<Self, EgressError> {
        let pem = pem_of(certificate);
        let issuer = Issuer::new(authority_params(&key), key);
        let leaf_key = KeyPair::generate()?;
        Ok(Self { issuer, pem, leaf_key, leaves: Mutex::default() })
    }

    /// Its certificate, in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Byte strings of which every file has one that its certificate is in, in PEM or in DER: from its middle, which is made
    /// of its key.
    pub(crate) fn marks(&self) -> [Vec<u8>; 2] {
        let lines: Vec<&str> = self.pem.lines().filter(|line| !line.starts_with('-')).collect();
        let middle = lines.len() / 2;
        let der = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was made from one");
        // A line of PEM is 64 letters, which are 48 bytes.
        let bytes = der.iter().skip(middle * 48).take(48).copied();
        [lines[middle].as_bytes().to_vec(), bytes.collect()]
    }

    /// A certificate and key to answer for this host with.
    pub(crate) fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, EgressError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(host).filter(|leaf| leaf.made.elapsed() < LEAF_REUSE) {
            return Ok(Arc::clone(&leaf.certified));
        }
        let certified = Arc::new(self.make_leaf(host)?);
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        leaves.insert(host.clone(), Leaf { certified: Arc::clone(&certified), made: Instant::now() });
        Ok(certified)
    }

    fn make_leaf(&self, host: &Host) -> Result<CertifiedKey, EgressError> {
        let name = match host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        };
        let mut params = CertificateParams::new(vec![name])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "opened by Carrel");
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + LEAF_LIFE).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(self.leaf_key.serialize_der().into());
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], signing))
    }
}

/// What its certificate says. Made anew from the key at each start, so its name is made from the key as well: programs
/// find an authority by its name, and two installations must not have the same.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let digest = Sha256::digest(key.public_key_raw());
    let id: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Carrel egress {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate in PEM.
fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;

    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    #[test]
    fn the_authority_is_made_once_and_its_file_is_the_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");

        let first = Authority::open(folder.path()).expect("a new one");
        let second = Authority::open(folder.path()).expect("the kept one");

        assert_eq!(first.pem(), second.pem());
        let mode = fs::metadata(file(folder.path())).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn what_does_not_belong_together_is_refused_and_named() {
        let [ours, theirs] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        for folder in [&ours, &theirs] {
            Authority::open(folder.path()).expect("a new one");
        }
        let read = |folder: &tempfile::TempDir| fs::read_to_string(file(folder.path())).expect("kept");
        let key_at = |text: &str| text.find("-----BEGIN PRIVATE KEY").expect("a key");
        let (our, their) = (read(&ours), read(&theirs));

        let mixed = format!("{}{}", &our[..key_at(&our)], &their[key_at(&their)..]);
        for text in [mixed.as_str(), "", &our[..key_at(&our)]] {
            fs::write(file(ours.path()), text).expect("written");

            let error = Authority::open(ours.path()).expect_err("damaged").to_string();
            assert!(error.contains("certificate-authority.pem") && error.contains("move it away"), "{error}");
        }
    }

    #[test]
    fn an_authority_whose_time_is_nearly_up_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Authority::open(folder.path()).expect("a new one");
        let text = fs::read_to_string(file(folder.path())).expect("kept");
        let (_, rest) = text.split_once('\n').expect("a first line");
        fs::write(file(folder.path()), format!("{UNTIL}1700000000\n{rest}")).expect("written");

        let second = Authority::open(folder.path()).expect("a new one");

        assert_ne!(first.pem(), second.pem());
    }

    #[test]
    fn a_host_has_one_certificate_until_it_is_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path()).expect("a new one");
        let host = |text: &str| text.parse::<Host>().expect("a host");

        let first = authority.leaf(&host("a.example")).expect("made");
        let again = authority.leaf(&host("a.example")).expect("kept");
        let other = authority.leaf(&host("b.example")).expect("made");

        assert!(Arc::ptr_eq(&first, &again));
        assert_ne!(first.cert, other.cert);
    }
}
