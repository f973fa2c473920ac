//! The description of the API against what it does.

use std::collections::BTreeSet;

use super::*;
use crate::fronts::http::api::problem::Kind;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn the_description_names_all_paths_and_no_others() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut described = BTreeSet::new();
    let api = api();
    for (path, methods) in paths {
        let methods: Vec<_> = methods.as_object().unwrap().keys().collect();
        assert_eq!(methods.len(), 1, "{path}");
        let method = methods[0].to_uppercase();
        let real = path.replace("{sketch}", "default");
        let route = route(&real);
        let route = route.unwrap_or_else(|| panic!("{path} leads nowhere"));
        assert!(super::methods(route).starts_with(&method), "{path}");
        let asked = request(&method, &real).body(Body::empty()).unwrap();
        assert!(
            ![404, 405].contains(&ask(&api, asked, LOOPBACK).code),
            "{path}"
        );
        described.insert(path.clone());
    }
    let operations = Operation::ALL.map(|operation| format!("/v1/{{sketch}}/{}", operation.name()));
    let others = ["/v1/{sketch}/top", "/v1/check", "/v1/openapi.json", "/json"].map(str::to_owned);
    let all: BTreeSet<_> = operations.into_iter().chain(others).collect();
    assert_eq!(described, all);
}

#[test]
fn the_description_names_all_problems() {
    let document = document();
    let types = &document["components"]["schemas"]["Problem"]["properties"]["type"]["examples"];
    let described: BTreeSet<_> = types
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let kinds = Kind::ALL
        .iter()
        .map(|kind| format!("urn:rmbd:problem:{}", kind.name()));
    let all: BTreeSet<_> = kinds.collect();
    assert_eq!(described, all.iter().map(String::as_str).collect());
}

/// What the description gives as examples is understood.
#[test]
fn examples_are_answered() {
    let document = document();
    let api = api();
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let examples = &methods["post"]["requestBody"]["content"]["application/json"]["examples"];
        for (name, example) in examples.as_object().into_iter().flatten() {
            let path = path.replace("{sketch}", "default");
            let told = posted(&api, &path, &example["value"]);
            assert_eq!(told.code, 200, "{path} {name}: {}", told.text);
            tried += 1;
        }
    }
    assert!(tried >= 10, "{tried}");
}
