//! Names of servers (`HOST:PORT`), and look-ups of the addresses behind them.
//!
//! A name is not an address: it may have several addresses, may be unknown for now, and may lead elsewhere tomorrow.
//! So a program that is given a name keeps it, tries all its addresses, and looks it up again when they fall silent.
//! A [`Resolver`] looks names up, which may take half a minute. Where that would hold up something else, it is asked
//! on a thread ([`look_up_on_thread`], [`look_up_within`]); the number of these threads is bounded. A program that
//! starts and watches its threads itself uses [`Lookups`].
//!
//! ```
//! use rmbd_names::{HostPort, Resolver};
//!
//! let name = HostPort::target("127.0.0.1:8000")?;
//! let addresses = Resolver::default().look_up(&name)?;
//! assert_eq!(addresses, [([127, 0, 0, 1], 8000).into()]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod lookups;
mod own;
mod resolver;
mod thread;

pub use self::address::{AddressError, HostPort};
pub use self::lookups::Lookups;
pub use self::own::{Unresolved, resolve};
pub use self::resolver::{ADDRESSES_MAX, LookupError, Resolver};
pub use self::thread::{LOOKUP_THREADS_MAX, Lookup, Work, look_up_on_thread, look_up_within};
