//! Documents that a server gives over HTTP.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use thiserror::Error;
use ureq::Body;
use ureq::http::header::HOST;
use ureq::http::{Response, StatusCode};

use super::asked::Span;
use super::status::printable;
use crate::status::{DeniedDocument, Detail, PendingSnapshotOrder, SnapshotOrder, Status};
use rmbd_names::{HostPort, LookupError, Resolver};
use rmbd_proto::SketchName;

/// The path of a key's count by origin.
const DETAIL_PATH: &str = "/detail";
/// The path of the keys that limits deny.
const DENIED_PATH: &str = "/denied";
/// The path of orders to write a snapshot file.
const SNAPSHOT_PATH: &str = "/snapshot";
/// How long a server may take to carry an order out before it answers with a number: longer than it takes by itself.
const ORDER_PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no document.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The server's name cannot be looked up.
    #[error("{0}; nothing was asked: check the server's name, or use an address")]
    Lookup(#[from] LookupError),
    /// No address of the server answered over HTTP.
    #[error(
        "no answer from http://{server}{path} ({}): is the server up, and its HTTP at this address (see its --http)?",
        listed(causes)
    )]
    Unreachable {
        /// The server that was asked.
        server: HostPort,
        /// The path that was asked for.
        path: &'static str,
        /// The error of each address.
        causes: Vec<(SocketAddr, ureq::Error)>,
    },
    /// The server answered with an error code.
    #[error("http://{server}{path} answers with {code}: is it rmbd, of this version?")]
    Code {
        /// The server that was asked.
        server: HostPort,
        /// The path that was asked for.
        path: &'static str,
        /// The HTTP code of the answer.
        code: u16,
    },
    /// The server has nothing of what was asked for.
    #[error("http://{server}{path} refuses: {reason}")]
    Refused {
        /// The server that was asked.
        server: HostPort,
        /// The path that was asked for.
        path: &'static str,
        /// The server's reason.
        reason: String,
    },
    /// The answer is not the document.
    #[error("http://{server}{path} is not understood ({source}): is it rmbd, of this version?")]
    Content {
        /// The server that was asked.
        server: HostPort,
        /// The path that was asked for.
        path: &'static str,
        /// The error of the parser.
        source: serde_json::Error,
    },
}

/// What a server says to an order to write a snapshot file.
#[derive(Debug)]
pub(super) enum Ordered {
    Done(SnapshotOrder),
    /// It takes long, and has this number.
    Pending(u64),
}

/// A client of one server's HTTP port.
pub(super) struct StatusSource {
    server: HostPort,
    /// The address that has answered, or is to be asked. If a name leads to many nodes, this stays the same.
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
            // A proxy is for the web, and this server is near.
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

    /// Asks at this address, not at the first of the name's addresses that answers.
    pub(super) fn at(self, address: SocketAddr) -> Self {
        self.at.set(Some(address));
        self
    }

    /// The text of the status as it came, and its content.
    pub(super) fn document(&self) -> Result<(String, Status), HttpError> {
        self.get("/status", "")
    }

    pub(super) fn status(&self) -> Result<Status, HttpError> {
        self.document().map(|(_, status)| status)
    }

    /// A key's count by origin, in a sketch other than `default` where one is named, and in a window where one is.
    pub(super) fn detail(
        &self,
        key: &[u8],
        sketch: Option<&SketchName>,
        window: Option<Span>,
    ) -> Result<Detail, HttpError> {
        let mut query = format!("?key={}", percent_encoded(key));
        // Writing to a string cannot fail.
        if let Some(sketch) = sketch {
            let _ = write!(query, "&sketch={sketch}");
        }
        if let Some(Span { ms }) = window {
            let _ = write!(query, "&window={ms}ms");
        }
        self.get(DETAIL_PATH, &query).map(|(_, detail)| detail)
    }

    /// The keys that a limit, or all of them, denied most often, at most so many of each: as it came, and its content.
    pub(super) fn denied(
        &self,
        limit: Option<&str>,
        keys: u8,
    ) -> Result<(String, DeniedDocument), HttpError> {
        let mut query = format!("?k={keys}");
        if let Some(limit) = limit {
            // Writing to a string cannot fail.
            let _ = write!(query, "&limit={}", percent_encoded(limit.as_bytes()));
        }
        self.get(DENIED_PATH, &query)
    }

    /// Has a snapshot file written, and waits for it.
    pub(super) fn order_snapshot(&self) -> Result<Ordered, HttpError> {
        let path = SNAPSHOT_PATH;
        let mut response = self.ask(Method::Post, path, "")?;
        let code = response.status();
        let is_told = code == StatusCode::OK || code == StatusCode::INTERNAL_SERVER_ERROR;
        if !is_told && code != StatusCode::ACCEPTED {
            return Err(self.refusal(path, &mut response));
        }
        let document = self.text(path, &mut response)?;
        match code {
            StatusCode::ACCEPTED => {
                let PendingSnapshotOrder { order } = self.parse(path, &document)?;
                Ok(Ordered::Pending(order))
            }
            _ => self.parse(path, &document).map(Ordered::Done),
        }
    }

    fn get<T: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &str,
    ) -> Result<(String, T), HttpError> {
        let mut response = self.ask(Method::Get, path, query)?;
        // Only these paths' answers depend on what is asked for.
        let depends = [DETAIL_PATH, DENIED_PATH].contains(&path);
        if response.status() == StatusCode::NOT_FOUND && depends {
            return Err(self.refusal(path, &mut response));
        }
        if response.status() != StatusCode::OK {
            return Err(self.code(path, &response));
        }
        let document = self.text(path, &mut response)?;
        let parsed = self.parse(path, &document)?;
        Ok((document, parsed))
    }

    fn text(&self, path: &'static str, response: &mut Response<Body>) -> Result<String, HttpError> {
        let document = response.body_mut().read_to_string();
        document.map_err(|cause| HttpError::Unreachable {
            server: self.server.clone(),
            path,
            causes: self.at.get().map(|at| (at, cause)).into_iter().collect(),
        })
    }

    fn parse<T: DeserializeOwned>(
        &self,
        path: &'static str,
        document: &str,
    ) -> Result<T, HttpError> {
        serde_json::from_str(document).map_err(|source| HttpError::Content {
            server: self.server.clone(),
            path,
            source,
        })
    }

    /// The error for an answer that may say why it refuses.
    fn refusal(&self, path: &'static str, response: &mut Response<Body>) -> HttpError {
        let reason = response.body_mut().read_to_string().unwrap_or_default();
        match reason.is_empty() {
            true => self.code(path, response),
            false => HttpError::Refused {
                server: self.server.clone(),
                path,
                reason: printable(reason.trim_end()),
            },
        }
    }

    fn code(&self, path: &'static str, response: &Response<Body>) -> HttpError {
        HttpError::Code {
            server: self.server.clone(),
            path,
            code: response.status().as_u16(),
        }
    }

    /// Asks the name's addresses in turn, until one answers at all.
    fn ask(
        &self,
        method: Method,
        path: &'static str,
        query: &str,
    ) -> Result<Response<Body>, HttpError> {
        let addresses = match self.at.get() {
            Some(address) => vec![address],
            None => Resolver::default().look_up(&self.server)?,
        };
        let mut causes = Vec::new();
        for address in addresses {
            let url = format!("http://{address}{path}{query}");
            match self.ask_at(method, &url) {
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

    fn ask_at(&self, method: Method, url: &str) -> Result<Response<Body>, ureq::Error> {
        let response = self.send(method, url, None)?;
        if response.status() != StatusCode::MISDIRECTED_REQUEST {
            return Ok(response);
        }
        // The server does not know the name by which we ask. The check of names is meant for browsers, which could not
        // set this header.
        self.send(method, url, Some("localhost"))
    }

    fn send(
        &self,
        method: Method,
        url: &str,
        host: Option<&str>,
    ) -> Result<Response<Body>, ureq::Error> {
        match method {
            Method::Get => {
                let request = self.agent.get(url);
                match host {
                    Some(host) => request.header(HOST, host),
                    None => request,
                }
                .call()
            }
            Method::Post => {
                let request = self.agent.post(url);
                let request = match host {
                    Some(host) => request.header(HOST, host),
                    None => request,
                };
                // An order takes as long as it takes.
                let config = request.config().timeout_global(Some(ORDER_PATIENCE));
                config.build().send_empty()
            }
        }
    }
}

/// What a request is to do.
#[derive(Debug, Clone, Copy)]
enum Method {
    Get,
    Post,
}

/// Encodes all bytes but letters and digits as `%` and two hexadecimal digits (RFC 3986, 2.1).
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
