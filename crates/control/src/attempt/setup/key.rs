//! What a prepared environment depends on. Where any of it changes, another snapshot is needed; its parts are kept apart,
//! so that a person can be told which.

use std::collections::BTreeMap;

use carrel_domain::{Image, Internet, NetworkPolicy, Recipe, SecretKind, Setup};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::attempt::Site;

/// Raised when the way snapshots are made changes, so that none made the old way is taken for one made the new way.
const FORM: u32 = 1;

const AUTHORITY: &str = "certificate authority";

/// The parts by name, each as a digest of its content: variables may hold what is nobody's business.
pub(super) type Parts = BTreeMap<String, String>;

/// The parts of the key of what this recipe makes. `kit` is the digest of the tool kit, where the image needs one.
pub(super) fn parts(site: &Site<'_>, recipe: &Recipe, lock_files: &[(String, String)], kit: Option<&str>) -> Parts {
    let spec = &site.environment.spec;
    let image = match (&recipe.image, &recipe.digest) {
        (Image::Oci(_), Some(digest)) => digest.clone(),
        (Image::Folder(path), Some(state)) => format!("{path} {state}"),
        (image, _) => image.to_string(),
    };
    let secrets: Vec<_> =
        spec.secrets.iter().map(|secret| (secret.name.as_str(), secret.kind, secret.version)).collect();
    // Of the agent's network only whether it needs to know the hosts of package managers: those are found meanwhile.
    let needs_packages = matches!(spec.agent_network.internet, Internet::Packages | Internet::Common);
    let networks: (&NetworkPolicy, bool, bool) =
        (&spec.setup_network, needs_packages, spec.secrets(SecretKind::Network).next().is_some());
    let setup: &Setup = &recipe.setup;
    let mut parts = BTreeMap::from([
        ("form".to_owned(), digest(&FORM)),
        ("image".to_owned(), digest(&image)),
        ("setup script".to_owned(), digest(setup)),
        // They are what automatic setup runs by; a script's own business otherwise.
        ("set of lock files".to_owned(), digest(&lock_files)),
        ("maintenance script".to_owned(), digest(&recipe.maintenance_script)),
        ("set of variables".to_owned(), digest(&recipe.variables)),
        ("set of secrets".to_owned(), digest(&secrets)),
        ("network policy".to_owned(), digest(&networks)),
        (AUTHORITY.to_owned(), digest(&site.control.inner.egress.trusted_pem())),
    ]);
    // Absent where none is used, so that what was prepared without stays good.
    parts.extend(kit.map(|kit| ("tool kit".to_owned(), digest(&kit))));
    // Files given to the ids of one map belong to nobody under another.
    let lent_ids = site.control.inner.sandboxes.lent_ids().filter(|_| recipe.image != Image::Host);
    parts.extend(lent_ids.map(|ids| ("map of subordinate ids".to_owned(), digest(&ids.to_string()))));
    parts
}

/// The key itself.
pub(super) fn key(parts: &Parts) -> String {
    digest(parts)
}

/// The key by which other workers find it, packed: machines that `packed_for` is the same for. Each worker has a certificate
/// authority of its own; where it stands in what was made, that is not packed.
pub(super) fn pack_key(parts: &Parts, packed_for: &str) -> String {
    let shared: BTreeMap<_, _> = parts.iter().filter(|(name, _)| *name != AUTHORITY).collect();
    digest(&(shared, packed_for))
}

/// The names of the parts that are not as they were.
pub(super) fn changed<'a>(before: &Parts, now: &'a Parts) -> Vec<&'a str> {
    now.iter().filter(|(name, value)| before.get(*name) != Some(value)).map(|(name, _)| name.as_str()).collect()
}

fn digest(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("plain data");
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changed_parts_are_named() {
        let before = BTreeMap::from([("image".to_owned(), digest(&"a")), ("setup script".to_owned(), digest(&"x"))]);
        let now = BTreeMap::from([("image".to_owned(), digest(&"b")), ("setup script".to_owned(), digest(&"x"))]);

        assert_eq!(changed(&before, &now), ["image"]);
        assert_ne!(key(&before), key(&now));
        assert_eq!(changed(&now, &now), Vec::<&str>::new());
    }

    #[test]
    fn workers_share_what_differs_by_their_authorities_alone() {
        let of = |image: &str, authority: &str| {
            BTreeMap::from([("image".to_owned(), digest(&image)), (AUTHORITY.to_owned(), digest(&authority))])
        };
        let ours = pack_key(&of("a", "ours"), "x86_64 ids from 7");

        assert_eq!(ours, pack_key(&of("a", "theirs"), "x86_64 ids from 7"));
        assert_ne!(ours, pack_key(&of("b", "ours"), "x86_64 ids from 7"));
        assert_ne!(ours, pack_key(&of("a", "ours"), "aarch64 ids from 7"));
    }
}
