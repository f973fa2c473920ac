//! Notes: sentences that a reader of the figures needs.

use crate::output::{exact, share, time_ns};
use crate::plan::Load;
use crate::record::Phase;

/// The note that the generator did not keep its own schedule.
pub(super) fn late(phase: &Phase) -> Option<String> {
    let schedule = phase.schedule.filter(|schedule| !schedule.kept)?;
    let sent = phase.sent.messages();
    let unsent = schedule.planned.saturating_sub(sent);
    let unsent = if unsent > 0 {
        format!(
            ", {} of {} planned messages never left",
            exact(unsent),
            exact(schedule.planned)
        )
    } else {
        String::new()
    };
    Some(format!(
        "{}: the generator did not keep its own schedule (1 % left more than {} late, the latest {}{unsent}): the response times are its own and not the server's. Use a lower --rate, more --threads or --pack.",
        phase.name,
        time_ns(schedule.late_p99_ns as f64),
        time_ns(schedule.late_max_ns as f64),
    ))
}

/// The note that datagrams did not arrive.
pub(super) fn lost(phase: &Phase, load: &Load) -> Option<String> {
    let received = phase.received?;
    let lost = phase.sent.datagrams.saturating_sub(received.datagrams);
    if lost == 0 {
        return None;
    }
    let drops = exact(received.dropped_by_kernel);
    let how = if load.gso {
        format!(
            "the loss is sent less received, since the kernel counts {drops} dropped trains of up \
             to 64 datagrams (GSO)"
        )
    } else {
        format!("the kernel counted {drops} of them as dropped at the server's sockets")
    };
    Some(format!(
        "{}: {} of {} datagrams were lost ({}): {how}.",
        phase.name,
        exact(lost),
        exact(phase.sent.datagrams),
        share(lost as f64 / phase.sent.datagrams as f64),
    ))
}

/// The note that lines of a file were longer than the legacy format carries.
pub(super) fn cut(load: &Load) -> Option<String> {
    let cut = load.keys.cut();
    (cut > 0).then(|| {
        format!(
            "{}: {} lines of {} were longer than 139 bytes and were cut, as the protocol has it.",
            load.name,
            exact(cut),
            load.keys.spec()
        )
    })
}
