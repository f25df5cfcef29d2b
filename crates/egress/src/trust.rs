//! What programs in a sandbox need to trust the certificate authority: the image's own list with ours and the
//! administrator's added, and the same as a key store for Java.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use crate::authority::Authority;
use crate::options::EgressError;
use crate::pkcs12;

/// Longest list of certificates that is taken from an image. Debian's has about 220,000 bytes.
const MAX_BUNDLE_BYTES: usize = 4 << 20;
/// Images that are remembered.
const MAX_REMEMBERED: usize = 8;

/// Files for a sandbox.
#[derive(Debug, PartialEq, Eq)]
pub struct TrustFiles {
    /// The image's certificates, ours and the extra roots, in PEM: for the system's store, and for `SSL_CERT_FILE`, `CURL_CA_BUNDLE`,
    /// `GIT_SSL_CAINFO`, `REQUESTS_CA_BUNDLE`, `PIP_CERT` and `CARGO_HTTP_CAINFO`.
    pub bundle_pem: Vec<u8>,
    /// Without the image's own, in PEM: for `NODE_EXTRA_CA_CERTS`.
    pub certificate_pem: Vec<u8>,
    /// All of them as a PKCS#12 key store without a password: for Java's `-Djavax.net.ssl.trustStore=` with
    /// `-Djavax.net.ssl.trustStoreType=PKCS12`.
    pub java_pkcs12: Vec<u8>,
}

/// What was made for the last few images.
#[derive(Debug, Default)]
pub(crate) struct TrustCache {
    made: Mutex<VecDeque<([u8; 32], Arc<TrustFiles>)>>,
}

impl TrustCache {
    /// The files for an image with this list of certificates. The list is the image's own and harms nobody else: it is
    /// taken as it is.
    pub(crate) fn files(&self, trusted_pem: &str, bundle: &[u8]) -> Result<Arc<TrustFiles>, EgressError> {
        if bundle.len() > MAX_BUNDLE_BYTES {
            return Err(EgressError::Bundle { max_bytes: MAX_BUNDLE_BYTES });
        }
        let key: [u8; 32] = Sha256::digest(bundle).into();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, files)) = made.iter().find(|(made_for, _)| *made_for == key) {
            return Ok(Arc::clone(files));
        }
        let files = Arc::new(make(trusted_pem, bundle));
        if made.len() == MAX_REMEMBERED {
            made.pop_front();
        }
        made.push_back((key, Arc::clone(&files)));
        Ok(files)
    }
}

/// Our authority's certificate and the extra ones. Of what an administrator gives, only certificates: a key beside them is
/// for no sandbox.
pub(crate) fn trusted_pem(authority: &Authority, extra_roots_pem: &[u8]) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut pem = authority.pem().to_owned();
    let extra = String::from_utf8_lossy(extra_roots_pem);
    for part in extra.split(BEGIN).skip(1) {
        if let Some((body, _)) = part.split_once(END) {
            pem.push_str(&format!("{BEGIN}{body}{END}\n"));
        }
    }
    pem
}

fn make(pem: &str, bundle: &[u8]) -> TrustFiles {
    let mut bundle_pem = Vec::with_capacity(bundle.len() + pem.len() + 1);
    bundle_pem.extend_from_slice(bundle);
    if bundle.last().is_some_and(|byte| *byte != b'\n') {
        bundle_pem.push(b'\n');
    }
    bundle_pem.extend_from_slice(pem.as_bytes());
    // What is no certificate in there is of no use to Java either.
    let certificates: Vec<CertificateDer<'static>> =
        [bundle, pem.as_bytes()].into_iter().flat_map(CertificateDer::pem_slice_iter).filter_map(Result::ok).collect();
    TrustFiles { bundle_pem, certificate_pem: pem.as_bytes().to_vec(), java_pkcs12: pkcs12::trust_store(&certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_the_images_own_with_ours_at_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path()).expect("an authority");
        let cache = TrustCache::default();

        let files = cache.files(authority.pem(), b"# no newline at the end").expect("made");

        let expected = format!("# no newline at the end\n{}", authority.pem());
        assert_eq!(files.bundle_pem, expected.into_bytes());
        let again = cache.files(authority.pem(), b"# no newline at the end").expect("kept");
        assert!(Arc::ptr_eq(&files, &again));
    }

    #[test]
    fn of_the_extra_roots_only_certificates_are_given_to_sandboxes() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path()).expect("an authority");
        let other = Authority::open(&folder.path().join("other")).expect("an authority");
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

        let pem = trusted_pem(&authority, format!("# ours\n{key}{}{key}", other.pem()).as_bytes());

        assert_eq!(pem, format!("{}{}", authority.pem(), other.pem()));
    }

    #[test]
    fn a_bundle_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path()).expect("an authority");

        let error =
            TrustCache::default().files(authority.pem(), &vec![b'\n'; MAX_BUNDLE_BYTES + 1]).expect_err("refused");

        assert_eq!(error.to_string(), "the image's list of certificates has more than 4194304 bytes");
    }
}
