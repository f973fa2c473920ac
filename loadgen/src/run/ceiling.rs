//! The ceiling: how much this generator can send on this machine, by floods to a receiver that discards them. A
//! server that takes less than this is measured; one that seems to take more is not.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use rmbd_io::cpu;
use rmbd_udp::{Receiver, TRAIN_BYTES_MAX, enable_gro};

use super::traffic::{self, Judged, Route};
use crate::output::{share, thousands};
use crate::plan::{DEFAULT_KEY_BYTES, Format, KeySet, KeySpec, Load, Script};
use crate::record::Sent;

/// Number of trains that the discarding receiver takes with one system call.
const TRAINS: usize = 32;
/// Size of its receive buffer in bytes.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Time after which it notices that it is to end.
const READ_TIMEOUT: Duration = Duration::from_millis(20);

/// The result of one way of sending.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    /// Name of the way.
    pub way: String,
    /// Seconds of sending.
    pub seconds: f64,
    /// CPU seconds of the sending thread.
    pub cpu_s: f64,
    /// Numbers of what was sent.
    pub sent: Sent,
    /// Number of messages that reached the receiver.
    pub received: u64,
}

impl Reached {
    /// Datagrams for each CPU second of the sender.
    #[must_use]
    pub(crate) fn datagrams_a_core(&self) -> f64 {
        self.sent.datagrams as f64 / self.cpu_s
    }

    /// Messages for each CPU second of the sender.
    #[must_use]
    pub(crate) fn messages_a_core(&self) -> f64 {
        self.sent.messages() as f64 / self.cpu_s
    }
}

/// Measures all ways, one after the other, each for `duration` or until `stop` is set.
///
/// # Errors
/// Fails if there is no socket or no thread.
pub(crate) fn measure(duration: Duration, stop: &AtomicBool) -> io::Result<Vec<Reached>> {
    let uniform = || KeySpec::Uniform { keys: 1_000_000 };
    let zipf = || KeySpec::Zipf {
        exponent: 1.1,
        keys: 1_000_000,
    };
    let (legacy, compact) = (Format::Legacy, Format::Compact);
    let ways = [
        (
            "1 message a datagram, a system call each",
            uniform(),
            legacy,
            1,
            false,
        ),
        ("1 message a datagram, GSO", uniform(), legacy, 1, true),
        ("9 messages a datagram, GSO", uniform(), legacy, 9, true),
        (
            "9 messages a datagram, GSO, Zipf keys",
            zipf(),
            legacy,
            9,
            true,
        ),
        (
            "77 compact messages a datagram, GSO",
            uniform(),
            compact,
            77,
            true,
        ),
        (
            "77 compact messages a datagram, GSO, Zipf keys",
            zipf(),
            compact,
            77,
            true,
        ),
    ];
    let mut all = Vec::new();
    for (way, keys, format, pack, gso) in ways {
        let keys = KeySet::open(&keys, DEFAULT_KEY_BYTES, "", format).map_err(io::Error::other)?;
        let load = Load {
            name: way.to_owned(),
            duration,
            pack,
            gso,
            ..Load::new(keys, format)
        };
        all.push(measure_one(&load, stop)?);
    }
    Ok(all)
}

fn measure_one(load: &Load, stop: &AtomicBool) -> io::Result<Reached> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    enable_gro(&socket)?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES);
    let cpus = cpu::allowed();
    let route = Route {
        servers: vec![socket.local_addr()?],
        cpus: cpus.last().copied().into_iter().collect(),
    };
    let over = AtomicBool::new(false);
    let (datagrams, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut scripts = [Script::new(load, 0)];
    let traffic = thread::scope(|scope| {
        scope.spawn(|| {
            if let Some(&first) = cpus.first() {
                // An error is ignored, as for the sender.
                let _ = cpu::pin_to(first);
            }
            discard(&socket, &over, &datagrams, &bytes);
        });
        let traffic = traffic::run(
            load,
            Judged::default(),
            None,
            &route,
            &mut scripts,
            stop,
            &mut |_, _| {},
        );
        over.store(true, Relaxed);
        traffic
    })?;
    Ok(Reached {
        way: load.name.clone(),
        seconds: load.duration.as_secs_f64(),
        cpu_s: traffic.report.cpu.as_secs_f64().max(1e-9),
        sent: traffic.report.sent,
        received: messages(load, datagrams.load(Relaxed), bytes.load(Relaxed)),
    })
}

/// Number of messages in these datagrams with these bytes.
fn messages(load: &Load, datagrams: u64, bytes: u64) -> u64 {
    let headers = datagrams * load.form().header_bytes() as u64;
    let message_bytes = load.form().message_bytes(DEFAULT_KEY_BYTES);
    bytes.saturating_sub(headers) / message_bytes as u64
}

/// Takes all datagrams, and looks only at their lengths.
fn discard(socket: &UdpSocket, over: &AtomicBool, datagrams: &AtomicU64, bytes: &AtomicU64) {
    let mut receiver = Receiver::new(TRAINS, TRAIN_BYTES_MAX);
    while !over.load(Relaxed) {
        match receiver.receive(socket) {
            Ok(trains) => {
                let trains = (0..trains).filter_map(|index| receiver.train(index));
                for datagram in trains.flat_map(|train| train.datagrams()) {
                    datagrams.fetch_add(1, Relaxed);
                    bytes.fetch_add(datagram.len() as u64, Relaxed);
                }
            }
            // The call sleeps until a datagram comes, or for the timeout.
            Err(_) => {
                let _ = socket.peek(&mut [0]);
            }
        }
    }
}

/// The results of [`measure`] as a table.
#[must_use]
pub(crate) fn text(all: &[Reached]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "way",
        "datagrams/s",
        "messages/s",
        "datagrams a CPU second",
        "messages a CPU second",
        "received",
    ]);
    for reached in all {
        let (sent, seconds) = (&reached.sent, reached.seconds);
        let arrived = reached.received as f64 / sent.messages().max(1) as f64;
        table.add_row([
            reached.way.clone(),
            thousands(sent.datagrams as f64 / seconds),
            thousands(sent.messages() as f64 / seconds),
            thousands(reached.datagrams_a_core()),
            thousands(reached.messages_a_core()),
            share(arrived),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\none sending thread, one receiving thread that throws away, on loopback")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_way_sends_and_arrives() {
        let all = measure(Duration::from_millis(50), &AtomicBool::new(false)).unwrap();
        assert_eq!(all.len(), 6);
        for reached in &all {
            assert!(reached.sent.messages() > 0, "{reached:?}");
            assert!(reached.received > 0, "{reached:?}");
            assert!(reached.received <= reached.sent.messages(), "{reached:?}");
        }
        assert!(text(&all).contains("GSO"));
    }
}
