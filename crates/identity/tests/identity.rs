//! Tokens, links and sessions over a real store.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use carrel_domain::{Clock, Redactor};
use carrel_identity::{Identity, IdentityError, local_token};
use carrel_store::{Principal, SealingKeys, Store, StoreOptions};
use jiff::Timestamp;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }
}

async fn identity() -> (tempfile::TempDir, Identity, Principal) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = StoreOptions {
        folder: folder.path().to_owned(),
        postgres: None,
        artifacts: carrel_store::ArtifactPlace::DataFolder,
        worker: "0198c1de-7a3b-7c4e-9d5f-000000000001".parse().expect("an id"),
        clock: Arc::new(Noon),
        redactor: Redactor::default(),
        keys: SealingKeys::parse(&SealingKeys::fresh().expect("chance")).expect("a key"),
    };
    let (store, _) = Store::open(options).await.expect("a store");
    let owner = store.ensure_owner().await.expect("an owner").principal;
    (folder, Identity::new(store, Arc::new(Noon)), owner)
}

#[tokio::test]
async fn the_local_token_is_made_once_for_its_owners_eyes_only() {
    let (folder, identity, owner) = identity().await;
    let file = folder.path().join("token");

    let first = local_token(&file).expect("a token");
    let second = local_token(&file).expect("the token");
    identity.accept_local_token(owner, &first).await.expect("accepted");

    assert_eq!(first, second);
    assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(identity.by_token(first.expose()).await.expect("asked"), Some(owner));
    assert_eq!(identity.by_token("carrel_guess").await.expect("asked"), None);
}

#[tokio::test]
async fn a_token_whose_file_was_removed_is_let_in_no_more() {
    let (folder, identity, owner) = identity().await;
    let file = folder.path().join("token");
    let leaked = local_token(&file).expect("a token");
    identity.accept_local_token(owner, &leaked).await.expect("accepted");

    std::fs::remove_file(&file).expect("the file");
    let fresh = local_token(&file).expect("another token");
    identity.accept_local_token(owner, &fresh).await.expect("accepted");

    assert_eq!(identity.by_token(leaked.expose()).await.expect("asked"), None);
    assert_eq!(identity.by_token(fresh.expose()).await.expect("asked"), Some(owner));
}

#[tokio::test]
async fn a_file_that_holds_no_token_gets_one() {
    let (folder, _identity, _owner) = identity().await;
    let file = folder.path().join("token");
    std::fs::write(&file, "x\n").expect("a file");

    let token = local_token(&file).expect("a token");

    assert_eq!(std::fs::read_to_string(&file).expect("the file").trim(), token.expose());
}

#[tokio::test]
async fn a_link_opens_one_session_which_ends_when_its_owner_signs_out() {
    let (_folder, identity, owner) = identity().await;
    let link = identity.owner_link(owner).await.expect("a link");

    let (principal, session) = identity.redeem_owner_link(link.secret.expose()).await.expect("a session");
    assert_eq!(principal, owner);
    assert_eq!(identity.by_session(session.secret.expose()).await.expect("asked"), Some(owner));

    let again = identity.redeem_owner_link(link.secret.expose()).await;
    assert!(matches!(again, Err(IdentityError::LinkSpent)));
    identity.sign_out(session.secret.expose()).await.expect("signed out");
    assert_eq!(identity.by_session(session.secret.expose()).await.expect("asked"), None);
}

#[tokio::test]
async fn a_session_is_no_token_and_a_token_is_no_session() {
    let (folder, identity, owner) = identity().await;
    let token = local_token(&folder.path().join("token")).expect("a token");
    identity.accept_local_token(owner, &token).await.expect("accepted");
    let link = identity.owner_link(owner).await.expect("a link");
    let (_, session) = identity.redeem_owner_link(link.secret.expose()).await.expect("a session");

    assert_eq!(identity.by_session(token.expose()).await.expect("asked"), None);
    assert_eq!(identity.by_token(session.secret.expose()).await.expect("asked"), None);
}
