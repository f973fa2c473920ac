//! Addresses: where others are said to be, who is there, and to which of them we push one way.

mod contacts;
mod one_way;
mod seeds;

pub(crate) use self::contacts::Contacts;
pub(crate) use self::one_way::{OneWayTargets, TargetAnswer};
pub(crate) use self::seeds::SeedAddresses;
