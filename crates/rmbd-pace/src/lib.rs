//! Timeouts and rates: how long a program waits for an answer, and how often it may do something.
//!
//! [`RoundTrip`] turns measured round trips into the time after which an answer counts as lost. [`TokenBucket`] lets
//! something happen at a rate, with bursts. Neither reads a clock: every moment comes in as the time since any fixed
//! moment, so that tests and simulations choose it.
//!
//! ```
//! use std::time::Duration;
//! use rmbd_pace::{Rate, RoundTrip, Timeouts, TokenBucket};
//!
//! const MS: Duration = Duration::from_millis(1);
//! const TIMEOUTS: Timeouts = Timeouts {
//!     first: Duration::from_secs(1),
//!     variation_min: Duration::ZERO,
//!     answer_delay: Duration::ZERO,
//!     min: Duration::from_millis(10),
//!     max: Duration::from_secs(60),
//!     doublings_max: 16,
//! };
//! let mut round_trip = RoundTrip::new(TIMEOUTS);
//! assert_eq!(round_trip.timeout(0), 1_000 * MS);
//! round_trip.measured(40 * MS);
//! assert_eq!(round_trip.timeout(0), 40 * MS + 4 * 20 * MS);
//! assert_eq!(round_trip.timeout(1), 2 * 120 * MS, "nothing came: twice as long");
//!
//! let mut two_a_second = TokenBucket::new(Rate { burst: 3, per_s: 2 }, Duration::ZERO);
//! assert!((0..3).all(|_| two_a_second.take(Duration::ZERO)), "a burst of three");
//! assert!(!two_a_second.take(499 * MS));
//! assert!(two_a_second.take(500 * MS));
//! ```

mod round_trip;
mod token_bucket;

pub use round_trip::{RoundTrip, Timeouts};
pub use token_bucket::{Rate, TokenBucket};
