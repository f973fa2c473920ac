//! The simulator: virtual time, a bad network, and what must hold in the end.

pub(crate) mod check;
pub(crate) mod desk;
pub(crate) mod faults;
pub(crate) mod machine;
pub(crate) mod naive;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod pace;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod random;
pub(crate) mod run;
pub(crate) mod world;
pub(crate) mod wrong;
