//! `HOST:PORT` as a person writes it, and the addresses behind it, which are many and change.
//!
//! A name is not an address: it may have several, may be known to nobody yet, and may lead elsewhere
//! tomorrow. So whoever is given one keeps it, tries all its addresses, and looks it up again when they fall
//! silent. A [`Resolver`] looks up; it may take half a minute, so where that would hold up something else
//! it is asked on a thread ([`look_up_on_thread`], [`look_up_within`]), of which there is a bounded number;
//! who looks after its own threads has [`Lookups`] start them.
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
