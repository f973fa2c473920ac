//! Opening the cluster's sockets: whether a node takes part in a cluster, on which address, and under which one it is
//! known.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use tracing::{info, warn};

use super::{ClusterError, advertise, queues};
use crate::config::{ClusterChoice, ClusterConfig, open_secret};
use rmbd_cluster::seal::KeyRing;
use rmbd_io::BindError;
use rmbd_names::{Lookups, resolve};

/// Largest size of a key file in bytes; usual ones have some hundred bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// The outcome of opening: a cluster's sockets, or none.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The node takes no part in a cluster; this is the reason.
    Off(String),
    On(ClusterSockets),
}

/// The bound sockets of the cluster's port, with what belongs to them.
#[derive(Debug)]
pub(crate) struct ClusterSockets {
    /// The sockets, one for each queue, all of one address.
    pub(super) sockets: Vec<UdpSocket>,
    /// The real address of the sockets.
    pub(super) bound: SocketAddr,
    pub(super) advertised: Option<SocketAddr>,
    pub(super) keys: KeyRing,
}

impl ClusterSockets {
    /// The address that other nodes are told; `None` while the name that gives it cannot be looked up.
    pub(crate) fn advertised(&self) -> Option<SocketAddr> {
        self.advertised
    }

    pub(crate) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Whether names of keys, which are private data, may go to other nodes: sealed, or on this machine.
    pub(crate) fn shares_names(&self) -> bool {
        !self.keys.is_public() || is_loopback(self.bound.ip())
    }
}

/// Opens the cluster's port as `config` says. `client` is the real address of the client port, and `asked_port` the
/// port that was asked for.
pub(crate) fn open(
    config: &ClusterConfig,
    lookups: &Lookups,
    client: SocketAddr,
    asked_port: u16,
) -> Result<Opened, ClusterError> {
    if config.address == ClusterChoice::Off {
        return Ok(Opened::Off("--cluster off".to_owned()));
    }
    let keys = config.key_file.as_deref().map(read_keys).transpose()?;
    let is_sealed = keys.is_some();
    let wanted = match &config.address {
        ClusterChoice::At(address) => resolve(address)?,
        _ => next_port(client, asked_port),
    };
    // A configuration that says nothing about a cluster did not ask for one.
    let is_asked = config.address != ClusterChoice::NextPort
        || !config.join.is_empty()
        || config.advertise.is_some()
        || is_sealed
        || config.insecure;
    if !is_sealed && !config.insecure && !is_loopback(wanted.ip()) {
        if is_asked {
            return Err(ClusterError::NoKey(wanted));
        }
        info!("{ALONE_WITHOUT_KEY}");
        return Ok(Opened::Off(ALONE_WITHOUT_KEY.to_owned()));
    }
    let sockets = bind(wanted, config.address == ClusterChoice::NextPort)?;
    let bound = sockets[0].local_addr().map_err(|source| BindError::Other {
        address: wanted,
        source,
    })?;
    let advertised = advertise::at_start(config, lookups, bound)?;
    if !is_sealed && !is_loopback(wanted.ip()) {
        warn!("--insecure-cluster: whoever reaches {bound} over UDP can change counts");
    }
    Ok(Opened::On(ClusterSockets {
        sockets,
        bound,
        advertised,
        keys: keys.unwrap_or_else(KeyRing::public),
    }))
}

const ALONE_WITHOUT_KEY: &str = "this node runs alone: its address is not loopback and there is no key; to join others \
     give --cluster-key-file FILE (rmbd keygen makes one) and --join HOST:PORT";

/// The address one port above the client port. The port is free to choose if the client port was, or is the last one.
fn next_port(client: SocketAddr, asked_port: u16) -> SocketAddr {
    let next = client.port().checked_add(1);
    let port = next.filter(|_| asked_port != 0).unwrap_or(0);
    SocketAddr::new(client.ip(), port)
}

/// Binds the sockets, at least one.
fn bind(wanted: SocketAddr, may_move: bool) -> Result<Vec<UdpSocket>, BindError> {
    match queues::bind(wanted) {
        Err(BindError::InUse(_) | BindError::Privileged(_)) if may_move => {
            queues::bind(SocketAddr::new(wanted.ip(), 0))
        }
        bound => bound,
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Reads a key file.
///
/// # Errors
/// [`ClusterError::KeyFile`] or [`ClusterError::Key`].
pub(crate) fn read_keys(path: &Path) -> Result<KeyRing, ClusterError> {
    let unreadable = |source| ClusterError::KeyFile {
        path: path.to_owned(),
        source,
    };
    let file = open_secret(path, "join").map_err(unreadable)?;
    let mut text = String::new();
    let mut start = file.take(KEY_FILE_BYTES_MAX);
    start.read_to_string(&mut text).map_err(unreadable)?;
    KeyRing::parse(&text).map_err(|source| ClusterError::Key {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use rmbd_names::Resolver;
    use std::path::PathBuf;

    fn lookups() -> Lookups {
        Lookups::new(Resolver::default(), |work| {
            std::thread::spawn(work);
            Ok(())
        })
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn on(config: &ClusterConfig, client: &str) -> ClusterSockets {
        match open(config, &lookups(), address(client), 0).unwrap() {
            Opened::On(link) => link,
            Opened::Off(reason) => panic!("off: {reason}"),
        }
    }

    fn at(text: &str) -> ClusterConfig {
        ClusterConfig {
            address: ClusterChoice::At(text.into()),
            ..ClusterConfig::default()
        }
    }

    fn at_start(config: &ClusterConfig, bound: SocketAddr) -> Result<(), ClusterError> {
        advertise::at_start(config, &lookups(), bound).map(drop)
    }

    fn refusal(config: &ClusterConfig, client: &str) -> String {
        open(config, &lookups(), address(client), 0)
            .unwrap_err()
            .to_string()
    }

    /// A key file that is removed after the test.
    struct KeyFile(PathBuf);

    impl KeyFile {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("rmbd-start-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for KeyFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn the_default_is_one_port_above_or_a_free_one() {
        assert_eq!(
            next_port(address("127.0.0.1:8000"), 8000),
            address("127.0.0.1:8001")
        );
        assert_eq!(
            next_port(address("127.0.0.1:4711"), 0),
            address("127.0.0.1:0")
        );
        assert_eq!(next_port(address("[::1]:65535"), 65535), address("[::1]:0"));

        // One port whose next port is free, and one whose next port is taken.
        let default = ClusterConfig::default();
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let client = SocketAddr::new([127, 0, 0, 1].into(), port - 1);
        let Opened::On(link) = open(&default, &lookups(), client, port - 1).unwrap() else {
            panic!("off");
        };
        assert!(link.bound.port() != port && link.bound.port() != 0);
        assert_eq!(link.advertised, Some(link.bound));
        assert!(link.keys.is_public());
        // A port that was asked for by number is not moved.
        let text = refusal(&at(&format!("127.0.0.1:{port}")), "127.0.0.1:1");
        assert!(text.contains("in use"), "{text}");
    }

    #[test]
    fn without_a_key_only_loopback_takes_part() {
        let default = ClusterConfig::default();
        let off = open(&default, &lookups(), address("0.0.0.0:8000"), 0).unwrap();
        let Opened::Off(reason) = off else {
            panic!("{off:?}");
        };
        assert!(reason.contains("alone") && reason.contains("--cluster-key-file"));
        on(&default, "127.0.0.1:1");
        on(&default, "[::1]:1");
        on(&at("127.0.0.1:0"), "0.0.0.0:8000");
        let joining = ClusterConfig::joining(["127.0.0.1:9".parse().unwrap()]);
        for (config, client) in [
            (at("0.0.0.0:0"), "127.0.0.1:1"),
            (at("[::]:0"), "127.0.0.1:1"),
            (joining.clone(), "0.0.0.0:1"),
        ] {
            let text = refusal(&config, client);
            assert!(
                text.contains("rmbd keygen") && text.contains("--insecure-cluster"),
                "{text}"
            );
            assert_eq!(text.lines().count(), 1);
        }
        let insecure = ClusterConfig {
            insecure: true,
            ..joining
        };
        // The route to loopback begins at loopback.
        let link = on(&insecure, "0.0.0.0:1");
        assert_eq!(link.bound.ip(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(
            link.advertised,
            Some(SocketAddr::new([127, 0, 0, 1].into(), link.bound.port()))
        );
    }

    #[test]
    fn a_wildcard_needs_an_address_that_others_can_be_told() {
        let insecure = ClusterConfig {
            insecure: true,
            ..at("0.0.0.0:0")
        };
        let text = refusal(&insecure, "127.0.0.1:1");
        assert!(text.contains("--advertise"), "{text}");
        let told = |advertise: &str| ClusterConfig {
            advertise: Some(advertise.parse().unwrap()),
            ..insecure.clone()
        };
        let link = on(&told("192.0.2.7:0"), "127.0.0.1:1");
        assert_eq!(
            link.advertised,
            Some(SocketAddr::new([192, 0, 2, 7].into(), link.bound.port()))
        );
        let link = on(&told("192.0.2.7:77"), "127.0.0.1:1");
        assert_eq!(link.advertised, Some(address("192.0.2.7:77")));
        let text = refusal(&told("0.0.0.0:77"), "127.0.0.1:1");
        assert!(text.contains("unicast"), "{text}");
        let text = refusal(&told("[2001:db8::7]:77"), "127.0.0.1:1");
        assert!(text.contains("the other of IPv4 and IPv6"), "{text}");
        // A socket of both families may be advertised as either.
        for told in ["[2001:db8::7]:77", "192.0.2.7:77"].map(told) {
            assert!(at_start(&told, address("[::]:1")).is_ok());
        }
        assert!(at_start(&told("192.0.2.7:77"), address("[::1]:1")).is_err());
    }

    #[test]
    fn a_name_that_nobody_knows_yet_is_no_reason_to_end() {
        let unknown = || "no.such.host.invalid:0".parse().unwrap();
        let by_name = ClusterConfig {
            advertise: Some(unknown()),
            ..at("127.0.0.1:0")
        };
        assert_eq!(on(&by_name, "127.0.0.1:1").advertised, None);
        let by_seed = ClusterConfig {
            insecure: true,
            join: vec![unknown()],
            ..at("0.0.0.0:0")
        };
        assert_eq!(on(&by_seed, "127.0.0.1:1").advertised, None);
        // A node that has an address of its own lacks nothing.
        let joining = ClusterConfig::joining([unknown()]);
        assert!(on(&joining, "127.0.0.1:1").advertised.is_some());
    }

    #[test]
    fn keys_come_from_their_file() {
        let good = KeyFile::new("good", &format!("{}\n", "ab".repeat(32)));
        let with = |path: &Path| ClusterConfig {
            key_file: Some(path.to_owned()),
            ..ClusterConfig::default()
        };
        assert!(!on(&with(&good.0), "127.0.0.1:1").keys.is_public());
        let broken = KeyFile::new("broken", "ab\n");
        let text = refusal(&with(&broken.0), "127.0.0.1:1");
        assert!(
            text.contains("line 1") && text.contains("rmbd-start"),
            "{text}"
        );
        let text = refusal(&with(Path::new("/nowhere/at/all")), "127.0.0.1:1");
        assert!(text.contains("rmbd keygen"), "{text}");
        // With a key, a wildcard address without an advertised one is an error, and not a node that runs alone.
        let text = refusal(&with(&good.0), "0.0.0.0:1");
        assert!(text.contains("--advertise"), "{text}");
    }
}
