//! Who is asking. Programs show a bearer token, browsers a session cookie; a browser gets its session by a one-time
//! owner link. All three are random secrets of 256 bits of which only hashes are stored.
//!
//! Accounts with passwords, second factors and single sign-on come here later.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carrel_domain::{Secret, SharedClock};
use carrel_store::{Principal, Store, StoreError};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// How long an owner link works.
pub const OWNER_LINK_LIFE: Duration = Duration::from_secs(60 * 60);

/// How long a browser stays signed in.
pub const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a token begins with, so that scanners and people know one when they see one.
const TOKEN_PREFIX: &str = "carrel_";

/// Letters behind the prefix below which a text in the token's file is no token of ours.
const SHORTEST_TOKEN: usize = 32;

/// Why an identity could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store did not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of the local token cannot be used.
    #[error("cannot use the token file {path}: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The link is unknown, used or too old.
    #[error("this sign-in link was used already or is too old; run `carrel owner-link` for a fresh one")]
    LinkSpent,
}

/// A secret handed to somebody, and until when it works.
pub struct Issued {
    /// The secret. It is shown this once and not stored.
    pub secret: Secret,
    /// Until when.
    pub expires_at: Timestamp,
}

/// Makes and checks what proves who is asking.
#[derive(Clone)]
pub struct Identity {
    store: Store,
    clock: SharedClock,
}

impl Identity {
    /// Over the installation's store.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    /// Lets the token of the programs on this machine in, and the ones that were there before it no more.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn accept_local_token(&self, principal: Principal, token: &Secret) -> Result<(), IdentityError> {
        let hash = hash(token.expose());
        if self.store.token_holder(&hash).await?.is_none() {
            // Each machine that shares the database has one, and a new one of it takes the place of its old one only.
            self.store.keep_token(principal, &hash, &format!("local, {}", self.store.worker()), None).await?;
        }
        Ok(())
    }

    /// Whose bearer token this is.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn by_token(&self, token: &str) -> Result<Option<Principal>, IdentityError> {
        Ok(self.store.token_holder(&hash(token)).await?)
    }

    /// Whose session cookie this is.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn by_session(&self, cookie: &str) -> Result<Option<Principal>, IdentityError> {
        Ok(self.store.session_holder(&hash(cookie)).await?.map(|(_, principal)| principal))
    }

    /// A fresh one-time link for a browser: its secret part.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn owner_link(&self, principal: Principal) -> Result<Issued, IdentityError> {
        let secret = Secret::new(random()?);
        let expires_at = self.after(OWNER_LINK_LIFE);
        self.store.keep_owner_link(principal, &hash(secret.expose()), expires_at).await?;
        Ok(Issued { secret, expires_at })
    }

    /// Trades an owner link for a session.
    ///
    /// # Errors
    /// [`IdentityError::LinkSpent`] when it is unknown, used or too old.
    pub async fn redeem_owner_link(&self, link: &str) -> Result<(Principal, Issued), IdentityError> {
        let secret = Secret::new(random()?);
        let expires_at = self.after(SESSION_LIFE);
        let redeemed = self.store.redeem_owner_link(&hash(link), &hash(secret.expose()), expires_at).await?;
        let principal = redeemed.ok_or(IdentityError::LinkSpent)?;
        Ok((principal, Issued { secret, expires_at }))
    }

    /// Ends the session of a cookie.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), IdentityError> {
        Ok(self.store.end_session(&hash(cookie)).await?)
    }

    fn after(&self, life: Duration) -> Timestamp {
        self.clock.now().checked_add(life).unwrap_or(Timestamp::MAX)
    }
}

/// The token of the programs on this machine, from its file. At the first start, or when the file is gone, a new one is
/// made and written there for the file's owner only; [`Identity::accept_local_token`] makes it valid.
///
/// # Errors
/// When the file cannot be read or written.
pub fn local_token(file: &Path) -> Result<Secret, IdentityError> {
    let failed = |source| IdentityError::TokenFile { path: file.to_owned(), source };
    match fs::read_to_string(file) {
        Ok(text) if text.trim().len() >= TOKEN_PREFIX.len() + SHORTEST_TOKEN => {
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).map_err(failed)?;
            return Ok(Secret::new(text.trim()));
        }
        Ok(_too_short) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let token = Secret::new(format!("{TOKEN_PREFIX}{}", random()?));
    write_privately(file, token.expose()).map_err(failed)?;
    Ok(token)
}

/// 256 random bits as text.
fn random() -> Result<String, IdentityError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is stored of a secret. The secrets have full entropy, so a plain hash cannot be guessed back; and because
/// the look-up is by hash, its timing says nothing about the secret.
fn hash(secret: &str) -> String {
    Sha256::digest(secret).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Writes a file that only its owner can read: whole or not at all.
fn write_privately(file: &Path, text: &str) -> io::Result<()> {
    let beside = file.with_extension("new");
    // One left over from a crash may have other rights: it is made anew.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut handle = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(handle, "{text}")?;
    handle.sync_all()?;
    fs::rename(&beside, file)
}
