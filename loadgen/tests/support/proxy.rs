//! A path between a load and a node that does to datagrams what it is told.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rmbd_proto::compact;

use rmbd_testkit::random::Random;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToNode,
    ToClient,
}

/// What becomes of a datagram that goes some way: the datagrams that go on.
pub(crate) type Fate = Box<dyn FnMut(Way, &[u8]) -> Vec<(Way, Vec<u8>)> + Send>;

/// Speaks to a node for all who speak to its address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// `fate` makes what decides for each client's socket, which have numbers in the order of their
    /// first datagrams.
    pub(crate) fn to(node: &str, fate: impl Fn(u64) -> Fate + Send + 'static) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.set_nonblocking(true).unwrap();
        let address = near.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (node, stopped) = (node.parse().unwrap(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut paths = HashMap::new();
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Relaxed) {
                if !pass_some(&near, node, &mut paths, &fate, &mut buffer) {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket to the node for one client, and what it does to datagrams.
struct Path {
    far: UdpSocket,
    fate: Fate,
}

impl Path {
    fn to(node: SocketAddr, fate: Fate) -> Self {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(node).unwrap();
        far.set_nonblocking(true).unwrap();
        Self { far, fate }
    }

    fn pass(&mut self, way: Way, datagram: &[u8], near: &UdpSocket, client: SocketAddr) {
        for (way, datagram) in (self.fate)(way, datagram) {
            let _ = match way {
                Way::ToNode => self.far.send(&datagram),
                Way::ToClient => near.send_to(&datagram, client),
            };
        }
    }
}

/// Whether there was anything to pass on.
fn pass_some(
    near: &UdpSocket,
    node: SocketAddr,
    paths: &mut HashMap<SocketAddr, Path>,
    fate: &impl Fn(u64) -> Fate,
    buffer: &mut [u8],
) -> bool {
    let mut any = false;
    while let Ok((length, client)) = near.recv_from(buffer) {
        let number = paths.len() as u64;
        let path = (paths.entry(client)).or_insert_with(|| Path::to(node, fate(number)));
        path.pass(Way::ToNode, &buffer[..length], near, client);
        any = true;
    }
    for (&client, path) in paths {
        while let Ok(length) = path.far.recv(buffer) {
            path.pass(Way::ToClient, &buffer[..length], near, client);
            any = true;
        }
    }
    any
}

/// Whether it is a request that counts once.
pub(crate) fn is_once(datagram: &[u8]) -> bool {
    compact::request(datagram).is_ok_and(|request| request.once.is_some())
}

/// Whether it is an acknowledgement without an answer.
pub(crate) fn is_acknowledgement(datagram: &[u8]) -> bool {
    compact::reply(datagram).is_ok_and(|reply| reply.answers().next().is_none())
}

/// Loses a tenth of all compact datagrams, doubles a twentieth, and lets a twentieth be overtaken by some
/// others; what of each, the seed decides.
pub(crate) fn lossy(seed: u64) -> Fate {
    let mut random = Random(seed);
    let mut late: Vec<(u64, Way, Vec<u8>)> = Vec::new();
    Box::new(move |way, datagram| {
        let this = (way, datagram.to_vec());
        let first = datagram[0];
        if !compact::is_request(first) && !compact::is_reply(first) {
            return vec![this];
        }
        let mut out = Vec::new();
        let others = 1 + random.below(20);
        match random.below(100) {
            0..10 => {}
            10..15 => {
                late.push((others, way, this.1.clone()));
                out.push(this);
            }
            15..20 => late.push((others, way, this.1)),
            _ => out.push(this),
        }
        late.retain_mut(|(others, way, datagram)| {
            *others -= 1;
            if *others == 0 {
                out.push((*way, std::mem::take(datagram)));
            }
            *others > 0
        });
        out
    })
}
