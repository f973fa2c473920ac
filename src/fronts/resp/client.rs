//! One client.

use std::net::{IpAddr, Ipv4Addr};

use rmbd_proto::resp::{CommandLimits, CommandParser, Version};

/// Bytes of a client's name at most.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// Wrong passwords after which a connection is closed.
pub(super) const WRONG_PASSWORDS_MAX: u32 = 8;

/// What a connection has said so far.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) from: IpAddr,
    pub(super) parser: CommandParser,
    pub(super) version: Version,
    /// It has shown the password, or needs none.
    pub(super) is_known: bool,
    pub(super) wrong_passwords: u32,
    pub(super) name: Vec<u8>,
}

impl Client {
    pub(super) fn new(id: u64, from: IpAddr, is_known: bool) -> Self {
        Self {
            id,
            from,
            parser: CommandParser::default(),
            version: Version::Resp2,
            is_known,
            wrong_passwords: 0,
            name: Vec::new(),
        }
    }

    /// What its commands may have.
    #[inline]
    pub(super) fn limits(&self) -> CommandLimits {
        match self.is_known {
            true => CommandLimits::FULL,
            false => CommandLimits::BEFORE_PASSWORD,
        }
    }

    /// It is gone.
    pub(super) fn forget(&mut self) {
        *self = Self::new(0, Ipv4Addr::UNSPECIFIED.into(), false);
    }
}
