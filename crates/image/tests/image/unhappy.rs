//! Registries that break, refuse, send elsewhere, and ask who is there.

use carrel_domain::Secret;
use carrel_image::{Credential, Digest, ImageError, ImageOptions, Images};

use crate::fake::{Fake, FakeLayer, Fault};
use crate::tars::Tar;
use crate::tree::contents;
use crate::{options, pulled};

/// A layer large enough to be cut.
fn layer() -> FakeLayer {
    let content: Vec<u8> =
        (0_u32..60_000).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    FakeLayer::gzip(&Tar::new().file("large", content).end())
}

/// A registry with one image, `a:1`, and a cache for it.
async fn world(change: impl FnOnce(&mut ImageOptions)) -> (tempfile::TempDir, Fake, Images) {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", &[layer()]);
    let mut options = options(&folder.path().join("cache"), &fake.address.to_string());
    change(&mut options);
    let images = Images::open(options).expect("opened");
    (folder, fake, images)
}

fn layer_path() -> String {
    format!("/v2/a/blobs/{}", Digest::of(&layer().blob))
}

fn answer(status: u16, name: &'static str, value: &str) -> Fault {
    Fault::Answer(status, vec![(name, value.to_owned())], String::new())
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke() {
    let (_folder, fake, images) = world(|_| {}).await;
    let path = layer_path();
    fake.fault(&path, Fault::Break(8_000));
    fake.fault(&path, answer(503, "retry-after", "0"));
    fake.fault(&path, Fault::Break(10));

    let image = pulled(&images, &fake.name("a:1")).await.expect("pulled");

    assert_eq!(contents(&image.root).into_keys().collect::<Vec<_>>(), ["large"]);
    let ranges: Vec<Option<String>> = fake.seen(&path).into_iter().map(|seen| seen.range).collect();
    let at = |bytes: u32| Some(format!("bytes={bytes}-"));
    assert_eq!(ranges, [None, at(8_000), at(8_000), at(8_010)]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_anew() {
    let (_folder, fake, images) = world(|_| {}).await;
    fake.fault(&layer_path(), Fault::Break(8_000));
    fake.fault(&layer_path(), Fault::NoRanges);

    pulled(&images, &fake.name("a:1")).await.expect("pulled");
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    let (_folder, fake, images) = world(|_| {}).await;
    fake.fault(&layer_path(), Fault::Break(8_000));
    fake.fault(&layer_path(), answer(206, "content-range", "bytes 5-9/10"));

    let error = pulled(&images, &fake.name("a:1")).await.expect_err("refused");

    assert!(error.to_string().contains("another part"), "{error}");
}

#[tokio::test]
async fn a_registry_that_does_not_recover_is_named() {
    let (_folder, fake, images) = world(|_| {}).await;
    for _ in 0..5 {
        fake.fault("/manifests/", Fault::Answer(500, Vec::new(), String::new()));
    }
    let broken = pulled(&images, &fake.name("a:1")).await.expect_err("broken");
    for _ in 0..5 {
        let body = r#"{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down\r\n\u202eplease"}]}"#;
        fake.fault("/manifests/", Fault::Answer(429, vec![("retry-after", "0".to_owned())], body.to_owned()));
    }
    let limited = pulled(&images, &fake.name("a:1")).await.expect_err("limited");

    assert!(broken.to_string().contains("it answers with 500") && broken.is_transient(), "{broken}");
    assert!(limited.to_string().contains(r": slow down \u{202e}please;") && limited.is_transient(), "{limited}");
    assert_eq!(fake.seen("/manifests/").len(), 10);
}

#[tokio::test]
async fn an_image_that_is_not_there_is_asked_for_once_and_named() {
    let (_folder, fake, images) = world(|_| {}).await;

    let error = pulled(&images, &fake.name("b:2")).await.expect_err("not there");

    let registry = fake.address;
    let expected = format!(
        "{registry} says that the image `{registry}/b:2` does not exist or needs a login: manifest\\u{{1b}}[31m \
         unknown; check"
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(fake.seen("/").len(), 1);
}

#[tokio::test]
async fn a_registry_nobody_listed_is_not_spoken_to_in_the_clear_or_at_home() {
    let (_folder, fake, images) = world(|options| options.plain_http.clear()).await;
    let port = fake.address.port();

    for host in
        [fake.address.to_string(), format!("localhost:{port}"), format!("127.1:{port}"), format!("[::1]:{port}")]
    {
        let error = pulled(&images, &format!("{host}/a:1")).await.expect_err("refused");
        assert!(matches!(error, ImageError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("not public"), "{error}");
    }
    assert_eq!(fake.seen("/").len(), 0);
}

#[tokio::test]
async fn a_redirect_leads_only_to_where_one_may_go() {
    let other = Fake::start().await;
    let (_folder, fake, images) = world(|_| {}).await;
    for (target, words) in [
        (format!("http://{}/blob", other.address), "without TLS"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "without TLS"),
        ("https://169.254.169.254/latest/meta-data/".to_owned(), "not public"),
        (format!("https://{}/blob", other.address), "not public"),
        (format!("https://localhost:{}/blob", other.address.port()), "not public"),
        ("https://[::ffff:10.0.0.1]/".to_owned(), "not public"),
        ("file:///etc/passwd".to_owned(), "not spoken to with HTTP"),
        ("https://user:word@example.com/".to_owned(), "login"),
    ] {
        fake.fault("/blobs/", answer(307, "location", &target));

        let error = pulled(&images, &fake.name("a:1")).await.expect_err(&target);

        assert!(matches!(error, ImageError::Refused { .. }), "{target}: {error}");
        assert!(error.to_string().contains(words), "{target}: {error}");
    }
    assert_eq!(other.seen("/").len(), 0);
}

#[tokio::test]
async fn redirects_that_go_round_or_nowhere_end() {
    let (_folder, fake, images) = world(|_| {}).await;
    for _ in 0..6 {
        fake.fault("/manifests/", answer(302, "location", "/v2/a/manifests/1"));
    }
    let round = pulled(&images, &fake.name("a:1")).await.expect_err("round");
    fake.fault("/manifests/", answer(302, "x-nothing", "y"));
    let nowhere = pulled(&images, &fake.name("a:1")).await.expect_err("nowhere");

    assert!(round.to_string().contains("too often"), "{round}");
    assert!(nowhere.to_string().contains("to nowhere"), "{nowhere}");
}

#[tokio::test]
async fn a_login_goes_to_its_registry_and_not_along_with_a_redirect() {
    let other = Fake::start().await;
    let (_folder, fake, images) = world(|options| options.plain_http.push(other.address.to_string())).await;
    drop(images);
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = options(folder.path(), &fake.address.to_string());
    options.plain_http.push(other.address.to_string());
    let registry = fake.address.to_string();
    options.credentials = vec![Credential { registry, user: "ada".to_owned(), password: Secret::new("s:1") }];
    let images = Images::open(options).expect("opened");
    fake.wants_login("Basic YWRhOnM6MQ==", r#"Basic realm="here""#);
    other.put("/elsewhere", "x", layer().blob);
    let path = layer_path();
    // The first request is one of the config, which is logged in by then.
    pulled(&images, &fake.name("b:1")).await.expect_err("not there");
    fake.fault(&path, answer(307, "location", &format!("http://{}/elsewhere", other.address)));

    pulled(&images, &fake.name("a:1")).await.expect("pulled");

    let logins: Vec<Option<String>> = other.seen("/elsewhere").into_iter().map(|seen| seen.login).collect();
    assert_eq!(logins, [None]);
    assert!(fake.seen(&path).iter().all(|seen| seen.login.is_some()));
}

#[tokio::test]
async fn a_token_is_fetched_with_the_login_and_used_until_it_runs_out() {
    let (folder, fake, _) = world(|_| {}).await;
    let token_server = Fake::start().await;
    let mut options = options(&folder.path().join("other"), &fake.address.to_string());
    options.plain_http.push(token_server.address.to_string());
    let login = |registry: &str| Credential {
        registry: registry.to_owned(),
        user: "ada".to_owned(),
        password: Secret::new("s:1"),
    };
    options.credentials = vec![login("elsewhere.example.com"), login(&fake.address.to_string())];
    let images = Images::open(options).expect("opened");
    let challenge =
        format!(r#"Bearer realm="http://{}/token",service="s",scope="repository:*:*""#, token_server.address);
    let path = "/token?service=s&scope=repository%3Aa%3Apull";
    token_server.put(path, "application/json", r#"{"token": "first"}"#);
    fake.wants_login("Bearer first", &challenge);
    images.resolve(&crate::reference(&fake.name("a:1"))).await.expect("resolved");
    token_server.put(path, "application/json", r#"{"access_token": "second"}"#);
    fake.wants_login("Bearer second", &challenge);

    pulled(&images, &fake.name("a:1")).await.expect("pulled");

    let asked = token_server.seen("/");
    assert_eq!(asked.len(), 2);
    assert!(
        asked.iter().all(|seen| seen.path == path && seen.login.as_deref() == Some("Basic YWRhOnM6MQ==")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_token_server_is_no_way_into_the_network_and_its_nonsense_is_refused() {
    let (_folder, fake, images) = world(|_| {}).await;
    let inner = Fake::start().await;
    for (realm, words) in [
        (format!("http://{}/token", inner.address), "without TLS"),
        ("https://169.254.169.254/token".to_owned(), "not public"),
        (format!("https://localhost:{}/token", inner.address.port()), "not public"),
        (format!("http://{}/nonsense", fake.address), "no token"),
        (format!("http://{}/absent", fake.address), "needs a login"),
    ] {
        fake.wants_login("Bearer x", &format!(r#"Bearer realm="{realm}""#));
        let query = "?scope=repository%3Aa%3Apull";
        fake.put(&format!("/nonsense{query}"), "application/json", r#"{"token": "a\r\nb: c"}"#);

        let error = pulled(&images, &fake.name("a:1")).await.expect_err(&realm);

        assert!(error.to_string().contains(words), "{realm}: {error}");
    }
    assert_eq!(inner.seen("/").len(), 0);
}

#[tokio::test]
async fn a_registry_that_wants_a_login_there_is_none_for_says_so() {
    let (_folder, fake, images) = world(|_| {}).await;
    fake.wants_login("Basic x", r#"Basic realm="here""#);

    let error = pulled(&images, &fake.name("a:1")).await.expect_err("no login");

    assert!(error.to_string().contains("needs a login: authentication required"), "{error}");
}
