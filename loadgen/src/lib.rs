//! A load generator for rmbd: real traffic, counted and checked.
//!
//! The rooms, from the ground up; each uses only the ones above it in this list:
//!
//! | room | what lives there |
//! |---|---|
//! | `output` | results are written: figures as people read them, and files that are whole |
//! | `machine` | this machine is described, and CPU time and memory of its processes are read |
//! | [`record`] | the record of a run: the JSON from which all reports are made |
//! | [`plan`] | loads are planned: their messages, keys, scripts and schedules |
//! | [`server`] | the server under load, inside this process or elsewhere, or several: status, CPU time and memory |
//! | [`versus`] | contests against Redis and memcached, which take turns instead of loads |
//! | [`judge`] | the server is judged: by its accounts, its verdicts on hits, its estimates of some keys, its lists of the largest, by windows |
//! | `flight` | requests on their way: connections, the questions that wait on them, and how each ended |
//! | `send` | datagrams are filled from a script and leave |
//! | `receive` | answers are taken from the sockets and matched with their questions |
//! | `closed` | the closed loops, which send and receive: one for answers, one for adds that count exactly once |
//! | [`run`] | phases, one after the other, from their warm-up to the checks |
//! | [`report`] | results are shown: live, as a table, as a page with plots, as percentile text |
//! | `cli` | the command line |

mod cli;
mod closed;
mod flight;
pub mod judge;
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
