//! What a server says over HTTP.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;
use ureq::Body;
use ureq::http::header::HOST;
use ureq::http::{Response, StatusCode};

use crate::status::{Detail, Status};
use rmbd_names::{HostPort, LookupError, Resolver};

/// Why there is no document.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The server's name cannot be looked up.
    #[error("{0}; nothing was asked: check the server's name, or use an address")]
    Lookup(#[from] LookupError),
    /// No answer over HTTP, at any address.
    #[error(
        "no answer from http://{server}{path} ({}): is the server up, and its HTTP at this address (see its --http)?",
        listed(causes)
    )]
    Unreachable {
        /// Who was asked.
        server: HostPort,
        /// For what.
        path: &'static str,
        /// What happened at each address.
        causes: Vec<(SocketAddr, ureq::Error)>,
    },
    /// An answer, but not the document.
    #[error("http://{server}{path} answers with {code}: is it rmbd, of this version?")]
    Code {
        /// Who was asked.
        server: HostPort,
        /// For what.
        path: &'static str,
        /// Code of the answer.
        code: u16,
    },
    /// Something else than the document.
    #[error("http://{server}{path} is not understood ({source}): is it rmbd, of this version?")]
    Content {
        /// Who was asked.
        server: HostPort,
        /// For what.
        path: &'static str,
        /// What was found.
        source: serde_json::Error,
    },
}

/// Asks one server for its status.
pub(super) struct StatusSource {
    server: HostPort,
    /// The address that has answered, or is to be asked: of many nodes with one name, always the same.
    at: Cell<Option<SocketAddr>>,
    agent: ureq::Agent,
}

fn listed(causes: &[(SocketAddr, ureq::Error)]) -> String {
    let several = causes.len() > 1;
    let text = causes.iter().map(|(address, cause)| match several {
        true => format!("{address}: {cause}"),
        false => cause.to_string(),
    });
    text.collect::<Vec<_>>().join("; ")
}

impl StatusSource {
    pub(super) fn new(server: &HostPort, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            // A proxy is for the web; this is a neighbour.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        Self {
            server: server.clone(),
            at: Cell::new(None),
            agent: config.new_agent(),
        }
    }

    /// Asks at this address, not at the first of the name's that answers.
    pub(super) fn at(self, address: SocketAddr) -> Self {
        self.at.set(Some(address));
        self
    }

    /// The document as it came, known to be one.
    pub(super) fn document(&self) -> Result<(String, Status), HttpError> {
        self.get("/status", "")
    }

    pub(super) fn status(&self) -> Result<Status, HttpError> {
        self.document().map(|(_, status)| status)
    }

    /// A key's count by origin.
    pub(super) fn detail(&self, key: &[u8]) -> Result<Detail, HttpError> {
        let query = format!("?key={}", percent_encoded(key));
        self.get("/detail", &query).map(|(_, detail)| detail)
    }

    fn get<T: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &str,
    ) -> Result<(String, T), HttpError> {
        let server = || self.server.clone();
        let mut response = self.ask(path, query)?;
        if response.status() != 200 {
            return Err(HttpError::Code {
                server: server(),
                path,
                code: response.status().as_u16(),
            });
        }
        let document = response.body_mut().read_to_string();
        let document = document.map_err(|cause| HttpError::Unreachable {
            server: server(),
            path,
            causes: self.at.get().map(|at| (at, cause)).into_iter().collect(),
        })?;
        let parsed = serde_json::from_str(&document).map_err(|source| HttpError::Content {
            server: server(),
            path,
            source,
        })?;
        Ok((document, parsed))
    }

    /// The first of the name's addresses that answers at all.
    fn ask(&self, path: &'static str, query: &str) -> Result<Response<Body>, HttpError> {
        let addresses = match self.at.get() {
            Some(address) => vec![address],
            None => Resolver::default().look_up(&self.server)?,
        };
        let mut causes = Vec::new();
        for address in addresses {
            let url = format!("http://{address}{path}{query}");
            match self.ask_at(&url) {
                Ok(response) => {
                    self.at.set(Some(address));
                    return Ok(response);
                }
                Err(cause) => causes.push((address, cause)),
            }
        }
        Err(HttpError::Unreachable {
            server: self.server.clone(),
            path,
            causes,
        })
    }

    fn ask_at(&self, url: &str) -> Result<Response<Body>, ureq::Error> {
        let response = self.agent.get(url).call()?;
        if response.status() != StatusCode::MISDIRECTED_REQUEST {
            return Ok(response);
        }
        // It does not know the name that we have for it. That is meant for browsers, which could not say this.
        self.agent.get(url).header(HOST, "localhost").call()
    }
}

/// All bytes but letters and digits as `%` and two hexadecimal digits (RFC 3986, 2.1).
fn percent_encoded(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len() * 3);
    for &byte in key {
        if byte.is_ascii_alphanumeric() {
            text.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}
