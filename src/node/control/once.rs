//! Log lines about exactly-once clients that find no place. Data threads only count them, so that none waits for a
//! log.

use std::time::Duration;

use tracing::warn;

use crate::node::overview::Overview;
use rmbd_proto::compact::Problem;

/// Time between two lines. A client that was refused comes again, and the counters go on meanwhile.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The counters as they were when the last line was written.
#[derive(Debug, Default)]
pub(super) struct OnceWatch {
    said: Option<Duration>,
    table: u64,
    network: u64,
}

impl OnceWatch {
    /// Takes back the places of silent clients, and logs whether others were refused. It is called once a round.
    pub(super) fn round(&mut self, overview: &Overview) {
        let (now, once) = (overview.shared().now(), overview.shared().engine().once());
        once.lapse(now);
        let [table, network] = [Problem::OnceTableFull, Problem::OnceNetworkFull]
            .map(|problem| overview.refused_for(problem));
        if let Some(line) = self.line(now, table, network) {
            let (clients, room) = (once.clients(), once.clients_max());
            let from = once.refused_last();
            let from = from.map_or_else(String::new, |network| format!(", lastly from {network}"));
            warn!(
                "exactly-once clients: {clients} of {room} places are held, and new ones were refused: {line}\
                 {from}; --allow says who may ask (/status counts on)"
            );
        }
    }

    /// The line about these counters, if it is time for one.
    fn line(&mut self, now: Duration, table: u64, network: u64) -> Option<String> {
        let is_new = (table, network) != (self.table, self.network);
        if !is_new || self.said.is_some_and(|said| now < said + SAY_AGAIN) {
            return None;
        }
        let line = format!(
            "{} for want of a place, {} of networks that hold their share",
            table.saturating_sub(self.table),
            network.saturating_sub(self.network)
        );
        (self.said, self.table, self.network) = (Some(now), table, network);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_said_at_once_and_then_once_a_minute() {
        let mut watch = OnceWatch::default();
        let at = Duration::from_secs;
        assert_eq!(watch.line(at(0), 0, 0), None);
        let said = |table, network| {
            Some(format!(
                "{table} for want of a place, {network} of networks that hold their share"
            ))
        };
        assert_eq!(watch.line(at(1), 0, 2), said(0, 2));
        for second in 2..61 {
            assert_eq!(watch.line(at(second), second, 2), None);
        }
        assert_eq!(watch.line(at(61), 70, 3), said(70, 1));
        assert_eq!(watch.line(at(1000), 70, 3), None, "nothing new");
    }
}
