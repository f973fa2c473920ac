//! Support for tests: processes, networks between them, and waiting for states.

pub(crate) mod folder;
pub(crate) mod group;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod original;
pub(crate) mod python;
pub(crate) mod running;
pub(crate) mod together;
