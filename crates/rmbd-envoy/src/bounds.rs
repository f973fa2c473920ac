//! How much a proxy may ask for. What it asks comes from its visitors, who are strangers.

use std::time::Duration;

/// Largest size of a request, in bytes.
///
/// Requests have some hundred bytes. A descriptor may take two of them and 56 in memory, so that a request has at
/// most some megabytes there, and one is looked at at a time.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Largest number of descriptors of a request.
///
/// A proxy makes one for each of its actions, of which a route has some.
pub const DESCRIPTORS_MAX: usize = 1_000;

/// Largest number of entries of all descriptors of a request together.
///
/// Each of them is looked for in the rules.
pub const ENTRIES_MAX: usize = 8_000;

/// Largest size of a domain, and of the key and the value of an entry, in bytes.
///
/// A longer one would not fit into the key under which it is counted.
pub const PART_BYTES_MAX: usize = 1_024;

/// Bytes of all requests that are being received, on all connections together.
///
/// It has room for thousands of usual ones, and for 64 of the largest.
pub const RECEIVED_BYTES_MAX: usize = 16 << 20;

/// Time for a request, which is short, from its head on.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Largest number of connections. A proxy has one for each of its threads.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Largest number of requests that are under way on one connection. A proxy opens another one where it has more.
pub const STREAMS_MAX: u32 = 256;

/// Bytes of one request that may come before it is looked at: all of most requests.
pub const STREAM_WINDOW_BYTES: u32 = 65_535;

/// The same of all requests of a connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Largest size of a request's head, in bytes.
pub const HEAD_BYTES_MAX: u32 = 16 << 10;

/// Time from the beginning of a connection to its first request. Clients connect when they have one.
pub const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Time from one request of a connection to the next. Proxies keep unused connections as long.
pub const IDLE_LIMIT: Duration = Duration::from_secs(3_600);

/// Age at which a connection is told to end, so that connections spread over nodes that are new.
pub const AGE_LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// How often it is asked whether the other side is still there, and how long it may take to say so.
pub const PROBE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// How long requests that are under way may take when the node ends.
pub const DRAIN_LIMIT: Duration = Duration::from_millis(200);
