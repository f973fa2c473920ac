//! Servers that a bench starts, and measures in turn.

#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener};
use std::process::Child;

/// A process that is ended with what holds it.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of the thread of [`on_a_thread`].
pub(crate) const THREAD: &str = "bench-server";

/// Serves on a free port of loopback, on a thread of its own.
pub(crate) fn on_a_thread<F: Future<Output = ()>>(
    serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::Builder::new().name(THREAD.to_owned());
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            serve(tokio::net::TcpListener::from_std(listener).unwrap()).await;
        });
    };
    thread.spawn(serve).unwrap();
    address
}

/// The results of each server, of rounds in which each has its turn.
pub(crate) fn in_turn<R, const SERVERS: usize>(
    servers: [(&str, SocketAddr); SERVERS],
    rounds: usize,
    round: impl Fn(SocketAddr, u64) -> R,
) -> [(&str, Vec<R>); SERVERS] {
    let mut results = servers.map(|(name, address)| (name, address, Vec::new()));
    for number in 0..rounds {
        for (_, address, results) in &mut results {
            results.push(round(*address, number as u64));
        }
    }
    results.map(|(name, _, results)| (name, results))
}
