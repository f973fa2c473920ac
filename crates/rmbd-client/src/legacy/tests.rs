//! The client against a server that counts exactly and loses what it is told to lose.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use super::*;
use rmbd_testkit::legacy_server::{Fake, Fate, nobody};

trait Clients {
    fn client(&self) -> Client;
    /// Asks again soon, and for long.
    fn stubborn_client(&self) -> Client;
    /// Gives up soon, but not before an answer that does come.
    fn impatient_client(&self) -> Client;
}

impl Clients for Fake {
    fn client(&self) -> Client {
        // Long enough for a busy machine, where answers do come.
        Client::connect(self.address, options(5_000)).unwrap()
    }

    fn stubborn_client(&self) -> Client {
        let options = ClientOptions {
            tries: 500,
            ..options(20)
        };
        Client::connect(self.address, options).unwrap()
    }

    fn impatient_client(&self) -> Client {
        Client::connect(self.address, options(100)).unwrap()
    }
}

fn options(timeout_ms: u64) -> ClientOptions {
    ClientOptions {
        timeout: Duration::from_millis(timeout_ms),
        ..ClientOptions::default()
    }
}

/// 0 to 139 bytes, many of them more than once.
fn keys(number: usize) -> Vec<Vec<u8>> {
    (0..number)
        .map(|n| vec![(n / 700) as u8; n * 7 % 140])
        .collect()
}

fn truth(keys: &[Vec<u8>]) -> HashMap<Vec<u8>, u64> {
    let mut truth = HashMap::new();
    for key in keys {
        *truth.entry(key.clone()).or_default() += 1;
    }
    truth
}

#[test]
fn adds_and_counts_in_both_dialects() {
    for dialect in [Dialect::Native, Dialect::Network] {
        let server = Fake::start(dialect, |_| Fate::Deliver);
        let mut client = server.client();
        let keys = keys(3_000);
        assert_eq!(client.add_many(&keys).unwrap(), 3_000);
        let truth = truth(&keys);
        let expected: Vec<u64> = keys.iter().map(|key| truth[key]).collect();
        assert_eq!(client.count_many(&keys).unwrap(), expected);
        assert_eq!(client.count("never added").unwrap(), 0);
        let seen = server.stop();
        assert_eq!(seen.counts, truth);
        assert_eq!(seen.datagram_bytes_max, 9 * MESSAGE_BYTES);
        assert_eq!(seen.datagrams_unanswered_max, WINDOW_DATAGRAMS);
    }
}

#[test]
fn one_add_is_one_message() {
    let server = Fake::reliable();
    let mut client = server.client();
    client.add("a").unwrap();
    client.add_many(["a"]).unwrap();
    assert_eq!(client.count("a").unwrap(), 2);
    assert_eq!(client.add_many([""; 0]).unwrap(), 0);
    assert_eq!(client.count_many(&[""; 0]).unwrap(), [0; 0]);
    // What the Python program understands.
    assert_eq!(server.stop().datagram_bytes_max, MESSAGE_BYTES);
}

#[test]
fn an_adder_goes_on_after_a_flush() {
    let server = Fake::reliable();
    let mut client = server.client();
    let mut adder = client.adder().unwrap();
    assert_eq!(adder.flush().unwrap(), 0);
    adder.push(b"a").unwrap();
    assert_eq!(adder.flush().unwrap(), 1);
    assert_eq!(adder.flush().unwrap(), 1);
    adder.push(b"b").unwrap();
    assert_eq!(adder.finish().unwrap(), 2);
    assert_eq!(server.stop().adds, 2);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let server = Fake::start(Dialect::Native, |answer| match answer {
        0 | 2 => Fate::Lose,
        _ => Fate::Deliver,
    });
    let mut client = server.stubborn_client();
    assert_eq!(client.add_many(["a", "b", "a"]).unwrap(), 3);
    assert_eq!(client.count_many(&["a", "b", "c"]).unwrap(), [2, 1, 0]);
    // Asked twice, added once.
    assert_eq!(server.stop().adds, 3);
}

#[test]
fn some_lost_answers_of_a_window_are_asked_for_again() {
    let server = Fake::start(Dialect::Native, |answer| match answer {
        // The closing count of the adds is the first.
        1 | 5 => Fate::Lose,
        3 => Fate::Late,
        7 => Fate::Double,
        _ => Fate::Deliver,
    });
    let mut client = server.stubborn_client();
    let keys = keys(200);
    client.add_many(&keys).unwrap();
    let truth = truth(&keys);
    let expected: Vec<u64> = keys.iter().map(|key| truth[key]).collect();
    assert_eq!(client.count_many(&keys).unwrap(), expected);
    server.stop();
}

#[test]
fn a_late_answer_is_not_taken_for_a_later_question() {
    // The first count's answer (0) comes behind the answer to its repetition.
    let server = Fake::start(Dialect::Native, |answer| match answer {
        0 => Fate::Late,
        _ => Fate::Deliver,
    });
    let mut client = server.stubborn_client();
    assert_eq!(client.count("a").unwrap(), 0);
    // Without waiting, so that nothing but the count itself meets the late answer.
    for _ in 0..5 {
        client.add("a").unwrap();
    }
    assert_eq!(client.count("a").unwrap(), 5);
    server.stop();
}

#[test]
fn unanswered_counts_say_how_many_were_answered() {
    let server = Fake::start(Dialect::Native, |answer| match answer {
        0 => Fate::Deliver,
        _ => Fate::Lose,
    });
    let mut client = server.impatient_client();
    let error = client.count_many(&keys(12)).unwrap_err();
    let ClientError::Timeout {
        answered, asked, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((answered, asked), (9, 12));
    let text = error.to_string();
    assert!(
        text.contains("in 3 tries of 100 ms, 9 of 12 counts were answered"),
        "{text}"
    );
    server.stop();
}

#[test]
fn unanswered_adds_are_uncertain_and_not_sent_again() {
    let burst = WINDOW_KEYS as u64;
    let server = Fake::start(Dialect::Native, |answer| match answer {
        0 => Fate::Deliver,
        _ => Fate::Lose,
    });
    let mut client = server.impatient_client();
    let keys = keys(3 * WINDOW_KEYS);
    let error = client.add_many(&keys).unwrap_err();
    let ClientError::Adds {
        confirmed,
        uncertain,
        source,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*confirmed, *uncertain), (burst, burst));
    assert!(matches!(**source, ClientError::Timeout { .. }));
    let text = error.to_string();
    assert!(
        text.contains("288 adds are confirmed, 288 more are uncertain"),
        "{text}"
    );
    let seen = server.stop();
    assert_eq!(seen.adds, 2 * burst);
    assert_eq!(seen.counts, truth(&keys[..2 * WINDOW_KEYS]));
}

#[test]
fn long_keys_are_refused_and_nothing_is_cut() {
    let server = Fake::reliable();
    let mut client = server.client();
    let long = [b'k'; KEY_BYTES_MAX + 1];
    let refused = |error| matches!(error, ClientError::KeyTooLong { bytes: 140 });
    assert!(refused(client.add(long).unwrap_err()));
    assert!(refused(client.count(long).unwrap_err()));
    let both: [&[u8]; 2] = [b"a", &long];
    assert!(refused(client.count_many(&both).unwrap_err()));
    let three: [&[u8]; 3] = [b"a", &long, b"b"];
    let error = client.add_many(three).unwrap_err();
    let ClientError::Adds {
        confirmed: 1,
        uncertain: 0,
        source,
    } = error
    else {
        panic!("{error}");
    };
    assert!(refused(*source));
    assert_eq!(server.stop().counts, truth(&[b"a".to_vec()]));
}

#[test]
fn peer_orders_arrive() {
    for dialect in [Dialect::Native, Dialect::Network] {
        let server = Fake::start(dialect, |_| Fate::Deliver);
        let options = ClientOptions {
            dialect,
            ..options(5_000)
        };
        let mut client = Client::connect(server.address, options).unwrap();
        client.peer("localhost", 9_000).unwrap();
        let error = client.peer(&"h".repeat(140), 1).unwrap_err();
        assert!(matches!(error, ClientError::HostTooLong(_)));
        assert_eq!(server.stop().peers, [(b"localhost".to_vec(), 9_000)]);
    }
}

#[test]
fn nobody_there() {
    let nobody = nobody();
    let address = nobody.local_addr().unwrap();
    let mut client = Client::connect(address, options(5_000)).unwrap();
    let text = client.count("a").unwrap_err().to_string();
    assert_eq!(
        text,
        format!("no server at {address}; start one with `rmbd`")
    );
    let error = client.add_many(["a", "b"]).unwrap_err();
    let ClientError::Adds {
        confirmed: 0,
        uncertain: 2,
        source,
    } = error
    else {
        panic!("{error}");
    };
    assert!(matches!(*source, ClientError::Refused { .. }));
}

#[test]
fn nobody_answers() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(silent.local_addr().unwrap(), options(10)).unwrap();
    let error = client.count("a").unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                answered: 0,
                asked: 1,
                tries: 3,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_first_address_that_answers_is_taken() {
    let nobody = nobody();
    let server = Fake::reliable();
    let addresses = [nobody.local_addr().unwrap(), server.address];
    let mut client = Client::connect(&addresses[..], options(5_000)).unwrap();
    assert_eq!(client.server(), server.address);
    client.add_many(["a"]).unwrap();
    assert_eq!(server.stop().adds, 1);

    let other = self::nobody();
    let dead = [addresses[0], other.local_addr().unwrap()];
    let error = Client::connect(&dead[..], options(5_000)).unwrap_err();
    let ClientError::Unreached { causes, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        causes
            .iter()
            .zip(dead)
            .all(|((tried, _), dead)| *tried == dead)
    );
    let error = Client::connect(&[][..] as &[SocketAddr], options(10)).unwrap_err();
    assert!(matches!(error, ClientError::NoAddress));
}
