//! Secrets at rest: envelope encryption with XChaCha20-Poly1305. Every value is sealed under a random key of its own,
//! and that key under one of the installation's. Rows are `secrets.rs`'s.
//!
//! What is stored reads `1.<key id>.<the value's key, sealed>.<the value, sealed>`; sealed parts are a nonce of 24 bytes
//! and the ciphertext with its tag, in base64. Both are bound to the row they stand in: moved elsewhere, they do not open.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use carrel_domain::{EnvironmentId, OrganizationId, Secret, SecretKind, VariableName};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const FORMAT: &str = "1";

/// A text that holds no sealing keys. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// A line that is none.
    #[error(
        "line {line} is no key: one is 32 bytes, as 64 hexadecimal digits or 44 characters of base64, such as `openssl rand -base64 32` prints"
    )]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// There is none at all.
    #[error("there is no key in it; make one with `openssl rand -base64 32`")]
    Empty,
    /// Chance is not to be had.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// Which key sealed something: eight bytes of a hash of it, in hexadecimal. It tells nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl KeyId {
    pub(crate) fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone)]
struct SealingKey {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The keys of an installation: the first seals, all of them open.
#[derive(Clone)]
pub struct SealingKeys {
    first: SealingKey,
    others: Vec<SealingKey>,
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.all().map(|key| &key.id)).finish()
    }
}

impl SealingKeys {
    /// The keys in a text: one a line, the one that seals first. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// When a line is no key, or there is none.
    pub fn parse(text: &Secret) -> Result<Self, InvalidKeys> {
        let mut keys = Vec::new();
        for (index, line) in text.expose().lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                keys.push(SealingKey::parse(line).ok_or(InvalidKeys::Line { line: index + 1 })?);
            }
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(InvalidKeys::Empty)?;
        Ok(Self { first, others: keys.collect() })
    }

    /// A fresh key in base64, as it goes into a file.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn fresh() -> Result<Secret, InvalidKeys> {
        let key = random_key().map_err(|error| InvalidKeys::Random(error.to_string()))?;
        Ok(Secret::new(STANDARD.encode(key.as_slice())))
    }

    /// These keys, and behind them those that open what they do not.
    #[must_use]
    pub fn followed_by(mut self, older: Self) -> Self {
        self.others.push(older.first);
        self.others.extend(older.others);
        self
    }

    /// The id of the key that seals.
    #[must_use]
    pub const fn sealing(&self) -> &KeyId {
        &self.first.id
    }

    /// The ids of all of them.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.all().map(|key| &key.id)
    }

    fn all(&self) -> impl Iterator<Item = &SealingKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn by_id(&self, id: &str) -> Option<&SealingKey> {
        self.all().find(|key| key.id.0 == id)
    }

    /// Seals a value for its row.
    pub(crate) fn seal(&self, place: &Place<'_>, value: &Secret) -> Result<Sealed, SealError> {
        let own = random_key().map_err(|error| SealError::Random(error.to_string()))?;
        let wrapped = encrypt(&self.first.bytes, &place.of_key(&self.first.id), own.as_slice())?;
        let text = encrypt(&own, &place.of_value(), value.expose().as_bytes())?;
        let id = self.first.id.clone();
        Ok(Sealed { text: format!("{FORMAT}.{id}.{wrapped}.{text}"), key: id })
    }

    /// Opens what was sealed for this row.
    pub(crate) fn open(&self, place: &Place<'_>, sealed: &str) -> Result<Secret, SealError> {
        let parts = Parts::of(sealed)?;
        let own = self.unwrap_key(place, &parts)?;
        let value = decrypt(&own, &place.of_value(), parts.value)?;
        let value = String::from_utf8(value.to_vec()).map_err(|_| SealError::Damaged)?;
        Ok(Secret::new(value))
    }

    /// The same value under the first key. The value itself is not opened for it.
    pub(crate) fn rewrap(&self, place: &Place<'_>, sealed: &str) -> Result<Sealed, SealError> {
        let parts = Parts::of(sealed)?;
        let own = self.unwrap_key(place, &parts)?;
        let wrapped = encrypt(&self.first.bytes, &place.of_key(&self.first.id), own.as_slice())?;
        let id = self.first.id.clone();
        Ok(Sealed { text: format!("{FORMAT}.{id}.{wrapped}.{}", parts.value), key: id })
    }

    fn unwrap_key(&self, place: &Place<'_>, parts: &Parts<'_>) -> Result<Zeroizing<[u8; KEY_BYTES]>, SealError> {
        let key = self.by_id(parts.key).ok_or_else(|| SealError::UnknownKey(KeyId(parts.key.to_owned())))?;
        let bytes = decrypt(&key.bytes, &place.of_key(&key.id), parts.wrapped)?;
        let mut own = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return Err(SealError::Damaged);
        }
        own.copy_from_slice(&bytes);
        Ok(own)
    }
}

impl SealingKey {
    fn parse(text: &str) -> Option<Self> {
        let bytes = if text.len() == 2 * KEY_BYTES { from_hex(text)? } else { from_base64(text)? };
        let bytes: [u8; KEY_BYTES] = bytes.as_slice().try_into().ok()?;
        let bytes = Zeroizing::new(bytes);
        let digest = Sha256::new().chain_update(b"carrel sealing key").chain_update(bytes.as_slice()).finalize();
        Some(Self { id: KeyId(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()), bytes })
    }
}

/// The row a value belongs to. It opens in no other.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) organization: OrganizationId,
    pub(crate) environment: EnvironmentId,
    pub(crate) name: &'a VariableName,
    pub(crate) kind: SecretKind,
    pub(crate) version: i64,
}

impl Place<'_> {
    fn of_value(&self) -> Vec<u8> {
        let Self { organization, environment, name, version, .. } = self;
        format!("carrel secret|{organization}|{environment}|{name}|{}|{version}", kind_word(self.kind)).into_bytes()
    }

    fn of_key(&self, key: &KeyId) -> Vec<u8> {
        let mut bytes = self.of_value();
        bytes.extend(format!("|key|{key}").into_bytes());
        bytes
    }
}

pub(crate) const fn kind_word(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::Setup => "setup",
        SecretKind::Network => "network",
    }
}

/// What is stored, and the key it is sealed under.
pub(crate) struct Sealed {
    pub(crate) text: String,
    pub(crate) key: KeyId,
}

/// Why something does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("it is sealed under the key {0}, which this installation does not have")]
    UnknownKey(KeyId),
    #[error("what is stored was changed or moved")]
    Damaged,
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

struct Parts<'a> {
    key: &'a str,
    wrapped: &'a str,
    value: &'a str,
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a str) -> Result<Self, SealError> {
        let parts: Vec<&str> = sealed.split('.').collect();
        match parts[..] {
            [FORMAT, key, wrapped, value] => Ok(Self { key, wrapped, value }),
            _ => Err(SealError::Damaged),
        }
    }
}

fn encrypt(key: &[u8; KEY_BYTES], bound_to: &[u8], text: &[u8]) -> Result<String, SealError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| SealError::Random(error.to_string()))?;
    let cipher = XChaCha20Poly1305::new(key.into());
    let payload = Payload { msg: text, aad: bound_to };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Damaged)?;
    Ok(STANDARD_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
}

fn decrypt(key: &[u8; KEY_BYTES], bound_to: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| SealError::Damaged)?;
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
    let cipher = XChaCha20Poly1305::new(key.into());
    let payload = Payload { msg: sealed, aad: bound_to };
    cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| SealError::Damaged)
}

fn random_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, getrandom::Error> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice())?;
    Ok(key)
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.bytes().map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    let digits = Zeroizing::new(digits.collect::<Option<Vec<u8>>>()?);
    Some(Zeroizing::new(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
}

fn from_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
    engines.into_iter().find_map(|engine| engine.decode(text).ok()).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(&Secret::new(text)).expect("keys")
    }

    fn key() -> String {
        SealingKeys::fresh().expect("chance").expose().to_owned()
    }

    fn name() -> VariableName {
        "API_KEY".parse().expect("a name")
    }

    fn place(name: &VariableName) -> Place<'_> {
        Place {
            organization: OrganizationId::from_uuid(uuid::Uuid::from_u128(1)),
            environment: EnvironmentId::from_uuid(uuid::Uuid::from_u128(2)),
            name,
            kind: SecretKind::Setup,
            version: 3,
        }
    }

    #[test]
    fn a_value_opens_in_its_own_row_and_in_no_other() {
        let (keys, name, other) = (keys(&key()), name(), "OTHER".parse().expect("a name"));
        let here = place(&name);
        let sealed = keys.seal(&here, &Secret::new("hunter2")).expect("sealed");

        assert_eq!(keys.open(&here, &sealed.text).expect("opened"), Secret::new("hunter2"));
        for elsewhere in [
            Place { organization: OrganizationId::from_uuid(uuid::Uuid::from_u128(9)), ..here },
            Place { environment: EnvironmentId::from_uuid(uuid::Uuid::from_u128(9)), ..here },
            Place { name: &other, ..here },
            Place { kind: SecretKind::Network, ..here },
            Place { version: 4, ..here },
        ] {
            assert!(matches!(keys.open(&elsewhere, &sealed.text), Err(SealError::Damaged)));
            assert!(matches!(keys.rewrap(&elsewhere, &sealed.text), Err(SealError::Damaged)));
        }
    }

    #[test]
    fn whatever_is_changed_in_what_is_stored_keeps_it_shut() {
        let (keys, name) = (keys(&key()), name());
        let sealed = keys.seal(&place(&name), &Secret::new("hunter2")).expect("sealed").text;

        assert!(!sealed.contains("hunter2"));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(keys.open(&place(&name), &changed).is_err(), "changed at {index}");
        }
        for cut in 0..sealed.len() {
            assert!(keys.open(&place(&name), &sealed[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn after_a_rotation_the_new_key_alone_opens_it() {
        let (old, new, name) = (key(), key(), name());
        let sealed = keys(&old).seal(&place(&name), &Secret::new("hunter2")).expect("sealed");
        let both = keys(&format!("# rotated\n{new}\n\n{old}\n"));

        let moved = both.rewrap(&place(&name), &sealed.text).expect("rewrapped");

        assert_eq!(moved.key, *keys(&new).sealing());
        assert_eq!(keys(&new).open(&place(&name), &moved.text).expect("opened"), Secret::new("hunter2"));
        let closed = keys(&old).open(&place(&name), &moved.text);
        assert!(matches!(closed, Err(SealError::UnknownKey(id)) if id == moved.key));
    }

    #[test]
    fn the_same_value_sealed_twice_looks_different() {
        let (keys, name) = (keys(&key()), name());
        let sealed = || keys.seal(&place(&name), &Secret::new("hunter2")).expect("sealed").text;

        assert_ne!(sealed(), sealed());
    }

    #[test]
    fn a_key_is_read_from_hexadecimal_and_every_base64_and_a_wrong_one_is_not_repeated() {
        let bytes = [0xfb_u8; KEY_BYTES];
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let texts = [hex.clone(), hex.to_uppercase(), STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)];
        let ids: Vec<KeyId> = texts.iter().map(|text| keys(text).sealing().clone()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

        for (text, expected) in [
            ("", InvalidKeys::Empty),
            ("# nothing\n", InvalidKeys::Empty),
            ("# a\nhunter2", InvalidKeys::Line { line: 2 }),
            (&hex[2..], InvalidKeys::Line { line: 1 }),
        ] {
            let error = SealingKeys::parse(&Secret::new(text)).expect_err("no keys");
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
