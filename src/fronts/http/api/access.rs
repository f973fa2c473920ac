//! Who may ask the API, and who may do more than count.
//!
//! | asks for | who may |
//! |---|---|
//! | a count, a list of the largest keys without names | everybody on `--allow` |
//! | an add, a hit, a take | of those: loopback and `--trust`, but neither a page nor by way of a proxy; and whoever shows a token |
//! | a list with names | of those: loopback and `--show-keys`, as for `/top`; and whoever shows a token |
//! | a check, which adds by a GET | of those: whoever shows a token |
//!
//! A token that is shown and is none of this node's is refused everywhere. Nobody is answered who asks from the page
//! of a browser, but a check, whose proxy passes the visitor's headers on.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, ORIGIN};

use super::problem::{Kind, Problem};
use super::tokens::Tokens;
use crate::fronts::http::StatusSource;
use crate::fronts::http::orders::is_by_proxy;

/// What browsers say of where a request comes from.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asks<'h> {
    pub(super) ip: Option<IpAddr>,
    pub(super) headers: &'h HeaderMap,
    has_token: bool,
}

impl<'h> Asks<'h> {
    /// Who asks with these headers, if he may ask at all.
    pub(super) fn new(
        source: &dyn StatusSource,
        tokens: &Tokens,
        ip: Option<IpAddr>,
        headers: &'h HeaderMap,
    ) -> Result<Self, Problem> {
        if !ip.is_some_and(|ip| source.may_use(ip)) {
            let detail = "this node's --allow names those who may use it";
            return Err(Problem::new(Kind::NotAllowed, detail));
        }
        Ok(Self {
            ip,
            headers,
            has_token: shows_token(tokens, headers)?,
        })
    }

    /// Refuses pages.
    pub(super) fn check_page(&self) -> Result<(), Problem> {
        let is_page = self.headers.contains_key(ORIGIN)
            || (self.headers.get(SEC_FETCH_SITE)).is_some_and(|site| site != "none");
        match is_page {
            false => Ok(()),
            true => {
                let detail = "a page asks with its visitor's address: let its server ask";
                Err(Problem::new(Kind::Page, detail))
            }
        }
    }

    /// Refuses those who may not add.
    pub(super) fn check_adds(
        &self,
        source: &dyn StatusSource,
        tokens: &Tokens,
    ) -> Result<(), Problem> {
        let is_trusted = self.ip.is_some_and(|ip| source.is_trusted(ip));
        match self.has_token || (is_trusted && !is_by_proxy(self.headers)) {
            true => Ok(()),
            false => Err(self.wants_token(tokens)),
        }
    }

    /// Refuses those who show no token.
    pub(super) fn check_token(&self, tokens: &Tokens) -> Result<(), Problem> {
        match self.has_token {
            true => Ok(()),
            false => Err(self.wants_token(tokens)),
        }
    }

    /// Whether he may see the names of keys.
    pub(super) fn may_see_keys(&self, source: &dyn StatusSource) -> bool {
        let by_proxy = is_by_proxy(self.headers);
        self.has_token || self.ip.is_some_and(|ip| source.may_see_keys(ip, by_proxy))
    }

    fn wants_token(&self, tokens: &Tokens) -> Problem {
        if tokens.is_empty() {
            let detail = "without a token only loopback and the networks of --trust add over HTTP, and not by way of a \
                          proxy: start the node with --http-token-file FILE";
            return Problem::new(Kind::NotTrusted, detail);
        }
        let detail = "send Authorization: Bearer and a token of the node's --http-token-file";
        Problem::new(Kind::NoToken, detail)
    }
}

/// Whether a token of ours is shown. Another one is an error.
fn shows_token(tokens: &Tokens, headers: &HeaderMap) -> Result<bool, Problem> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = shown.next() else {
        return Ok(false);
    };
    let token = bearer(first.as_bytes());
    let is_ours = token.is_some_and(|token| tokens.have(token));
    match is_ours && shown.next().is_none() {
        true => Ok(true),
        false => {
            let detail = "send one Authorization: Bearer, with a token of the node's --http-token-file, or none";
            Err(Problem::new(Kind::WrongToken, detail))
        }
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    is_bearer.then(|| rest.trim_ascii())
}
