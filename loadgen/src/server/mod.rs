//! The server under load, inside this process or elsewhere, with its status and its use of resources.

mod cost;
mod options;
mod several;
mod socket;
mod status;
mod under_load;

pub(crate) use self::cost::CpuUse;
pub(crate) use self::options::ServerArgs;
pub(crate) use self::several::{Servers, received_of_each, received_together};
pub(crate) use self::socket::connected_socket;
pub(crate) use self::status::{
    StatusError, fetch_status, has_restarted, status_url, total_weight, window_for,
};
pub use self::under_load::{HttpAt, ServerError, ServerUnderLoad};
