//! The server under load, inside this process or elsewhere, with its status and its use of resources.

mod cost;
mod options;
mod socket;
mod status;
mod under_load;

pub(crate) use self::cost::CpuUse;
pub(crate) use self::options::ServerArgs;
pub(crate) use self::socket::connected_socket;
pub(crate) use self::status::{StatusError, fetch_status, has_restarted, received, status_url};
pub use self::under_load::{HttpAt, ServerError, ServerUnderLoad};
