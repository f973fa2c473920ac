//! A load generator for rmbd: real traffic, counted and checked.
//!
//! The rooms, from the ground up; each uses only the ones above it in this list:
//!
//! | room | what lives there |
//! |---|---|
//! | `output` | how results are written: figures as a person reads them, and files that are whole |
//! | `machine` | this machine, and what its processes and threads use of it |
//! | [`record`] | what a run found: the JSON from which all reports are made |
//! | [`plan`] | what is to be sent: loads, their keys, scripts and schedules |
//! | [`server`] | the server under load: inside this process or elsewhere; what it says of itself and uses |
//! | [`versus`] | contests against Redis and memcached, which take turns instead of loads |
//! | `judge` | whether what it answered is right: accounts, the ledger of hits, the truth of a sample of keys |
//! | `flight` | what is on its way: connections, the questions that wait on them, and what became of each |
//! | `send` | datagrams are filled from a script and leave |
//! | `receive` | answers are taken, and found to be those of their questions |
//! | `closed` | the closed loops, which send and receive: one for answers, one for adds that count exactly once |
//! | [`run`] | phases, one after the other, from their warm-up to the checks |
//! | [`report`] | what was found is shown: live, as a table, as a page with plots, as percentile text |
//! | `cli` | the command line |

mod cli;
mod closed;
mod flight;
mod judge;
mod machine;
mod output;
pub mod plan;
mod receive;
pub mod record;
pub mod report;
pub mod run;
mod send;
pub mod server;
pub mod versus;

pub use self::cli::main;
