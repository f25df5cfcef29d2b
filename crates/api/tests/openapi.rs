//! The checked-in description is the one the routes make.

#[test]
fn the_checked_in_description_is_up_to_date() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let checked_in = std::fs::read_to_string(file).expect("docs/openapi.json is checked in");

    let made = serde_json::to_string_pretty(&carrel_api::openapi()).expect("a description is plain data");

    assert!(checked_in.trim_end() == made, "the routes have changed: run `cargo xtask openapi`");
}

#[test]
fn every_operation_is_described_and_says_how_it_fails() {
    let document = serde_json::to_value(carrel_api::openapi()).expect("plain data");

    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let shown = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{shown}");
            assert!(operation["operationId"].is_string(), "{shown}");
            if operation["security"] == serde_json::json!([{}]) && method == "get" {
                // Whoever asks gets an answer.
                assert_eq!(path, "/sessions/current");
                continue;
            }
            let unauthorized = &operation["responses"]["401"]["content"];
            assert!(unauthorized["application/problem+json"].is_object(), "{shown}: {unauthorized}");
        }
    }
}
