//! What we fetch ourselves from a forge: where it may lead, who is sent a login, and how much is taken.

use std::time::Duration;

use carrel_domain::Secret;
use carrel_egress::{Download, Downloaded};
use url::Url;

use crate::world::{OTHER, UP, VALUE, World};

fn wanted<'a>(url: &str, hosts: &'a [String], own: Option<&'a Url>) -> Download<'a> {
    Download {
        url: url.parse().expect("a URL"),
        hosts,
        own,
        login: Some(("ada".to_owned(), Secret::new(VALUE))),
        accept: "text/plain",
        max_bytes: 2000,
        deadline: Duration::from_secs(10),
    }
}

fn text(downloaded: Result<Downloaded, String>) -> String {
    String::from_utf8(downloaded.expect("it arrives").bytes).expect("text")
}

#[tokio::test]
async fn a_listed_host_is_asked_over_tls_and_with_the_login() {
    let world = World::new().await;
    let authority = format!("{UP}:{}", world.secure.port());

    let got =
        world.egress.download(&wanted(&format!("https://{authority}/x"), std::slice::from_ref(&authority), None)).await;

    assert!(text(got).contains("GET"));
    let seen = world.secure.requests();
    assert_eq!((seen.len(), seen[0].path.as_str(), seen[0].authority.as_str()), (1, "/x", authority.as_str()));
    assert!(seen[0].headers["authorization"].to_str().expect("text").starts_with("Basic YWRhOn"));
}

#[tokio::test]
async fn a_host_that_is_not_listed_and_one_without_tls_are_not_asked() {
    let world = World::new().await;
    let hosts = [format!("{UP}:{}", world.plain.port())];

    for url in [
        format!("https://{OTHER}:{}/x", world.secure.port()),
        format!("http://{}/x", hosts[0]),
        format!("https://{UP}/x"),
        "file:///etc/passwd".to_owned(),
    ] {
        let refused = world.egress.download(&wanted(&url, &hosts, None)).await.expect_err("refused");
        assert!(refused.contains("none of the hosts") || refused.contains("no host"), "{url}: {refused}");
    }
    assert_eq!((world.plain.connections(), world.secure.connections()), (0, 0));
}

#[tokio::test]
async fn a_private_address_is_asked_only_where_the_repository_itself_is() {
    let world = World::new().await;
    let authority = format!("127.0.0.1:{}", world.plain.port());
    let own: Url = format!("http://{authority}/acme/api.git").parse().expect("a URL");
    let secure = format!("127.0.0.1:{}", world.secure.port());

    let refused =
        world.egress.download(&wanted(&format!("https://{secure}/x"), std::slice::from_ref(&secure), Some(&own))).await;
    let taken = world.egress.download(&wanted(&format!("http://{authority}/x"), &[], Some(&own))).await;

    let refused = refused.expect_err("refused");
    assert!(refused.contains("of the machine itself") || refused.contains("this machine's own"), "{refused}");
    assert!(text(taken).contains("GET"));
    assert_eq!(world.secure.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_leads_elsewhere_or_is_too_long_is_not_taken() {
    let world = World::new().await;
    let own: Url = format!("http://127.0.0.1:{}/", world.plain.port()).parse().expect("a URL");
    let at = |path: &str| wanted(own.join(path).expect("a URL").as_str(), &[], Some(&own));

    let elsewhere = world.egress.download(&at("/redirect")).await.expect_err("refused");
    let long = world.egress.download(&at("/big")).await.expect_err("refused");

    assert!(elsewhere.contains("none of the hosts") || elsewhere.contains("more than"), "{elsewhere}");
    assert!(long.contains("longer than 2000 bytes"), "{long}");
}

#[tokio::test]
async fn nobody_leads_to_the_repositorys_own_server_but_itself() {
    let world = World::new().await;
    let (plain, secure) = (format!("127.0.0.1:{}", world.plain.port()), format!("{UP}:{}", world.secure.port()));
    let own: Url = format!("http://{plain}/").parse().expect("a URL");
    let led = format!("https://{secure}/redirect?http://{plain}/admin");
    let itself = format!("http://{plain}/redirect?http://{plain}/x");

    let refused = world.egress.download(&wanted(&led, std::slice::from_ref(&secure), Some(&own))).await;
    let asked = world.plain.requests().len();
    let taken = world.egress.download(&wanted(&itself, &[], Some(&own))).await;

    let refused = refused.expect_err("refused");
    assert!(refused.contains("none of the hosts"), "{refused}");
    assert_eq!(asked, 0);
    assert!(text(taken).contains("GET"));
}
