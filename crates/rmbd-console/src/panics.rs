//! Panics as lines of the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write;
use std::panic::{PanicHookInfo, set_hook};
use std::thread;

use super::note;

/// Reports panics as notes from now on. The standard hook writes to standard error itself. It may wait there for
/// ever, and then the thread that panicked would neither end nor be missed.
pub(crate) fn report_panics() {
    set_hook(Box::new(|info| note(&report(info, &Backtrace::capture()))));
}

fn report(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let current = thread::current();
    let mut text = format!("thread '{}' {info}", current.name().unwrap_or("unnamed"));
    // A backtrace is written if RUST_BACKTRACE asks for one.
    if backtrace.status() == BacktraceStatus::Captured {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nstack backtrace:\n{backtrace}");
    }
    text
}
