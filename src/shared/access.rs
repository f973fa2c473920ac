//! Who may do what, by source address.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::NodeConfig;
use rmbd_store::Editions;

/// `--allow`, `--trust` and `--show-keys` as they are in force, which a reload replaces. A data thread looks at them
/// with each train, by a [`Seen`](rmbd_store::Seen).
pub(crate) type AccessInForce = Editions<Access>;

/// `--allow`, `--trust` and `--show-keys`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    allow: Vec<IpNet>,
    trust: Vec<IpNet>,
    show_keys: Vec<IpNet>,
}

/// How somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// From the address that is seen.
    Himself,
    /// By way of a proxy, whose address is seen.
    ByProxy,
}

impl Access {
    /// The lists of a configuration.
    pub(crate) fn of(config: &NodeConfig) -> Self {
        Self {
            allow: config.allow.clone(),
            trust: config.trust.clone(),
            show_keys: config.show_keys.clone(),
        }
    }

    /// Which lists are others than `before`, in words; `None` if none is.
    pub(crate) fn news(&self, before: &Self) -> Option<String> {
        let lists = [
            ("allow", &self.allow, &before.allow),
            ("trust", &self.trust, &before.trust),
            ("show-keys", &self.show_keys, &before.show_keys),
        ];
        let changed = lists.into_iter().filter(|(_, now, before)| now != before);
        let names: Vec<_> = changed.map(|(name, ..)| name).collect();
        (!names.is_empty()).then(|| format!("lists of {}", names.join(", ")))
    }

    /// Puts these lists in force.
    pub(crate) fn replace(self, in_force: &AccessInForce) {
        let changed = in_force.change(|_| Ok::<_, Infallible>(Arc::new(self)));
        changed.unwrap_or_else(|never| match never {});
    }

    /// May use the client port at all: everybody, or who is listed (whoever is trusted is, too).
    pub(crate) fn may_use(&self, ip: IpAddr) -> bool {
        self.allow.is_empty() || lists(&self.allow, ip) || lists(&self.trust, ip)
    }

    /// May send `peer` and `sync`: loopback, and who is listed.
    pub(crate) fn is_trusted(&self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || lists(&self.trust, ip)
    }

    /// May see the names of keys: loopback, and who is listed. A proxy on this host speaks for anybody, so that it has
    /// to be listed itself.
    pub(crate) fn may_see_keys(&self, ip: IpAddr, asks: Asks) -> bool {
        let is_here = ip.to_canonical().is_loopback() && asks == Asks::Himself;
        is_here || lists(&self.show_keys, ip)
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

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn access(allow: &[&str], trust: &[&str]) -> Access {
        Access {
            allow: nets(allow),
            trust: nets(trust),
            show_keys: Vec::new(),
        }
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

    #[test]
    fn names_are_for_loopback_and_who_is_listed() {
        let shown = |show_keys: &[&str], text, asks| {
            // Trust is for orders, and shows no keys.
            let access = Access {
                allow: Vec::new(),
                trust: nets(&["10.9.0.0/16"]),
                show_keys: nets(show_keys),
            };
            access.may_see_keys(ip(text), asks)
        };
        for (show_keys, text, himself, by_proxy) in [
            (&[][..], "127.0.0.1", true, false),
            (&[], "::1", true, false),
            (&[], "::ffff:127.0.0.1", true, false),
            (&[], "10.9.0.1", false, false),
            (&["10.1.0.0/16"], "10.1.2.3", true, true),
            (&["10.1.0.0/16"], "::ffff:10.1.2.3", true, true),
            (&["10.1.0.0/16"], "10.2.0.1", false, false),
            (&["127.0.0.1/32"], "127.0.0.1", true, true),
        ] {
            assert_eq!(shown(show_keys, text, Asks::Himself), himself, "{text}");
            assert_eq!(shown(show_keys, text, Asks::ByProxy), by_proxy, "{text}");
        }
    }
}
