//! What a server says over HTTP.

use std::fmt::Write as _;
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;
use ureq::http::StatusCode;
use ureq::http::header::HOST;

use crate::config::HostPort;
use crate::node::status::{Detail, Status};

/// Why there is no document.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No answer over HTTP.
    #[error(
        "no answer from http://{server}{path} ({source}): is the server up, and its HTTP at this address (see its --http)?"
    )]
    Unreachable {
        /// Who was asked.
        server: HostPort,
        /// For what.
        path: &'static str,
        /// What happened.
        source: Box<ureq::Error>,
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
    agent: ureq::Agent,
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
            agent: config.new_agent(),
        }
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
        let unreachable = |source| HttpError::Unreachable {
            server: server(),
            path,
            source: Box::new(source),
        };
        let url = format!("http://{}{path}{query}", self.server);
        let mut response = self.agent.get(&url).call().map_err(unreachable)?;
        if response.status() == StatusCode::MISDIRECTED_REQUEST {
            // It does not know the name that we have for it. That is meant for browsers, which could not say this.
            let request = self.agent.get(&url).header(HOST, "localhost");
            response = request.call().map_err(unreachable)?;
        }
        if response.status() != 200 {
            return Err(HttpError::Code {
                server: server(),
                path,
                code: response.status().as_u16(),
            });
        }
        let document = response.body_mut().read_to_string().map_err(unreachable)?;
        let parsed = serde_json::from_str(&document).map_err(|source| HttpError::Content {
            server: server(),
            path,
            source,
        })?;
        Ok((document, parsed))
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
