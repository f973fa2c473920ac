//! The lines of `rmbd status` about sketches, windows and limits.

use std::fmt::{self, Write as _};

use super::{audit, bytes, printable, sampled};
use crate::cli::asked::time;
use crate::config::span_text;
use crate::status::{AmountStatus, LimitStatus, NamedSketchStatus, Status, TopStatus};

/// A line for each sketch, its audit, each window, each limit, and each limit whose error is large, and one for
/// pardons.
pub(super) fn write(status: &Status, out: &mut String) -> fmt::Result {
    for sketch in &status.sketches {
        write_sketch(sketch, out)?;
    }
    for limit in &status.limits {
        write_limit(limit, out)?;
    }
    if status.pardons > 0 {
        writeln!(out, "pardons    {} in force", status.pardons)?;
    }
    Ok(())
}

fn write_sketch(named: &NamedSketchStatus, out: &mut String) -> fmt::Result {
    let (name, sketch) = (printable(&named.name), &named.sketch);
    writeln!(
        out,
        "sketch     {name} {}x{} {}, {} (cells {}, windows {}, lists {}), N {}, at most {:.1} too high{}{}",
        sketch.depth,
        sketch.width,
        printable(&sketch.hash),
        bytes(sketch.memory_bytes),
        bytes(named.cells_memory_bytes()),
        bytes(named.windows_memory_bytes()),
        bytes(named.top.memory_bytes),
        named.known_weight,
        named.promised_error(),
        sampled(sketch),
        if sketch.incomplete {
            ", incomplete"
        } else {
            ""
        }
    )?;
    audit::write(named, out)?;
    for window in &named.windows {
        writeln!(
            out,
            "window     {name} {} by {}, {}x{}, {}, N {}, at most {} too high{}",
            span_text(window.span_ms),
            span_text(window.step_ms),
            sketch.depth,
            window.width,
            bytes(window.memory_bytes),
            window.weight,
            window.error,
            audit::of_window(window)
        )?;
    }
    write_top(&name, &named.top, out)
}

/// A line for each list of the largest keys.
fn write_top(name: &str, top: &TopStatus, out: &mut String) -> fmt::Result {
    if top.most == 0 {
        return Ok(());
    }
    if top.lists.is_empty() {
        return writeln!(out, "top        {name} of all time, no list is made yet");
    }
    for list in &top.lists {
        let whole = match list.window_ms {
            0 => "of all time".to_owned(),
            ms => format!("in {}", time(ms)),
        };
        let complete = match list.complete_above {
            Some(above) => format!("complete above {above}"),
            None => "not complete".to_owned(),
        };
        writeln!(
            out,
            "top        {name} {whole}, {} keys of at most {}, {} named, certain {} of N {}, {complete}",
            list.keys, top.most, list.named, list.certain, list.total_weight
        )?;
    }
    Ok(())
}

fn write_limit(limit: &LimitStatus, out: &mut String) -> fmt::Result {
    let amounts: Vec<_> = limit.amounts.iter().map(amount).collect();
    let (name, sketch) = (printable(&limit.name), printable(&limit.sketch));
    write!(
        out,
        "limit      {name} of {sketch}: {}, {}, asked {}, over {}, near {}, unsure {}",
        amounts.join(", "),
        if limit.takes { "take" } else { "count" },
        limit.asked,
        limit.over,
        limit.near,
        limit.unsure
    )?;
    if limit.shadow_mode {
        write!(out, ", shadow mode admitted {}", limit.shadow)?;
    }
    writeln!(out)?;
    let large = limit.amounts.iter().filter(|amount| amount.error_is_large);
    for amount in large {
        writeln!(
            out,
            "warning    {name}: counts{} may be {} too high, which is much for a limit of {}: others' keys may use it \
             up; a larger width of {sketch} or its window makes that smaller",
            match amount.window_ms {
                0 => String::new(),
                ms => format!(" in {}", time(ms)),
            },
            amount.error,
            amount.limit
        )?;
    }
    Ok(())
}

fn amount(amount: &AmountStatus) -> String {
    match amount.window_ms {
        0 => amount.limit.to_string(),
        ms => format!("{}/{}", amount.limit, span_text(ms)),
    }
}
