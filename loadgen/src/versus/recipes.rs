//! The arguments with which servers are started, and the line by which a node tells its addresses.

use std::net::SocketAddr;

/// The UDP and HTTP addresses in the line that a node prints when it is ready.
pub(super) fn addresses(output: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = output.lines().find(|line| line.starts_with("rmbd ready"))?;
    let field = |name: &str| {
        let mut words = line.split(' ');
        words.find_map(|word| word.strip_prefix(name))?.parse().ok()
    };
    Some((field("udp=")?, field("http=")?))
}

/// The arguments of Redis. It writes nothing to disk: that would be another comparison.
pub(super) fn redis_arguments(address: SocketAddr) -> Vec<String> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let words = [
        "--bind",
        &host,
        "--port",
        &port,
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    words.map(str::to_owned).to_vec()
}

/// The arguments of memcached. It has one thread, as the others have one CPU, and enough memory to evict nothing; if
/// that ends, it reports an error.
pub(super) fn memcached_arguments(address: SocketAddr) -> Vec<String> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let words = [
        "-l", &host, "-p", &port, "-U", "0", "-t", "1", "-m", "65536", "-M",
    ];
    let mut arguments = words.map(str::to_owned).to_vec();
    if rustix::process::geteuid().is_root() {
        // memcached refuses to run as root unless a user is named.
        arguments.extend(["-u", "root"].map(str::to_owned));
    }
    arguments
}
