//! Nobody gets anything without proving who they are, and no foreign page gets a word in.

use carrel_testkit::model::Reply;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::{CARREL, World, says};

async fn world() -> World {
    World::new(CARREL, says([Reply::message("unused")])).await
}

#[tokio::test]
async fn every_route_of_the_description_but_signing_in_wants_a_proof() {
    let world = world().await;
    let http = Client::new();
    let base = format!("{}/api/v1", world.url());
    let document: Value =
        http.get(format!("{base}/openapi.json")).send().await.expect("open").json().await.expect("JSON");

    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let path = path.replace("{id}", "0198c1de-7a3b-7c4e-9d5f-0123456789ab");
            for token in [None, Some("carrel_guess"), Some("")] {
                let request = http.request(method.clone(), format!("{base}{path}")).json(&json!({}));
                let request = match token {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                };
                let status = request.send().await.expect("an answer").status();
                let expected = match (method.as_str(), path.as_str()) {
                    ("POST", "/sessions") => StatusCode::UNPROCESSABLE_ENTITY,
                    // It says no more than that nobody is signed in, which the next test looks at.
                    ("GET", "/sessions/current") => StatusCode::OK,
                    _ => StatusCode::UNAUTHORIZED,
                };
                assert_eq!(status, expected, "{method} {path} with {token:?}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 30, "{asked} requests");
    for open in ["/healthz", "/readyz"] {
        assert_eq!(http.get(format!("{}{open}", world.url())).send().await.expect("open").status(), 200);
    }
}

#[tokio::test]
async fn to_be_signed_out_is_no_error_to_a_page_that_asks() {
    let world = world().await;
    let url = format!("{}/api/v1/sessions/current", world.url());
    let ask = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };

    let nobody = ask(Client::new().get(&url)).await;
    let token = ask(Client::new().get(&url).bearer_auth(world.token())).await;
    let guess = ask(Client::new().get(&url).header("cookie", "carrel_session=guess")).await;
    let browser = sign_in(&world).await;
    let somebody = ask(Client::new().get(&url).header("cookie", browser)).await;

    for answer in [nobody, token, guess] {
        assert_eq!(answer, (StatusCode::OK, Value::Null));
    }
    assert!(somebody.0 == StatusCode::OK && somebody.1["user"]["name"].is_string(), "{somebody:?}");
}

/// Signs a browser in and gives the cookie it gets.
async fn sign_in(world: &World) -> String {
    let link = world.json(&["owner-link"]).await["url"].as_str().expect("a URL").to_owned();
    let (_, secret) = link.split_once('#').expect("the secret stands behind it");
    let request = Client::new().post(format!("{}/api/v1/sessions", world.url())).header("origin", world.url());
    let answer = request.json(&json!({"owner_link": secret})).send().await.expect("an answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().expect("its name and value").to_owned()
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused_even_with_a_token() {
    let world = world().await;
    let http = Client::new();
    let me = format!("{}/api/v1/me", world.url());
    let links = format!("{}/api/v1/owner-links", world.url());

    let foreign =
        http.get(&me).bearer_auth(world.token()).header("host", "evil.example").send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(foreign.headers()["content-type"], "application/problem+json");
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let request = http.post(&links).bearer_auth(world.token()).header("origin", origin);
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::FORBIDDEN, "{origin}");
    }
    let own = http.post(&links).bearer_auth(world.token()).header("origin", world.url());
    assert_eq!(own.send().await.expect("an answer").status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_owner_link_signs_one_browser_in_and_its_cookie_changes_nothing_from_elsewhere() {
    let world = world().await;
    let http = Client::new();
    let api = format!("{}/api/v1", world.url());
    let link = world.carrel(&["owner-link"]).await.stdout;
    let secret = link.trim().rsplit('#').next().expect("a secret").to_owned();
    let sign_in = || http.post(format!("{api}/sessions")).json(&json!({"owner_link": secret}));

    assert_eq!(sign_in().send().await.expect("an answer").status(), StatusCode::FORBIDDEN, "no origin");
    let signed = sign_in().header("origin", world.url()).send().await.expect("an answer");
    assert_eq!(signed.status(), StatusCode::CREATED);
    let cookie = signed.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let again = sign_in().header("origin", world.url()).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);

    let get = http.get(format!("{api}/me")).header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(get.status(), 200);
    let post = || http.post(format!("{api}/owner-links")).header("cookie", &cookie);
    assert_eq!(post().send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    let foreign = post().header("origin", "https://evil.example").send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert_eq!(post().header("origin", world.url()).send().await.expect("an answer").status(), StatusCode::CREATED);

    let out = http.delete(format!("{api}/sessions/current")).header("cookie", &cookie).header("origin", world.url());
    assert_eq!(out.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    let after = http.get(format!("{api}/me")).header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(after.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_is_taken_up_where_it_broke() {
    let world = World::new(CARREL, crate::mends()).await;
    let repository = world.repository("api", crate::FILES);
    let task = world.run(&repository, "Mend the check").await;
    let id = task["id"].as_str().expect("an id");
    let all = world.events(id).await;
    let url = format!("{}/api/v1/tasks/{id}/events", world.url());

    let stream = Client::new().get(&url).bearer_auth(world.token()).header("accept", "text/event-stream");
    let mut answer = stream.header("last-event-id", "5").send().await.expect("an answer");

    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while text.matches("\nid: ").count() + usize::from(text.starts_with("id: ")) < all.len() - 5 {
        let chunk = answer.chunk().await.expect("the stream goes on").expect("it has not ended");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!text.contains("\"seq\":5,") && text.contains("\"seq\":6,"), "{text}");
}

#[tokio::test]
async fn the_files_of_the_service_are_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = world().await;
    let mode =
        |name: &str| std::fs::metadata(world.data().join(name)).expect("it is there").permissions().mode() & 0o777;

    assert_eq!(mode(""), 0o700);
    assert_eq!(mode("token"), 0o600);
    assert_eq!(mode("carrel.sqlite"), 0o600);
}
