//! Who may do what, by source address.

use std::net::IpAddr;

use ipnet::IpNet;

/// `--allow` and `--trust`.
#[derive(Debug)]
pub(super) struct Access {
    allow: Vec<IpNet>,
    trust: Vec<IpNet>,
}

impl Access {
    pub(super) fn new(allow: Vec<IpNet>, trust: Vec<IpNet>) -> Self {
        Self { allow, trust }
    }

    /// May use the client port at all: everybody, or who is listed (whoever is trusted is, too).
    pub(super) fn may_use(&self, ip: IpAddr) -> bool {
        self.allow.is_empty() || lists(&self.allow, ip) || lists(&self.trust, ip)
    }

    /// May send `peer` and `sync`: loopback, and who is listed.
    pub(super) fn is_trusted(&self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || lists(&self.trust, ip)
    }
}

/// A dual-stack socket shows IPv4 senders as `::ffff:a.b.c.d`.
fn lists(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| net.contains(&ip))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn access(allow: &[&str], trust: &[&str]) -> Access {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Access::new(nets(allow), nets(trust))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_lists_everybody_counts_and_only_loopback_is_trusted() {
        let open = access(&[], &[]);
        assert!(open.may_use(ip("203.0.113.9")));
        assert!(!open.is_trusted(ip("203.0.113.9")));
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(open.is_trusted(ip(loopback)), "{loopback}");
        }
    }

    #[test]
    fn lists_hold_for_both_forms_of_an_ipv4_address() {
        let closed = access(&["10.0.0.0/8"], &["192.168.7.0/24", "2001:db8::/32"]);
        for (text, may_use, is_trusted) in [
            ("10.1.2.3", true, false),
            ("::ffff:10.1.2.3", true, false),
            ("192.168.7.1", true, true),
            ("::ffff:192.168.7.1", true, true),
            ("192.168.8.1", false, false),
            ("2001:db8::1", true, true),
            ("2001:db9::1", false, false),
            ("127.0.0.1", false, true),
        ] {
            assert_eq!(closed.may_use(ip(text)), may_use, "{text}");
            assert_eq!(closed.is_trusted(ip(text)), is_trusted, "{text}");
        }
    }
}
