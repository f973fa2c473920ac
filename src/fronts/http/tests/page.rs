//! Tests that the page loads nothing from elsewhere.

use base64::Engine;
use sha2::{Digest, Sha256};

use super::*;

#[test]
fn the_page_may_run_its_own_script_and_nothing_else() {
    let answer = Server::start().get("/");
    let (script, style) = (sha256("script"), sha256("style"));
    let expected = format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    assert_eq!(
        answer.header("content-security-policy"),
        expected,
        "put these into PAGE_POLICY"
    );
}

/// Base64 of the hash of the page's only element of that name, as a browser computes it.
fn sha256(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    assert_eq!(PAGE.matches(&open).count(), 1);
    let text = PAGE
        .split_once(&open)
        .unwrap()
        .1
        .split_once(&close)
        .unwrap()
        .0;
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text))
}

#[test]
fn the_page_loads_nothing_and_writes_no_markup() {
    let without_namespace = PAGE.replace("http://www.w3.org/2000/svg", "");
    for forbidden in [
        "http:",
        "https:",
        "src=",
        "@import",
        "url(",
        " style=",
        " onclick=",
        " onload=",
    ] {
        assert!(!without_namespace.contains(forbidden), "{forbidden}");
    }
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!PAGE.contains(sink), "{sink}");
    }
}
