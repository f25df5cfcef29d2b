//! OCI images without Docker: pulled from a registry, verified, and unpacked into root file systems.
//!
//! A reference is resolved to a digest once, and what has a digest never changes: it is pulled at most once, by whoever
//! asks first, and stands in the cache until it is removed. Which image a sandbox uses, and how it is mounted, is
//! decided elsewhere.
//!
//! `oci-client` would have been the crate for this. It follows redirects and token servers wherever they lead, has no
//! way to check the address that is connected to, and begins a broken download anew; since images are named by people
//! who may not look around in the service's network, the few requests are made here ([`ImageOptions::plain_http`] and
//! [`ImageOptions::private`] say what may be reached).

mod digest;
mod error;
mod images;
mod keep;
mod manifest;
mod options;
mod platform;
mod reference;
mod registry;
mod unpack;
mod unpacker;

pub use digest::{Digest, InvalidDigest};
pub use error::ImageError;
pub use images::{Images, Progress, ResolvedImage};
pub use keep::{KeptImage, UnpackedImage};
pub use manifest::ImageConfig;
pub use options::{Credential, ImageLimits, ImageOptions, InvalidCredentials, Owner};
pub use platform::Platform;
pub use reference::{ImageReference, InvalidReference};
pub use unpack::Notes;
pub use unpacker::{UNPACKER_ARGUMENT, Unpacker, unpack_for_another};
