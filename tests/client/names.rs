//! Tests of servers by name, with all clients, and all ways in which the addresses of a name can be wrong or change.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmbd::node::Node;
use rmbd_client::{Asked, ClientError, Fate, Server, legacy};
use rmbd_client::{AsyncClient, Client, ClientOptions};
use rmbd_names::{HostPort, Resolver};
use tokio::runtime::Runtime;

use crate::node;
use rmbd_testkit::proxy::{Harm, Proxy};

/// The timeout. An address may stay silent for a third of it.
const TIMEOUT: Duration = Duration::from_secs(6);
const OPTIONS: ClientOptions = ClientOptions {
    timeout: TIMEOUT,
    linger: Duration::ZERO,
};

/// A name in a hosts database for the test.
#[derive(Clone)]
struct Name(Arc<Mutex<Option<Vec<SocketAddr>>>>);

impl Name {
    fn new(addresses: &[SocketAddr]) -> Self {
        Self(Arc::new(Mutex::new(Some(addresses.to_vec()))))
    }

    fn lead_to(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = Some(addresses.to_vec());
    }

    /// Makes the name unknown.
    fn forget(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn server(&self) -> Server {
        let name = self.clone();
        let resolver = Resolver::new(move |asked: &HostPort| {
            assert_eq!(asked.to_string(), "counts.internal:7");
            let known = name.0.lock().unwrap().clone();
            known.ok_or_else(|| std::io::Error::other("try again"))
        });
        Server::from("counts.internal:7").resolved_by(resolver)
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Blocking,
    Asynchronous,
    Legacy,
}

const KINDS: [Kind; 3] = [Kind::Blocking, Kind::Asynchronous, Kind::Legacy];

enum Any {
    Blocking(Box<Client>),
    Asynchronous(Runtime, AsyncClient),
    Legacy(Box<legacy::Client>),
}

impl Any {
    fn connect(kind: Kind, server: Server) -> Result<Self, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        Ok(match kind {
            Kind::Blocking => {
                let client = Client::connect(server, OPTIONS).map_err(|e| text(&e))?;
                Self::Blocking(Box::new(client))
            }
            Kind::Asynchronous => {
                let runtime = runtime();
                let client = runtime.block_on(AsyncClient::connect(server, OPTIONS));
                Self::Asynchronous(runtime, client.map_err(|e| text(&e))?)
            }
            Kind::Legacy => {
                let options = legacy::ClientOptions {
                    timeout: TIMEOUT / 3,
                    ..legacy::ClientOptions::default()
                };
                let client = legacy::Client::connect(server, options).map_err(|e| text(&e))?;
                Self::Legacy(Box::new(client))
            }
        })
    }

    fn count(&mut self) -> Result<u64, String> {
        match self {
            Self::Blocking(client) => {
                let count = client.count("key").map_err(|e| e.to_string())?;
                Ok(count.estimate)
            }
            Self::Asynchronous(runtime, client) => {
                let count = runtime.block_on(client.count("key"));
                Ok(count.map_err(|e| e.to_string())?.estimate)
            }
            Self::Legacy(client) => client.count("key").map_err(|e| e.to_string()),
        }
    }

    fn server(&self) -> SocketAddr {
        match self {
            Self::Blocking(client) => client.server(),
            Self::Asynchronous(_, client) => client.server(),
            Self::Legacy(client) => client.server(),
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// A node that has counted the key with this weight.
fn counted(weight: u32) -> Node {
    let node = node();
    node.add(b"key", weight).unwrap();
    node
}

/// A socket that hears only itself, at an address where the kernel refuses all senders.
fn refusing() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    socket
}

fn silent() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn at(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

#[test]
fn all_addresses_are_tried_whatever_is_wrong_with_the_first_ones() {
    let (refusing, silent, node) = (refusing(), silent(), counted(7));
    let (dead, mute, good) = (at(&refusing), at(&silent), node.udp_addr());
    for kind in KINDS {
        for addresses in [
            &[good][..],
            &[good, dead],
            &[dead, good],
            &[dead, dead, good, mute],
            &[mute, good],
        ] {
            let mut client = Any::connect(kind, Name::new(addresses).server()).unwrap();
            assert_eq!(client.count(), Ok(7), "{kind:?} {addresses:?}");
            assert_eq!(client.server(), good);
        }
    }
}

#[test]
fn nobody_at_any_address_and_no_address_are_said_with_the_name() {
    let (one, other) = (refusing(), refusing());
    for kind in KINDS {
        let name = Name::new(&[at(&one), at(&other)]);
        let text = Any::connect(kind, name.server()).err().unwrap();
        for expected in [
            "counts.internal:7".to_owned(),
            format!("no server at {}", at(&one)),
            format!("no server at {}", at(&other)),
        ] {
            assert!(text.contains(&expected), "{kind:?}: {text}");
        }
        name.forget();
        let text = Any::connect(kind, name.server()).err().unwrap();
        assert!(
            text.contains("cannot look up counts.internal:7: try again"),
            "{text}"
        );
        let text = Any::connect(kind, "nowhere".into()).err().unwrap();
        assert!(
            text.contains("nowhere") && text.contains("no port"),
            "{text}"
        );
    }
}

#[test]
fn a_server_that_moves_is_followed_by_what_can_be_asked_again() {
    for kind in KINDS {
        let (first, second) = (counted(7), counted(8));
        let name = Name::new(&[first.udp_addr()]);
        let mut client = Any::connect(kind, name.server()).unwrap();
        assert_eq!(client.count(), Ok(7));
        // The node is gone with its socket, so the kernel refuses datagrams.
        first.stop().unwrap();
        name.lead_to(&[second.udp_addr()]);
        assert_eq!(client.count(), Ok(8), "{kind:?}");
        // The node is gone with its machine, so it is silent.
        let proxy = Proxy::both_ways(second.udp_addr(), Harm::NONE, 1);
        let name = Name::new(&[proxy.address()]);
        let mut client = Any::connect(kind, name.server()).unwrap();
        assert_eq!(client.count(), Ok(8));
        proxy.close();
        let third = counted(9);
        name.lead_to(&[third.udp_addr()]);
        assert_eq!(client.count(), Ok(9), "{kind:?}");
        assert_eq!(client.server(), third.udp_addr());
    }
}

#[test]
fn a_resolver_that_fails_for_a_while_is_named_and_asked_again() {
    for kind in KINDS {
        let (first, second) = (counted(7), counted(8));
        let name = Name::new(&[first.udp_addr()]);
        let mut client = Any::connect(kind, name.server()).unwrap();
        assert_eq!(client.count(), Ok(7));
        name.forget();
        assert_eq!(client.count(), Ok(7), "nobody asks while all is well");
        let address = first.udp_addr();
        first.stop().unwrap();
        let text = client.count().unwrap_err();
        assert!(text.contains(&format!("at {address}")), "{kind:?}: {text}");
        assert!(
            text.contains("cannot look up counts.internal:7: try again"),
            "{text}"
        );
        name.lead_to(&[second.udp_addr()]);
        assert_eq!(client.count(), Ok(8), "{kind:?}");
    }
}

#[test]
fn an_add_whose_fate_is_uncertain_never_goes_to_another_node() {
    for through_async in [false, true] {
        let (first, second) = (node(), node());
        let proxy = Proxy::both_ways(first.udp_addr(), Harm::NONE, 1);
        let name = Name::new(&[proxy.address()]);
        let mut blocking = Client::connect(name.server(), OPTIONS).unwrap();
        let runtime = runtime();
        let asynchronous = runtime
            .block_on(AsyncClient::connect(name.server(), OPTIONS))
            .unwrap();
        let mut add = |key: &str, weight| match through_async {
            true => runtime.block_on(asynchronous.add(key, weight)),
            false => blocking.add(key, weight),
        };
        // The boot is known now, so that the next add goes out at once.
        add("warm", 1).unwrap();
        name.lead_to(&[second.udp_addr()]);
        proxy.close();
        let error = add("doubtful", 5).unwrap_err();
        assert_eq!(error.fate(), Fate::Uncertain, "{error}");
        let ClientError::Timeout { server, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(server.tried(), [proxy.address()]);
        // Adds that were never sent go to the address that the name has now.
        add("new", 3).unwrap();
        let status = second.stop().unwrap();
        assert_eq!(status.sketch.total_weight, 3, "{through_async}");
        drop(proxy);
        first.stop().unwrap();
    }
}

/// While adds are under way nothing goes to another node. Adds that wait for their turn are not sent to the silent
/// one.
#[test]
fn many_adds_that_a_move_cuts_in_two_are_all_accounted_for() {
    let (first, second) = (node(), node());
    let proxy = Proxy::both_ways(first.udp_addr(), Harm::NONE, 1);
    let name = Name::new(&[proxy.address()]);
    let mut client = Client::connect(name.server(), OPTIONS).unwrap();
    client.add("key", 1).unwrap();
    let adds = (0..2_000_000).map(|n| {
        if n == 500_000 {
            name.lead_to(&[second.udp_addr()]);
            proxy.close();
        }
        ("key", 1)
    });
    let error = client.add_many(adds).unwrap_err();
    let ClientError::Adds { report, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        report.confirmed > 0 && report.uncertain_adds() > 0,
        "{error}"
    );
    let counted = first.status().sketch.total_weight;
    assert!(counted > report.confirmed, "{error}");
    let most = 1 + report.confirmed + report.uncertain_adds();
    assert!(counted <= most, "{error}");
    let elsewhere = second.status().sketch.total_weight;
    assert_eq!(elsewhere, 0, "nothing is sent twice");
    client.add("key", 2).unwrap();
    assert_eq!(second.stop().unwrap().sketch.total_weight, 2);
}

#[test]
fn whom_an_error_names() {
    let address: SocketAddr = ([127, 0, 0, 1], 7).into();
    let asked = Asked::from(address);
    assert_eq!(
        (asked.to_string(), asked.address()),
        ("127.0.0.1:7".to_owned(), Some(address))
    );
    assert!(asked.lookup().is_none());
}
