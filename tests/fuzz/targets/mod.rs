//! Targets for fuzzers: one function for each parser, which compares the parser with a naive one and panics if they
//! differ. `cargo test` runs them on the corpus and on generated input (`tests/fuzz/main.rs`), and `cargo fuzz` as
//! long as one likes (`fuzz/`).

// Each program of `fuzz/` uses one of these.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod cluster;
pub mod compact;
pub mod legacy;
pub mod resp;
pub mod rules;
pub mod spoe;

/// A target takes any bytes, and panics only if something is wrong.
pub type Target = fn(&[u8]);

/// All targets. Each has a program in `fuzz/fuzz_targets/` and a corpus in `tests/data/fuzz/` of the same name. A new
/// parser in the library gets a line here.
pub const ALL: [(&str, Target); 10] = [
    ("cluster_key_file", cluster::key_file),
    ("cluster_membership", cluster::membership),
    ("cluster_payload", cluster::payload),
    ("compact_reply", compact::reply),
    ("compact_request", compact::request),
    ("legacy_messages", legacy::messages),
    ("legacy_replies", legacy::replies),
    ("resp_commands", resp::commands),
    ("rules_yaml", rules::yaml),
    ("spoe_frames", spoe::frames),
];
