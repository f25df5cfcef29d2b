//! Pulling: from a name to a folder, once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use carrel_image::{Digest, ImageError, Images, Progress};
use serde_json::{Value, json};

use crate::fake::{Fake, FakeLayer, Fault, INDEX, MANIFEST, platform};
use crate::tars::Tar;
use crate::tree::contents;
use crate::{options, pulled, reference};

fn layer(name: &str) -> FakeLayer {
    FakeLayer::gzip(&Tar::new().file(name, "x").end())
}

/// A layer that does not compress away.
fn large_layer() -> FakeLayer {
    let mut word = 1_u64;
    let noise = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(40_000).flatten().collect();
    FakeLayer::gzip(&Tar::new().file("large", noise).end())
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_image_is_pulled_once_and_then_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let digest = fake.image("team/a", "1", &[layer("a"), layer("b")]);
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");
    let resolved = images.resolve(&reference(&fake.name("team/a:1"))).await.expect("resolved");
    let seen = Mutex::new(Vec::<Progress>::new());

    let image = images.ensure(&resolved, |now| seen.lock().expect("no panic").push(now)).await.expect("pulled");
    let again = images.ensure(&resolved, |_| {}).await.expect("found");

    assert_eq!((&resolved.digest, &image.digest), (&digest, &digest));
    assert_eq!(image.root, again.root);
    assert_eq!(contents(&image.root).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(image.config.env, [("PATH".to_owned(), "/bin".to_owned())]);
    assert_eq!((image.config.user.as_str(), image.config.working_dir.as_deref()), ("1000", Some("/work")));
    let last = *seen.lock().expect("no panic").last().expect("progress");
    assert_eq!((last.layer, last.layers, last.received_bytes), (2, 2, last.total_bytes));
    assert_eq!(fake.seen("/blobs/").len(), 3, "two layers and a config, each once");
    assert_eq!(fake.seen("/manifests/").len(), 1);
    let mode = |path: &std::path::Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(
        [mode(folder.path()), mode(image.root.parent().expect("a parent")), mode(&image.root)],
        [0o700, 0o700, 0o755]
    );
}

#[tokio::test]
async fn two_who_want_the_same_image_pull_it_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", &[large_layer()]);
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");
    let resolved = images.resolve(&reference(&fake.name("a:1"))).await.expect("resolved");

    let both = futures::future::join(images.ensure(&resolved, |_| {}), images.ensure(&resolved, |_| {})).await;

    assert_eq!(both.0.expect("one").root, both.1.expect("other").root);
    assert_eq!(fake.seen("/blobs/").len(), 2, "one layer and a config");
}

#[tokio::test]
async fn an_index_leads_to_this_machine_s_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let other = json!({"os": "linux", "architecture": "s390x"});
    let entry = |layers: &[FakeLayer], platform: &Value, tag: &str| {
        let manifest = fake.manifest("a", layers, platform);
        let digest = fake.document("a", tag, MANIFEST, &manifest);
        json!({"mediaType": MANIFEST, "digest": digest.as_str(), "size": 1, "platform": platform})
    };
    let unknown = json!({"os": "unknown", "architecture": "unknown"});
    let entries = [
        entry(&[layer("attestation")], &unknown, "t1"),
        entry(&[layer("other")], &other, "t2"),
        entry(&[layer("ours")], &platform(), "t3"),
    ];
    fake.document("a", "1", INDEX, &json!({"schemaVersion": 2, "manifests": entries}));
    fake.document("a", "2", INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entries[1]]}));
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");

    let image = pulled(&images, &fake.name("a:1")).await.expect("pulled");
    let none = pulled(&images, &fake.name("a:2")).await.expect_err("not for this machine");
    let wrong = pulled(&images, &fake.name("a:t2")).await.expect_err("not for this machine");

    assert_eq!(contents(&image.root).into_keys().collect::<Vec<_>>(), ["ours"]);
    for error in [none, wrong] {
        assert!(matches!(&error, ImageError::WrongPlatform { found, .. } if found == "linux/s390x"), "{error}");
    }
}

#[tokio::test]
async fn a_pinned_image_that_is_here_needs_no_registry() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let digest = fake.image("a", "1", &[layer("a")]);
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");
    let name = fake.name(&format!("a:1@{digest}"));
    pulled(&images, &name).await.expect("pulled");
    let asked = fake.seen("/").len();

    pulled(&images, &name).await.expect("found");

    assert_eq!(fake.seen("/").len(), asked);
}

#[tokio::test]
async fn whatever_was_changed_on_its_way_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");
    let good = layer("a");
    let manifest = fake.manifest("a", std::slice::from_ref(&good), &platform());
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).expect("text").to_owned();
    let error = async |name: &str| pulled(&images, &fake.name(name)).await.expect_err(name).to_string();

    let pinned = Digest::of(b"something else");
    fake.put(&format!("/v2/a/manifests/{pinned}"), MANIFEST, serde_json::to_vec(&manifest).expect("json"));
    assert!(error(&format!("a@{pinned}")).await.contains("its manifest should be"));

    fake.document("a", "layer", MANIFEST, &manifest);
    let (path, mut bad) = (format!("/v2/a/blobs/{}", text("/layers/0/digest")), good.blob.clone());
    // The time in gzip's header, which changes nothing of the content.
    bad[4] ^= 1;
    fake.put(&path, "x", bad);
    let words = error("a:layer").await;
    assert!(words.contains("layer 1") && words.contains("it should be sha256:"), "{words}");

    fake.put(&path, "x", [good.blob.clone(), vec![0]].concat());
    assert!(error("a:layer").await.contains("longer than promised"));

    let wrong = FakeLayer { diff_id: Digest::of(b"?").to_string(), ..good.clone() };
    fake.image("a", "diff", &[wrong]);
    assert!(error("a:diff").await.contains("its archive should be"));

    let garbage = FakeLayer { blob: [good.blob.clone(), b"garbage behind it".to_vec()].concat(), ..good.clone() };
    fake.image("a", "garbage", &[garbage]);
    assert!(error("a:garbage").await.contains("broken"));

    fake.put(
        &format!("/v2/a/blobs/{}", text("/config/digest")),
        "x",
        vec![b' '; usize::try_from(manifest["config"]["size"].as_u64().expect("a size")).expect("small")],
    );
    fake.put(&path, "x", good.blob);
    assert!(error("a:layer").await.contains("its config should be"));
    assert_eq!(names(folder.path()), ["lock"]);
}

#[tokio::test]
async fn an_image_with_more_layers_than_it_says_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    let mut manifest = fake.manifest("a", &[layer("a"), layer("b")], &platform());
    manifest["layers"].as_array_mut().expect("layers").pop();
    fake.document("a", "1", MANIFEST, &manifest);
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");

    let error = pulled(&images, &fake.name("a:1")).await.expect_err("refused");

    assert!(error.to_string().contains("differ in how many layers"), "{error}");
}

#[tokio::test]
async fn an_image_that_is_used_is_not_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image(
        "a",
        "1",
        &[FakeLayer::gzip(&Tar::new().with(b'5', "d", |header| header.mode = 0).file("d/a", "x").end())],
    );
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");
    let image = pulled(&images, &fake.name("a:1")).await.expect("pulled");
    let digest = image.digest.clone();

    let while_used = (images.list().expect("listed"), images.remove(&digest).await.expect("left alone"));
    drop(image);
    let after = (images.list().expect("listed"), images.remove(&digest).await.expect("removed"));

    assert!(while_used.0[0].is_used && !while_used.1);
    assert!(!after.0[0].is_used && after.1);
    assert_eq!((&after.0[0].digest, after.0[0].reference.as_str()), (&digest, fake.name("a:1").as_str()));
    assert!(after.0[0].size_bytes >= 8192);
    assert_eq!((images.list().expect("listed"), names(folder.path())), (Vec::new(), vec!["lock".to_owned()]));
    assert!(!images.remove(&digest).await.expect("nothing to do"));
}

#[tokio::test]
async fn a_folder_belongs_to_one_process_and_what_another_owner_of_files_left_in_it_can_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", &[layer("a")]);
    let options = options(folder.path(), &fake.address.to_string());
    let images = Images::open(options.clone()).expect("opened");
    let digest = pulled(&images, &fake.name("a:1")).await.expect("pulled").digest;

    let second = Images::open(options.clone()).expect_err("locked");
    drop(images);
    let shifted = carrel_image::ImageOptions { owner: carrel_image::Owner::Shifted { start: 1 }, ..options };
    let other = Images::open(shifted).expect("opened");

    assert!(matches!(second, ImageError::Locked { .. }), "{second}");
    let left = other.list().expect("listed");
    assert_eq!(left.iter().map(|image| (&image.digest, image.is_used)).collect::<Vec<_>>(), [(&digest, false)]);
    assert!(other.remove(&digest).await.expect("removed"));
    assert_eq!((other.list().expect("listed"), names(folder.path())), (Vec::new(), vec!["lock".to_owned()]));
}

#[tokio::test]
async fn a_pull_that_takes_too_long_is_ended_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", &[layer("a"), large_layer()]);
    let mut options = options(folder.path(), &fake.address.to_string());
    let images = Images::open(options.clone()).expect("opened");
    let resolved = images.resolve(&reference(&fake.name("a:1"))).await.expect("resolved");
    drop(images);
    fake.fault(Digest::of(&large_layer().blob).as_str(), Fault::Stall(20_000));
    options.pull_within = std::time::Duration::from_millis(300);
    let images = Images::open(options).expect("opened");

    let late = images.ensure(&resolved, |_| {}).await.expect_err("late");

    assert!(matches!(late, ImageError::Late { .. }), "{late}");
    assert_eq!(names(folder.path()), ["lock"]);
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_any_more_ends_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", &[layer("a"), large_layer()]);
    fake.fault(Digest::of(&large_layer().blob).as_str(), Fault::Stall(200_000));
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");
    let resolved = images.resolve(&reference(&fake.name("a:1"))).await.expect("resolved");

    let pull = Box::pin(images.ensure(&resolved, |_| {}));
    let stalled = Box::pin(fake.stalled());
    assert!(matches!(futures::future::select(pull, stalled).await, futures::future::Either::Right(_)));

    // Both were dropped with the answer; the thread that unpacks hears of it by itself.
    let is_gone = async {
        while names(folder.path()) != ["lock"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), is_gone).await.expect("nothing is left");
    images.ensure(&resolved, |_| {}).await.expect("pulled now");
}

/// What the next test runs as a process of its own: a pull that stands still half way.
#[tokio::test]
async fn a_process_that_is_ended_in_the_middle_of_a_pull() {
    let Ok(text) = std::env::var("CARREL_TEST_PULL") else { return };
    let (folder, name) = text.split_once('|').expect("a folder and a name");
    let registry = name.split('/').next().expect("a registry");
    let images = Images::open(options(folder.as_ref(), registry)).expect("opened");

    pulled(&images, name).await.expect("never comes");
}

#[tokio::test]
async fn what_a_killed_process_leaves_is_gone_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", &[layer("a"), large_layer()]);
    fake.fault(Digest::of(&large_layer().blob).as_str(), Fault::Stall(200_000));
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "pull::a_process_that_is_ended_in_the_middle_of_a_pull"])
        .env("CARREL_TEST_PULL", format!("{}|{}", folder.path().display(), fake.name("a:1")))
        .stdout(Stdio::null())
        .spawn()
        .expect("started");

    fake.stalled().await;
    process.kill().expect("killed with SIGKILL");
    process.wait().expect("waited for");
    let left = names(folder.path());
    let images = Images::open(options(folder.path(), &fake.address.to_string())).expect("opened");

    assert_eq!(left, ["lock", "partial-0"]);
    assert_eq!(names(folder.path()), ["lock"]);
    pulled(&images, &fake.name("a:1")).await.expect("pulled");
}
