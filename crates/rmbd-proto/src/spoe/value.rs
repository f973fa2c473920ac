//! Typed data (3.1): a byte whose lower half is the type and whose upper half has flags, and a value.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::varint;
use crate::reader::{ReadError, Reader};

const NULL: u8 = 0;
const BOOL: u8 = 1;
const INT32: u8 = 2;
pub(super) const UINT32: u8 = 3;
const INT64: u8 = 4;
const UINT64: u8 = 5;
const IPV4: u8 = 6;
const IPV6: u8 = 7;
const STRING: u8 = 8;
const BINARY: u8 = 9;
/// The bits of the type.
const KIND: u8 = 0x0f;
/// The flag of a boolean that is true.
const TRUE: u8 = 0x10;

/// A value of an argument, or of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// There is none: what HAProxy was to send is not there in this request.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number of 32 or 64 bits with a sign. HAProxy sends all its numbers so.
    Signed(i64),
    /// A number of 32 or 64 bits without a sign.
    Unsigned(u64),
    /// An address.
    Ipv4(Ipv4Addr),
    /// An address.
    Ipv6(Ipv6Addr),
    /// A text, of any bytes.
    Text(&'a [u8]),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl Value<'_> {
    /// The number, if it is one from 0 on.
    #[must_use]
    pub fn unsigned(&self) -> Option<u64> {
        match *self {
            Self::Signed(value) => value.try_into().ok(),
            Self::Unsigned(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Null => out.push(NULL),
            Self::Bool(value) => out.push(BOOL | if value { TRUE } else { 0 }),
            Self::Signed(value) => {
                out.push(INT64);
                varint::write(value as u64, out);
            }
            Self::Unsigned(value) => {
                out.push(UINT64);
                varint::write(value, out);
            }
            Self::Ipv4(address) => {
                out.push(IPV4);
                out.extend(address.octets());
            }
            Self::Ipv6(address) => {
                out.push(IPV6);
                out.extend(address.octets());
            }
            Self::Text(bytes) => {
                out.push(STRING);
                write_string(&[bytes], out);
            }
            Self::Binary(bytes) => {
                out.push(BINARY);
                write_string(&[bytes], out);
            }
        }
    }
}

impl<'a> Reader<'a> {
    /// Takes typed data.
    pub(super) fn spoe_value(&mut self) -> Result<Value<'a>, ReadError> {
        let head = self.byte()?;
        Ok(match head & KIND {
            NULL => Value::Null,
            BOOL => Value::Bool(head & TRUE != 0),
            INT32 => Value::Signed(signed_32(self.spoe_varint()?)?),
            UINT32 => {
                let value = u32::try_from(self.spoe_varint()?);
                Value::Unsigned(value.map_err(|_| ReadError::Form)?.into())
            }
            // A number below 0 is written as the one without a sign of the same bits.
            INT64 => Value::Signed(self.spoe_varint()? as i64),
            UINT64 => Value::Unsigned(self.spoe_varint()?),
            IPV4 => Value::Ipv4(self.array::<4>()?.into()),
            IPV6 => Value::Ipv6(self.array::<16>()?.into()),
            STRING => Value::Text(self.spoe_string()?),
            BINARY => Value::Binary(self.spoe_string()?),
            _ => return Err(ReadError::Form),
        })
    }

    /// Takes a length, and as many bytes.
    pub(super) fn spoe_string(&mut self) -> Result<&'a [u8], ReadError> {
        let length = self.spoe_varint()?;
        // What does not fit into a `usize` is more than there is.
        self.bytes(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// A number of 32 bits with a sign. Below 0 it may be written with 32 bits or with 64.
fn signed_32(value: u64) -> Result<i64, ReadError> {
    let short = u32::try_from(value).map(|value| value as i32);
    let value = short.or_else(|_| i32::try_from(value as i64));
    value.map(i64::from).map_err(|_| ReadError::Form)
}

/// Appends a length, and the bytes of these parts.
pub(super) fn write_string(parts: &[impl AsRef<[u8]>], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    varint::write(length as u64, out);
    for part in parts {
        out.extend_from_slice(part.as_ref());
    }
}
