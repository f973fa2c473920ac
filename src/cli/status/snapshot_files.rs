//! What is kept from one start to the next, for people.

use std::fmt::Write as _;

use super::{bytes, duration, printable};
use crate::status::SnapshotFilesStatus;

/// Writes a line about the file, and one for each thing that is not as it should be.
pub(super) fn write(files: &SnapshotFilesStatus, out: &mut String) -> std::fmt::Result {
    if !files.enabled {
        return Ok(());
    }
    let age = match files.age_s {
        Some(age_s) => format!("{} old", duration(age_s)),
        None => "none yet".to_owned(),
    };
    write!(out, "snapshot   {age}")?;
    if let Some(last) = &files.last {
        write!(out, ", {} in {:.2} s", bytes(last.bytes), last.duration_s)?;
    }
    writeln!(
        out,
        ", written {}, nothing new {}, failed {}, in {}",
        files.written,
        files.unchanged,
        files.failures,
        printable(files.folder.as_deref().unwrap_or("-")),
    )?;
    if let Some(loaded) = &files.loaded {
        writeln!(
            out,
            "loaded     slices {}, total weight {}, {} old, {}",
            loaded.slices,
            loaded.weight,
            duration(loaded.age_s),
            match loaded.is_resumed {
                true => "gone on as the same writer",
                false => "begun as another writer",
            }
        )?;
        if loaded.refused > 0 {
            writeln!(out, "skipped    no room for slices {}", loaded.refused)?;
        }
        for skipped in &loaded.skipped {
            writeln!(out, "skipped    {}", printable(skipped))?;
        }
    }
    if files.overdue || files.failure.is_some() {
        let failure = files.failure.as_deref().unwrap_or("it takes too long");
        let overdue = if files.overdue { "overdue: " } else { "" };
        writeln!(out, "warning    snapshot {overdue}{}", printable(failure))?;
    }
    for aside in &files.set_aside {
        writeln!(
            out,
            "set aside  {}{}",
            printable(aside.file.as_deref().unwrap_or("not kept")),
            match &aside.reason {
                Some(reason) => format!(": {}", printable(reason)),
                None => " by an earlier start".to_owned(),
            }
        )?;
    }
    Ok(())
}
