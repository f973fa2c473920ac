//! The status document of a server.

use std::time::Duration;

use thiserror::Error;

use crate::config::HostPort;
use crate::node::status::Status;

/// Why there is no status document.
#[derive(Debug, Error)]
pub enum HttpError {
    /// No answer over HTTP.
    #[error(
        "no status from http://{server} ({source}): is the server up, and its HTTP at this address (see its --http)?"
    )]
    Unreachable {
        /// Who was asked.
        server: HostPort,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// An answer, but not the document.
    #[error("http://{server}/status answers with {code}, not with a status: is it rmbd?")]
    Code {
        /// Who was asked.
        server: HostPort,
        /// Code of the answer.
        code: u16,
    },
    /// Something else than the document.
    #[error("http://{server}/status is not understood ({source}): is it rmbd, of this version?")]
    Content {
        /// Who was asked.
        server: HostPort,
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
        let unreachable = |source| HttpError::Unreachable {
            server: self.server.clone(),
            source: Box::new(source),
        };
        let url = format!("http://{}/status", self.server);
        let mut response = self.agent.get(url).call().map_err(unreachable)?;
        if response.status() != 200 {
            return Err(HttpError::Code {
                server: self.server.clone(),
                code: response.status().as_u16(),
            });
        }
        let document = response.body_mut().read_to_string().map_err(unreachable)?;
        let status = serde_json::from_str(&document).map_err(|source| HttpError::Content {
            server: self.server.clone(),
            source,
        })?;
        Ok((document, status))
    }

    pub(super) fn status(&self) -> Result<Status, HttpError> {
        self.document().map(|(_, status)| status)
    }
}
