//! The lines of `rmbd status` about keys that are counted exactly.

use std::fmt::{self, Write as _};

use super::printable;
use crate::status::{AuditErrorsStatus, AuditStatus, NamedSketchStatus, WindowStatus};

/// A line if the sketch is audited, and another one if that shows that something is broken.
pub(super) fn write(named: &NamedSketchStatus, out: &mut String) -> fmt::Result {
    let Some(audit) = &named.sketch.audit else {
        return Ok(());
    };
    let name = printable(&named.name);
    writeln!(
        out,
        "audit      {name} {}; verdicts {}, over {}, wrong {}",
        errors(audit),
        audit.verdicts,
        audit.verdicts_over,
        audit.verdicts_wrong
    )?;
    if audit.too_low > 0 {
        writeln!(
            out,
            "warning    {name}: {} counts were below the truth, which must not be: the node counts wrong",
            audit.too_low
        )?;
    }
    Ok(())
}

/// What a window erred by; empty where none was over yet.
pub(super) fn of_window(window: &WindowStatus) -> String {
    window.audit.map_or_else(String::new, |errors| {
        format!(
            "; audited: at most {} for {:.4} of {} keys, at most {}",
            errors.quantile, errors.share, errors.keys, errors.largest
        )
    })
}

fn errors(audit: &AuditStatus) -> String {
    match &audit.errors {
        _ if audit.missed_weight > 0 => format!(
            "knows nothing of errors: a weight of {} was not counted exactly",
            audit.missed_weight
        ),
        None => "has not looked yet".to_owned(),
        Some(errors) => found(errors),
    }
}

fn found(errors: &AuditErrorsStatus) -> String {
    format!(
        "{} keys exact, 1 in {:.0}: {:.1} too high on average, at most {} for {:.4} of them, at most {}; \
         above epsilon {}",
        errors.keys,
        1.0 / errors.sampled,
        errors.mean,
        errors.quantile,
        errors.share,
        errors.largest,
        errors.above_epsilon
    )
}
