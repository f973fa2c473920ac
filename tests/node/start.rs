//! Tests of starts that succeed, starts that are refused, and that nothing is left behind.

use std::net::{TcpListener, UdpSocket};

use rmbd::config::{HttpChoice, IoChoice, NodeConfig};
use rmbd::node::{Node, NodeError};
use rmbd_io::BindError;
use rmbd_sketch::Geometry;

use crate::support::{BACKENDS, client_of, config, receive};

fn refusal(config: NodeConfig) -> NodeError {
    Node::start(config).map(drop).unwrap_err()
}

#[test]
fn a_second_node_on_the_address_is_refused_and_the_first_serves_on() {
    for io in BACKENDS {
        let first = Node::start(NodeConfig {
            threads: Some(2),
            ..config(io)
        })
        .unwrap();
        let address = first.udp_addr().to_string();
        let wildcard = format!("0.0.0.0:{}", first.udp_addr().port());
        for second in [address, wildcard] {
            let http = HttpChoice::Off;
            let error = refusal(NodeConfig {
                address: second,
                http,
                ..config(io)
            });
            assert!(
                matches!(error, NodeError::Bind(BindError::InUse(_))),
                "{error}"
            );
        }
        let client = client_of(&first);
        client
            .send(&rmbd_proto::legacy::encode_count(b"k"))
            .unwrap();
        assert_eq!(receive(&client).len(), 152);
    }
}

#[test]
fn a_taken_http_port_is_refused_and_the_udp_port_is_free_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let http = HttpChoice::At(address.to_string());
    let error = refusal(NodeConfig {
        http,
        ..config(IoChoice::Mmsg)
    });
    assert!(matches!(error, NodeError::Http { .. }) && error.to_string().contains("--http off"));

    // This includes the number of the UDP port. The failed start must not keep that port.
    let error = refusal(NodeConfig {
        address: address.to_string(),
        ..config(IoChoice::Mmsg)
    });
    assert!(matches!(error, NodeError::Http { .. }), "{error}");
    UdpSocket::bind(address).unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_the_cure() {
    let huge = Geometry::new(1 << 31, 2).unwrap();
    let cases = [
        (
            NodeConfig {
                threads: Some(0),
                ..config(IoChoice::Auto)
            },
            "threads",
        ),
        (
            NodeConfig {
                threads: Some(5000),
                ..config(IoChoice::Auto)
            },
            "threads",
        ),
        (
            NodeConfig {
                address: "no such host:1".into(),
                ..config(IoChoice::Auto)
            },
            "resolve",
        ),
        (
            NodeConfig {
                address: "192.0.2.1:0".into(),
                ..config(IoChoice::Auto)
            },
            "not an address",
        ),
        (
            NodeConfig {
                geometry: huge,
                ..config(IoChoice::Auto)
            },
            "smaller",
        ),
    ];
    for (config, word) in cases {
        if config.geometry == huge && Node::start(config.clone()).is_ok() {
            continue; // a machine with 16 GiB to spare
        }
        let text = refusal(config).to_string();
        assert!(text.contains(word), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn ipv6_and_names_work() {
    for io in BACKENDS {
        for address in ["[::1]:0", "localhost:0", "[::]:0", "0.0.0.0:0"] {
            let node = Node::start(NodeConfig {
                address: address.into(),
                ..config(io)
            })
            .unwrap();
            let host = if address == "[::1]:0" {
                "::1"
            } else {
                "127.0.0.1"
            };
            let mut client = rmbd_client::legacy::Client::connect(
                (host, node.udp_addr().port()),
                rmbd_client::legacy::ClientOptions::default(),
            )
            .unwrap();
            client.add_many(["a", "b", "a"]).unwrap();
            assert_eq!(
                client.count_many(&["a", "b", "c"]).unwrap(),
                [2, 1, 0],
                "{io} {address}"
            );
        }
    }
}

#[test]
fn two_threads_share_one_sketch() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            threads: Some(2),
            ..config(io)
        })
        .unwrap();
        // There are many sockets, so that the kernel uses both threads' sockets.
        for i in 0..64 {
            let mut client = rmbd_client::legacy::Client::connect(
                node.udp_addr(),
                rmbd_client::legacy::ClientOptions::default(),
            )
            .unwrap();
            client.add_many(["shared"]).unwrap();
            assert_eq!(client.count("shared").unwrap(), i + 1);
        }
        let status = node.stop().unwrap();
        assert!(
            status.io.threads.iter().all(|thread| thread.datagrams > 0),
            "{:?}",
            status.io
        );
        assert_eq!(status.sketch.total_weight, 64);
    }
}
