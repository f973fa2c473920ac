//! The names by which a node may be asked over HTTP.
//!
//! An attack by DNS rebinding works like this: the page of any site lets its own name point at this host, and then
//! reads with its visitor's browser what is served here. The browser says by which name it asks, so names that nobody
//! gave to this node are refused. An address belongs to no site. Machines ask for health and metrics by all sorts of
//! names, and these say nothing of keys or members.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Paths that are answered whatever the name.
const FOR_EVERY_NAME: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The names of a node. Besides them, all addresses and `localhost` are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// This host's own name, and these names.
    #[must_use]
    pub fn of_this_host<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let system = rustix::system::uname();
        let own = system.nodename().to_string_lossy();
        let names = names.into_iter().map(|name| canonical(name.as_ref()));
        let names = names.chain([canonical(&own)]);
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    /// Whether a host (without its port) is one of the names.
    pub(super) fn has(&self, host: &str) -> bool {
        let name = canonical(host);
        is_address(&name) || name == "localhost" || self.0.contains(&name)
    }
}

/// A name in lower case and without a dot at its end, since names with these are the same.
fn canonical(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

/// Whether a host is an address; IPv6 has brackets, as in front of a port.
fn is_address(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
    }
}

/// Lets requests pass that ask by a name of ours.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let host = match asked_host(request.headers(), request.version(), request.uri()) {
        Ok(host) => host,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    let is_for_every_name = FOR_EVERY_NAME.contains(&request.uri().path());
    match host {
        Some(host) if !is_for_every_name && !hosts.has(&host) => refusal(&host),
        _ => next.run(request).await,
    }
}

fn refusal(host: &str) -> Response {
    let text = format!("{}\n", advice(host));
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// What is said to whoever asks by this host.
pub(super) fn advice(host: &str) -> String {
    format!(
        "{host:?} is no name of this node: ask by its address, or start it with --http-host {host} (RMBD_HTTP_HOST)"
    )
}

/// The host that the request is for (RFC 9112, 3.2), without its port. HTTP/1.0 may leave it out, but no browser
/// does.
pub(super) fn asked_host(
    headers: &HeaderMap,
    version: Version,
    uri: &Uri,
) -> Result<Option<String>, &'static str> {
    let mut fields = headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field),
        (None, _) if version < Version::HTTP_11 => None,
        _ => return Err("a request has one Host header\n"),
    };
    let field = field.map(|field| field.to_str().map_err(|_| BAD_HOST));
    let field = field.transpose()?;
    let host = field.map(host_of).transpose()?;
    // A target in absolute form decides, whatever the header says.
    match uri.authority() {
        Some(authority) => host_of(authority.as_str()).map(Some),
        None => Ok(host),
    }
}

const BAD_HOST: &str = "the Host header is no HOST or HOST:PORT\n";

/// The `HOST` of `HOST` or `HOST:PORT`, which may be empty.
fn host_of(field: &str) -> Result<String, &'static str> {
    if field.is_empty() {
        return Ok(String::new());
    }
    let authority: Authority = field.parse().map_err(|_| BAD_HOST)?;
    let host = authority.host();
    let rest = field.strip_prefix(host).ok_or(BAD_HOST)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
    is_whole.then(|| host.to_owned()).ok_or(BAD_HOST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::Body;
    use proptest::prelude::*;

    use super::*;

    fn hosts() -> Hosts {
        Hosts(["node-1.example", "metrics"].map(str::to_owned).into())
    }

    fn asked(uri: &str, fields: &[&str], version: Version) -> Result<Option<String>, &'static str> {
        let mut request = Request::builder().uri(uri).version(version);
        for field in fields {
            request = request.header(HOST, *field);
        }
        let request = request.body(Body::empty()).unwrap();
        asked_host(request.headers(), request.version(), request.uri())
    }

    #[test]
    fn names_of_this_host_are_taken_as_they_are_written() {
        let own = rustix::system::uname()
            .nodename()
            .to_str()
            .unwrap()
            .to_owned();
        let hosts = Hosts::of_this_host(["Node-1.Example.", ""]);
        for host in [
            own.as_str(),
            "node-1.example",
            "NODE-1.EXAMPLE.",
            "LocalHost.",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(hosts.has(host), "{host}");
        }
        for host in [
            "",
            ".",
            "node-1",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ] {
            assert!(!hosts.has(host), "{host}");
        }
    }

    #[test]
    fn a_request_says_once_for_whom_it_is() {
        let (v11, v10) = (Version::HTTP_11, Version::HTTP_10);
        let host = |host: &str| Ok(Some(host.to_owned()));
        assert_eq!(asked("/", &["a:1"], v11), host("a"));
        assert_eq!(asked("/", &["a"], v10), host("a"));
        assert_eq!(asked("/", &[], v10), Ok(None));
        assert_eq!(asked("/", &[""], v11), host(""));
        assert_eq!(asked("http://b:2/status", &["a"], v11), host("b"));
        for fields in [&[][..], &["a", "a"], &["a", "b"]] {
            assert!(asked("/", fields, v11).is_err(), "{fields:?}");
        }
        assert!(asked("/", &["a", "b"], v10).is_err());
        for field in [
            "a b", "a/b", "user@a", "a:b", "a:1:2", "[::1", "::1", "[::1]x", "http://a", "a:1,b",
        ] {
            assert!(asked("/", &[field], v11).is_err(), "{field}");
        }
    }

    /// Whether a header may pass, by a plainer rule.
    fn oracle(field: &str) -> bool {
        let (host, port) = match field.rfind(']') {
            Some(end) => field.split_at(end + 1),
            None => field.find(':').map_or((field, ""), |at| field.split_at(at)),
        };
        let is_port = match port.as_bytes() {
            [] => true,
            [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        let lower = host.to_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let parts: Vec<&str> = name.split('.').collect();
        let is_byte = |part: &&str| {
            part.parse::<u8>()
                .is_ok_and(|byte| byte.to_string() == **part)
        };
        let is_v4 = parts.len() == 4 && parts.iter().all(is_byte);
        let is_v6 = host.starts_with('[')
            && host.ends_with(']')
            && host[1..host.len() - 1].parse::<Ipv6Addr>().is_ok();
        is_port && (is_v4 || is_v6 || ["localhost", "node-1.example", "metrics"].contains(&name))
    }

    /// Bytes that a header may have.
    fn bytes_of_a_header(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![32u8..127, 128u8..=255];
        proptest::collection::vec(byte, 0..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn exactly_the_names_of_the_node_and_addresses_pass(
            host in prop_oneof![
                "localhost|Localhost|LOCALHOST",
                "node-1\\.example|Node-1\\.EXAMPLE|node-1|metrics|xmetrics|metricsx",
                "(localhost|metrics|127\\.0\\.0\\.1)\\.evil\\.example",
                "[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}",
                "0x7f\\.1|2130706433|127\\.1|0177\\.0\\.0\\.1",
                "\\[(::1|2001:db8::7|::ffff:127\\.0\\.0\\.1|::|fe80::1%25eth0|1|v1\\.a)\\]",
                "[a-z0-9.-]{0,12}",
            ],
            dot in prop_oneof!["", "", "\\.", "\\.\\."],
            port in prop_oneof!["", "", ":", ":80", ":8000", ":99999", ":x", ":80:80", "@evil\\.example"],
        ) {
            let field = format!("{host}{dot}{port}");
            let passes = match asked("/", &[&field], Version::HTTP_11) {
                Ok(host) => hosts().has(&host.unwrap()),
                Err(_) => false,
            };
            prop_assert_eq!(passes, oracle(&field), "{}", field);
        }

        #[test]
        fn no_header_panics(bytes in bytes_of_a_header(40)) {
            let field = axum::http::HeaderValue::from_bytes(&bytes).unwrap();
            let request = Request::builder().header(HOST, field).body(Body::empty()).unwrap();
            let asked = asked_host(request.headers(), request.version(), request.uri());
            if let Ok(Some(host)) = asked {
                hosts().has(&host);
            }
        }
    }
}
