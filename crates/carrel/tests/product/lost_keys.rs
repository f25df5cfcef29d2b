//! The key that values of secrets are sealed under is gone, or is another: the service says so before anything fails.

use carrel_testkit::model::Reply;

use crate::{CARREL, FILES, World, attempt, reason, says};

/// A service that keeps a secret, and was ended.
async fn stopped() -> World {
    let mut world = World::new(CARREL, says([Reply::message("Done.")])).await;
    world.json(&["environment", "create", "api", "--no-setup", "--setup-secret", "TOKEN=hunter2hunter2"]).await;
    world.kill().await;
    world
}

#[tokio::test]
async fn a_service_whose_file_of_keys_is_gone_does_not_start_and_makes_no_other() {
    let mut world = stopped().await;
    let file = world.data().join("secrets.key");
    let aside = world.data().join("aside");
    std::fs::rename(&file, &aside).expect("our own file");

    let refused = world.carrel(&["serve"]).await;
    let made = file.exists();
    std::fs::rename(&aside, &file).expect("our own file");
    world.start().await;

    assert_eq!(refused.code, 2, "{refused:?}");
    for words in ["secrets.key is not there", "TOKEN of `api`", "from your copy", "--accept-lost-secrets"] {
        assert!(refused.stderr.contains(words), "{refused:?} does not say {words}");
    }
    assert!(!made, "a new key would hide that the old one is missing");
    assert!(!world.logged().contains("does not open"), "with the file back all is well: {}", world.logged());
}

#[tokio::test]
async fn a_service_with_another_key_does_not_start_and_says_where_the_right_one_belongs() {
    let world = stopped().await;
    let file = world.data().join("secrets.key");
    std::fs::write(&file, "5f".repeat(32)).expect("our own file");

    let refused = world.carrel(&["serve"]).await;

    assert_eq!(refused.code, 2, "{refused:?}");
    for words in ["does not have the right key", "TOKEN of `api`", "put the right one back", "--accept-lost-secrets"] {
        assert!(refused.stderr.contains(words), "{refused:?} does not say {words}");
    }
    assert!(!refused.stderr.contains(&"5f".repeat(32)), "{refused:?}");
}

#[tokio::test]
async fn whoever_accepts_that_secrets_are_lost_gives_them_anew_and_goes_on() {
    let mut world = stopped().await;
    let repository = world.repository("api", FILES);
    std::fs::remove_file(world.data().join("secrets.key")).expect("our own file");

    world.start_with(&["--accept-lost-secrets"]).await;
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    let failed = world.ended(&id).await;
    world.json(&["environment", "edit", "api", "--setup-secret", "TOKEN=hunter3hunter3"]).await;
    world.kill().await;
    world.start().await;
    let id = world.create_with(&repository, &["--environment", "api", "Do it"]).await;
    let task = world.ended(&id).await;

    assert!(world.logged().contains("the secret TOKEN of the environment `api` does not open"), "{}", world.logged());
    assert!(reason(&failed).contains("the value of the secret `TOKEN` cannot be used"), "{}", reason(&failed));
    assert_eq!(attempt(&task)["state"], "ready", "{task:#}");
}

#[tokio::test]
async fn a_file_of_authorities_without_a_certificate_stops_the_start() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("ca.pem");
    for (text, words) in [
        ("", "has no certificate in it"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "has no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "has a certificate that is cut off"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate"),
    ] {
        std::fs::write(&file, text).expect("a file");
        let mut command = tokio::process::Command::new(CARREL);
        command.arg("serve").env("CARREL_DATA", folder.path().join("data")).env("CARREL_LISTEN", "127.0.0.1:0");
        let ended = command.env("CARREL_CA_FILE", &file).kill_on_drop(true).output();

        let output = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await;

        let output = output.expect("it does not go on").expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{text:?}: {said}");
        assert!(said.contains("CARREL_CA_FILE"), "{text:?}: {said}");
    }
}
