//! What rmbd's tests and benches share: a network between real processes that loses, doubles and holds back by a
//! seed, floods of forged datagrams, standard streams that are broken in every way, and what a test needs of the
//! machine.

// Names say what they are for; nobody outside of the project uses them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::should_implement_trait
)]

pub mod forgery;
pub mod legacy_server;
pub mod proxy;
pub mod random;
pub mod required;
pub mod streams;
