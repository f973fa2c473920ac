//! Cookies prove that a client can receive at its address. A cookie is a code over the address and the time, under a
//! secret of the node's start. The node keeps nothing of it.
//!
//! ```text
//!   0       1                                       16
//! +-------+----------------------------------------+
//! | epoch | HMAC-SHA-256 (secret, address | epoch) |   the epoch's lowest byte; the code's first 15
//! +-------+----------------------------------------+
//! ```
//!
//! The port of the address is left out, since address translations change it. All 128 bits of an IPv6 address are
//! included: a cookie is used within moments, and a client whose address has changed meanwhile is asked once more.
//! With the first 64 bits alone, each host of a link could prove the addresses of all others. An IPv4 address has one
//! form, also at a socket for both families.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

/// Bytes of a cookie. Its code has 120 bits; an attacker has one guess per datagram, within two minutes.
pub const COOKIE_BYTES: usize = 16;
/// Bytes of the secret, as many as the hash has (RFC 2104, 3).
pub const COOKIE_SECRET_BYTES: usize = 32;

/// Length of an epoch. A cookie is good in the epoch that it was made in, and in the next one. A client shows it a
/// round trip after it came; a longer life would only let it be shown from an address that was given to another host.
const EPOCH: Duration = Duration::from_secs(60);

/// Makes and checks cookies.
#[derive(Debug)]
pub(super) struct Cookies {
    key: hmac::Key,
}

impl Cookies {
    pub(super) fn new(secret: &[u8; COOKIE_SECRET_BYTES]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    pub(super) fn fresh(&self, ip: IpAddr, now: Duration) -> [u8; COOKIE_BYTES] {
        self.cookie(ip, epoch(now))
    }

    /// Whether this cookie was made for this address, in this epoch or the one before.
    pub(super) fn prove(&self, cookie: &[u8], ip: IpAddr, now: Duration) -> bool {
        let Some(&made) = cookie.first() else {
            return false;
        };
        let epoch = epoch(now);
        let age = (epoch as u8).wrapping_sub(made);
        if age > 1 || u64::from(age) > epoch {
            return false;
        }
        let good = self.cookie(ip, epoch - u64::from(age));
        verify_slices_are_equal(cookie, &good).is_ok()
    }

    /// Makes a cookie in some hundred nanoseconds. It works on the stack: the key's state is copied and has no memory
    /// of its own.
    fn cookie(&self, ip: IpAddr, epoch: u64) -> [u8; COOKIE_BYTES] {
        let mut message = [0; 24];
        let (address, time) = message.split_at_mut(16);
        address.copy_from_slice(&canonical_bytes(ip));
        time.copy_from_slice(&epoch.to_le_bytes());
        let code = hmac::sign(&self.key, &message);
        let mut cookie = [epoch as u8; COOKIE_BYTES];
        let [_, rest @ ..] = &mut cookie;
        for (byte, code) in rest.iter_mut().zip(code.as_ref()) {
            *byte = *code;
        }
        cookie
    }
}

fn epoch(now: Duration) -> u64 {
    now.as_secs() / EPOCH.as_secs()
}

/// The bytes of an address, the same for both forms of an IPv4 address.
fn canonical_bytes(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_cookie_proves_its_address_for_one_to_two_epochs() {
        let cookies = Cookies::new(&[7; 32]);
        // The epoch's byte wraps between these starts.
        for start in [0, 59, 60, 254 * 60, 255 * 60, 256 * 60 + 59, u64::MAX / 120] {
            let here = ip("192.0.2.7");
            let cookie = cookies.fresh(here, at(start));
            let end = (start / 60 + 2) * 60;
            for (now, proves) in [
                (start, true),
                (end - 1, true),
                (end, false),
                (end + 255 * 60, false),
            ] {
                assert_eq!(
                    cookies.prove(&cookie, here, at(now)),
                    proves,
                    "{start} {now}"
                );
            }
            if let Some(before) = (start / 60 * 60).checked_sub(1) {
                assert!(!cookies.prove(&cookie, here, at(before)), "made later");
            }
        }
    }

    #[test]
    fn it_is_of_one_address_and_of_one_secret() {
        let cookies = Cookies::new(&[7; 32]);
        let all = [
            "192.0.2.7",
            "192.0.2.8",
            "::192.0.2.7",
            "64:ff9b::c000:207",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:0:1::1",
        ];
        for one in all {
            let cookie = cookies.fresh(ip(one), at(100));
            for other in all {
                assert_eq!(
                    cookies.prove(&cookie, ip(other), at(100)),
                    one == other,
                    "{one} {other}"
                );
            }
            assert!(!Cookies::new(&[8; 32]).prove(&cookie, ip(one), at(100)));
        }
        let cookie = cookies.fresh(ip("192.0.2.7"), at(100));
        assert!(cookies.prove(&cookie, ip("::ffff:192.0.2.7"), at(100)));
        let cookie = cookies.fresh(ip("::ffff:192.0.2.7"), at(100));
        assert!(cookies.prove(&cookie, ip("192.0.2.7"), at(100)));
    }

    #[test]
    fn no_other_bytes_prove_anything() {
        let cookies = Cookies::new(&[7; 32]);
        let here = ip("192.0.2.7");
        let cookie = cookies.fresh(here, at(100));
        for end in 0..cookie.len() {
            assert!(!cookies.prove(&cookie[..end], here, at(100)));
        }
        assert!(!cookies.prove(&[&cookie[..], &[0]].concat(), here, at(100)));
        for at_byte in 0..cookie.len() {
            for bit in 0..8 {
                let mut other = cookie;
                other[at_byte] ^= 1 << bit;
                assert!(!cookies.prove(&other, here, at(100)), "{at_byte} {bit}");
            }
        }
    }
}
