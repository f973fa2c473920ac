//! Rules of rates in the YAML form of Envoy's rate limit service: read from text, and found for descriptors.
//!
//! A proxy asks about descriptors: lists of pairs, a key and a value each, in a domain. A file of rules names a
//! domain and has a tree, whose levels are the pairs of a descriptor. [`Rules::read`] understands such files or says
//! what is wrong with them, by file and line. [`Rules::of_request`] finds the rule of each descriptor of a request:
//!
//! - Each pair meets a descriptor of its level in the tree: the one with its key and its value; else the first in the
//!   order of the file whose value has `*` in it and fits; else the one with its key and no value. There is no way
//!   back: where that one leads no further, the descriptor meets nothing.
//! - The rule is that of the last pair's. A descriptor that ends above it, or goes on below it, does not meet it.
//! - A rule that another descriptor's rule of the same request *replaces* is dropped, for this request.
//!
//! What it means to be counted and to be over a rate is not decided here; [`counter_key`] says under which key
//! a descriptor is counted. Nothing here knows a file system, a socket, or a clock.
//!
//! ```
//! use rmbd_rules::{Amount, Descriptor, Entry, Rules, RulesFile, Unit, counter_key};
//!
//! let text = "
//! domain: messaging
//! descriptors:
//!   - key: message_type
//!     value: marketing
//!     descriptors:
//!       - key: to_number
//!         rate_limit: { unit: day, requests_per_unit: 5 }
//! ";
//! let rules = Rules::read(&[RulesFile { name: "messaging.yaml", text }])?;
//! let entries = [
//!     Entry { key: "message_type", value: "marketing" },
//!     Entry { key: "to_number", value: "2061234567" },
//! ];
//! let met = rules.of_request("messaging", &[Descriptor::new(&entries)]);
//! let rule = &rules[met.rules()[0].ok_or("no rule")?];
//! assert_eq!(rule.path(), "messaging.message_type_marketing.to_number");
//! assert_eq!(rule.amount, Amount::PerUnit { requests: 5, unit: Unit::Day });
//!
//! let mut key = Vec::new();
//! counter_key("messaging", &entries, &mut key);
//! assert_eq!(key, b"messaging/message_type=marketing/to_number=2061234567");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod counter_key;
mod error;
mod matching;
mod pattern;
mod read;
mod replacing;
mod rules;
mod tree;
mod unit;
mod yaml;

pub use self::bounds::{
    DESCRIPTORS_MAX, FILE_BYTES_MAX, FILES_MAX, LEVELS_MAX, NESTING_MAX, PART_BYTES_MAX,
    READ_BYTES_MAX, REPLACES_MAX, WILDCARDS_MAX,
};
pub use self::counter_key::{COUNTER_KEY_BYTES_MAX, counter_key};
pub use self::error::{RulesError, What, WrongRules};
pub use self::matching::{Descriptor, Entry, Matches};
pub use self::rules::{Amount, Domain, Rule, RuleIndex, Rules, RulesFile};
pub use self::unit::Unit;
