//! Random numbers that are drawn at a start.

use std::io;

use rustix::rand::GetRandomFlags;

use super::{NodeError, system};
use rmbd_proto::{Boot, Writer};
use rmbd_store::once::COOKIE_SECRET_BYTES;

/// All random numbers of a start.
pub(super) struct Drawn {
    pub(super) boot: Boot,
    pub(super) writer: Writer,
    pub(super) spare_writer: Writer,
    /// The node's id, if it has none yet.
    pub(super) node: u64,
    pub(super) once_secret: [u8; COOKIE_SECRET_BYTES],
    pub(super) cluster_seed: u64,
    pub(super) sampling_seed: u64,
}

/// Draws random numbers from the operating system (getrandom(2), which returns so few bytes as a whole).
pub(super) fn draw() -> Result<Drawn, NodeError> {
    let mut bytes = [[0; 8]; 6];
    let mut once_secret = [0; COOKIE_SECRET_BYTES];
    for bytes in [bytes.as_flattened_mut(), &mut once_secret] {
        rustix::rand::getrandom(bytes, GetRandomFlags::empty())
            .map_err(io::Error::from)
            .map_err(system("drawing random numbers"))?;
    }
    let [
        boot,
        writer,
        spare_writer,
        node,
        cluster_seed,
        sampling_seed,
    ] = bytes.map(u64::from_le_bytes);
    Ok(Drawn {
        // The boot 0 stands for an unknown one.
        boot: Boot(boot.max(1)),
        writer: Writer(writer.max(1)),
        spare_writer: Writer(spare_writer.max(1)),
        node: node.max(1),
        once_secret,
        cluster_seed,
        sampling_seed,
    })
}
