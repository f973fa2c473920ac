//! A sender that puts a node under load.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rmbd_io::cpu;
use rmbd_udp::send_segments;

/// Sends trains as fast as the kernel takes them, from the last processor, until it is told to stop. Each train comes
/// with the bytes of its segments.
pub(crate) fn flood<'a>(
    to: SocketAddr,
    trains: impl Iterator<Item = (&'a [u8], u16)> + Clone,
    done: &AtomicBool,
) {
    let _ = cpu::pin_to(*cpu::allowed().last().expect("a thread has a processor"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("some port is free");
    socket.connect(to).expect("loopback is there");
    for (train, segment_bytes) in trains.cycle() {
        if done.load(Relaxed) {
            return;
        }
        // The kernel refuses a train if the receiver has ended first. The measurement counts what the receiver took.
        let _ = send_segments(&socket, None, train, segment_bytes);
    }
}
