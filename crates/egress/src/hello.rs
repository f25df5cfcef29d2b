//! Reads a TLS greeting (`ClientHello`) strictly: for which name a connection is meant. Nothing is decrypted, and what
//! could be read in two ways is refused.

use carrel_domain::HostName;

/// Longest greeting, in bytes. Those with post-quantum keys have about 2,000.
const MAX_BYTES: usize = 32 << 10;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// Draft and final number of the extension that hides the name (RFC 9849).
const ENCRYPTED_HELLO: u16 = 0xfe0d;
/// TLS 1.2, which newer versions say here as well.
const LEGACY_VERSION: u16 = 0x0303;

/// What is read of a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The name that the connection is for.
    pub(crate) server_name: Option<HostName>,
    /// The application's protocols in the client's order.
    pub(crate) protocols: Vec<Vec<u8>>,
    /// Whether the real name may be hidden.
    pub(crate) is_encrypted: bool,
}

/// Why a greeting is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidHello {
    /// The first bytes are no TLS.
    #[error("what follows CONNECT is no TLS")]
    NotTls,
    /// Older than TLS 1.2.
    #[error("the TLS greeting is older than TLS 1.2")]
    Old,
    /// It is longer than any real one.
    #[error("the TLS greeting is too long")]
    TooLong,
    /// It is not as the standard says.
    #[error("the TLS greeting is malformed")]
    Malformed,
    /// Its server name is none.
    #[error("the TLS greeting names no host in the one way that is read")]
    Name,
}

impl InvalidHello {
    /// The TLS alert that says so (RFC 8446, section 6.2).
    pub(crate) const fn alert(self) -> u8 {
        match self {
            Self::NotTls | Self::Malformed | Self::TooLong => 50,
            Self::Old => 70,
            Self::Name => 112,
        }
    }
}

/// Reads the beginning of a connection; `None` while more bytes are needed.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Hello>, InvalidHello> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != 3) {
            return Err(if message.is_empty() { InvalidHello::NotTls } else { InvalidHello::Malformed });
        }
        let Some((header, body)) = rest.split_at_checked(5) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > 1 << 14 {
            return Err(InvalidHello::Malformed);
        }
        let available = body.len().min(length);
        message.extend_from_slice(&body[..available]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(InvalidHello::Malformed);
        }
        if let Some([_, a, b, c]) = message.get(..4) {
            let announced = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
            if announced > MAX_BYTES {
                return Err(InvalidHello::TooLong);
            }
            if message.len() > announced + 4 {
                return Err(InvalidHello::Malformed);
            }
            if message.len() == announced + 4 && available == length {
                return read_message(&message[4..]).map(Some);
            }
        }
        if available < length {
            return Ok(None);
        }
        rest = &body[length..];
    }
}

/// Bytes that are taken from the front, each time all or none.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidHello> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(InvalidHello::Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn short(&mut self) -> Result<u16, InvalidHello> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn with_short_length(&mut self) -> Result<Reader<'a>, InvalidHello> {
        let length = self.short()?;
        self.take(usize::from(length)).map(Reader)
    }

    fn with_byte_length(&mut self) -> Result<Reader<'a>, InvalidHello> {
        let length = self.take(1)?[0];
        self.take(usize::from(length)).map(Reader)
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn read_message(message: &[u8]) -> Result<Hello, InvalidHello> {
    let mut reader = Reader(message);
    if reader.short()? != LEGACY_VERSION {
        return Err(InvalidHello::Old);
    }
    reader.take(32)?;
    let session = reader.with_byte_length()?;
    let ciphers = reader.with_short_length()?;
    let compressions = reader.with_byte_length()?;
    if session.0.len() > 32 || ciphers.is_empty() || ciphers.0.len() % 2 != 0 || !compressions.0.contains(&0) {
        return Err(InvalidHello::Malformed);
    }
    let mut hello = Hello { server_name: None, protocols: Vec::new(), is_encrypted: false };
    if reader.is_empty() {
        return Ok(hello);
    }
    let mut extensions = reader.with_short_length()?;
    if !reader.is_empty() {
        return Err(InvalidHello::Malformed);
    }
    let mut seen = std::collections::BTreeSet::new();
    while !extensions.is_empty() {
        let kind = extensions.short()?;
        let body = extensions.with_short_length()?;
        if !seen.insert(kind) {
            return Err(InvalidHello::Malformed);
        }
        match kind {
            SERVER_NAME => hello.server_name = Some(read_server_name(body)?),
            PROTOCOLS => hello.protocols = read_protocols(body)?,
            SUPPORTED_VERSIONS => check_versions(body)?,
            ENCRYPTED_HELLO => hello.is_encrypted = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// Exactly one name, and that a host's.
fn read_server_name(mut body: Reader<'_>) -> Result<HostName, InvalidHello> {
    let mut list = body.with_short_length()?;
    if !body.is_empty() || list.take(1)? != [0] {
        return Err(InvalidHello::Name);
    }
    let name = list.with_short_length()?;
    if !list.is_empty() {
        return Err(InvalidHello::Name);
    }
    let name = std::str::from_utf8(name.0).map_err(|_| InvalidHello::Name)?;
    name.parse().map_err(|_| InvalidHello::Name)
}

fn read_protocols(mut body: Reader<'_>) -> Result<Vec<Vec<u8>>, InvalidHello> {
    let mut list = body.with_short_length()?;
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.with_byte_length()?;
        if protocol.is_empty() {
            return Err(InvalidHello::Malformed);
        }
        protocols.push(protocol.0.to_vec());
    }
    if body.is_empty() { Ok(protocols) } else { Err(InvalidHello::Malformed) }
}

/// A client that speaks nothing newer than TLS 1.1 is refused.
fn check_versions(mut body: Reader<'_>) -> Result<(), InvalidHello> {
    let mut list = body.with_byte_length()?;
    let mut is_new = false;
    while !list.is_empty() {
        is_new |= matches!(list.short()?, 0x0303 | 0x0304);
    }
    if is_new { Ok(()) } else { Err(InvalidHello::Old) }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
