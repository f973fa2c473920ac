//! Whether what the server answered is right.

pub(crate) mod ledger;
pub(crate) mod truth;
