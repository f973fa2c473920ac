//! A Python instance, played with the committed bytes of the Python program.

use std::net::{SocketAddr, UdpSocket};

use rmbd_proto::compact::is_request;
use rmbd_proto::legacy::{ACK, Dialect, encode_sync};

use super::running::{PATIENCE, Running};

/// Number of rows of the Python program.
const DEPTH: usize = 10;
const WIDTH: usize = 100;
/// The type byte of a count.
const COUNT: u8 = 1;

pub(crate) struct Python {
    socket: UdpSocket,
    /// The column of "abc" in each row.
    columns: Vec<usize>,
}

impl Python {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../data/legacy_vectors.json")).unwrap();
        let columns = vectors["columns"].as_array().unwrap().iter();
        let abc = columns
            .into_iter()
            .find(|key| key["key"] == "616263")
            .unwrap();
        let columns = abc["width100"].as_array().unwrap().iter();
        let columns = columns.map(|column| column.as_u64().unwrap() as usize);
        Self {
            socket,
            columns: columns.collect(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A row in which only "abc" was counted.
    fn row(&self, row: usize, count: u32) -> Vec<u8> {
        let mut counters = [0; WIDTH];
        counters[self.columns[row]] = count.into();
        let mut bytes = Vec::new();
        encode_sync(row as u16, &counters, Dialect::Native, &mut bytes);
        bytes
    }

    /// Pushes all rows, as the Python program does every half second. Each must be acknowledged.
    pub(crate) fn push(&self, to: &Running, count: u32) {
        for row in 0..DEPTH {
            self.socket
                .send_to(&self.row(row, count), to.udp())
                .unwrap();
            while self.receive(to) != ACK {}
        }
    }

    /// Receives rows until all of them say `count`. Each must be exactly what "abc" alone makes, and none may say less
    /// than one before it.
    pub(crate) fn rows_until(&self, from: &Running, counts: &mut [u32; DEPTH], count: u32) {
        while counts.iter().any(|&found| found < count) {
            let bytes = self.receive(from);
            if bytes == ACK {
                continue;
            }
            self.socket.send_to(&ACK, from.udp()).unwrap();
            let row = usize::from(u16::from_le_bytes([bytes[1], bytes[2]]));
            let found = (0..=count).find(|&found| bytes == self.row(row, found));
            let found = found.unwrap_or_else(|| panic!("row {row} is not of abc <= {count}"));
            assert!(
                found >= counts[row],
                "row {row} went back from {} to {found}",
                counts[row]
            );
            counts[row] = found;
        }
    }

    /// The next datagram of a node that is no question. The Python program does not know the compact format, in which
    /// a node asks it what it is; it answers counts.
    fn receive(&self, node: &Running) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, node.udp());
            match buffer[0] {
                // The node asks whether it is alive.
                COUNT => {
                    let mut reply = buffer[1..length].to_vec();
                    reply.resize(Dialect::Native.reply_bytes(), 0);
                    self.socket.send_to(&reply, from).unwrap();
                }
                first if is_request(first) => {}
                _ => return buffer[..length].to_vec(),
            }
        }
    }
}
