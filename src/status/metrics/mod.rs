//! `/metrics`: a [`Status`] in one of the two text formats that Prometheus reads.
//!
//! Names begin with `rmbd_`, units are base units, and counters end in `_total`. A label's values come from a list
//! that the program knows (types, reasons, thread numbers). Keys and addresses are never labels, because any sender
//! of datagrams could make as many of them as it likes.
//!
//! Formats: <https://prometheus.io/docs/specs/om/open_metrics_spec/>, and the older one, which everything reads:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

mod audit;
mod cluster;
mod envoy;
mod latency;
mod sketches;
mod snapshot_files;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, text as openmetrics,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::counters::{Single, singles};
use super::{
    CompactStatus, Datagrams, IoStatus, LogStatus, Messages, PeerStatus, Replies, RespStatus,
    SketchStatus, SpoeStatus, Status, ThreadStatus,
};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Version 0.0.4 of the format of Prometheus.
    Text,
    /// Version 1.0.0 of OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The content type of the text of [`encode`](Self::encode).
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The metrics in this format; see [`encode`].
    #[must_use]
    pub fn encode(self, status: &Status) -> String {
        match self {
            Self::Text => text::from_openmetrics(&encode(status)),
            Self::OpenMetrics => encode(status),
        }
    }
}

/// All numbers of `status`, and the process's CPU time and resident memory, as an OpenMetrics text that ends with `#
/// EOF`.
///
/// ```
/// # use rmbd::status::Status;
/// # fn show(status: &Status) {
/// let text = rmbd::status::metrics::encode(status);
/// assert!(text.ends_with("# EOF\n"));
/// # }
/// ```
pub fn encode(status: &Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        status: status.clone(),
        process: Process::now(),
    }));
    let mut text = String::with_capacity(TEXT_BYTES_USUAL);
    openmetrics::encode(&mut text, &registry).expect("a String takes whatever is written to it");
    text
}

/// Bytes of the text of a node with a few threads.
const TEXT_BYTES_USUAL: usize = 8 * 1024;

/// The values of one scrape.
#[derive(Debug)]
struct Scrape {
    status: Status,
    process: Process,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        page.node(&self.status)?;
        page.messages(&self.status.messages)?;
        page.datagrams(&self.status.datagrams)?;
        page.replies(&self.status.replies)?;
        page.latency(&self.status.latencies)?;
        page.sketch(&self.status.sketch)?;
        page.sketches(&self.status.sketches)?;
        page.limits(&self.status.limits)?;
        page.pardons(self.status.pardons)?;
        page.io(&self.status.io)?;
        page.compact(&self.status.compact)?;
        page.resp(&self.status.resp)?;
        page.spoe(&self.status.spoe)?;
        page.envoy(&self.status.envoy)?;
        page.singles(singles::http_api(&self.status.http_api))?;
        page.snapshot_files(&self.status.snapshot_files)?;
        page.log(&self.status.log)?;
        page.cluster(&self.status.cluster, self.status.is_ready())?;
        page.peers(&self.status.peers)?;
        page.process(&self.process)
    }
}

/// The text as it grows by one metric family for each call.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn node(&mut self, status: &Status) -> fmt::Result {
        self.info(
            "rmbd_build",
            "Version of the program",
            "version",
            &status.version,
        )?;
        self.gauge(
            "rmbd_ready",
            "1 while the data threads serve",
            None,
            u64::from(status.ready),
        )?;
        self.gauge(
            "rmbd_healthy",
            "0 where something of the node has ended by itself",
            None,
            u64::from(status.failure.is_none()),
        )?;
        self.gauge(
            "rmbd_uptime",
            "Time since the node was ready",
            Some(&Unit::Seconds),
            status.uptime_s,
        )
    }

    fn messages(&mut self, messages: &Messages) -> fmt::Result {
        let types = messages.by_type();
        self.counters(Messages::METRIC, Messages::HELP, "type", types)
    }

    fn datagrams(&mut self, datagrams: &Datagrams) -> fmt::Result {
        self.singles(singles::datagrams(datagrams))?;
        self.counters(
            "rmbd_datagrams_malformed",
            "Datagrams that could not be understood to their end, by reason",
            "reason",
            by_reason(&datagrams.malformed),
        )?;
        self.counters(
            "rmbd_datagrams_refused",
            "Messages understood but refused, by reason",
            "reason",
            by_reason(&datagrams.refused),
        )?;
        self.counter(
            "rmbd_datagrams_dropped_by_kernel",
            "Dropped because a receive buffer was full; a lower bound, trains of datagrams count once",
            None,
            datagrams.dropped_by_kernel,
        )
    }

    fn replies(&mut self, replies: &Replies) -> fmt::Result {
        self.counter(
            "rmbd_replies_sent",
            "Reply datagrams handed to the kernel",
            None,
            replies.sent,
        )?;
        self.counter(
            "rmbd_replies_dropped",
            "Reply datagrams that the kernel did not take",
            None,
            replies.dropped,
        )
    }

    fn sketch(&mut self, sketch: &SketchStatus) -> fmt::Result {
        self.info(
            "rmbd_sketch",
            "Hash family of the sketch",
            "hash",
            &sketch.hash,
        )?;
        self.gauge("rmbd_sketch_width", "Columns of a row", None, sketch.width)?;
        self.gauge("rmbd_sketch_depth", "Rows", None, sketch.depth)?;
        self.gauge(
            "rmbd_sketch_epsilon",
            "An estimate exceeds the truth by at most epsilon * weight",
            None,
            sketch.epsilon,
        )?;
        self.gauge(
            "rmbd_sketch_confidence",
            "Probability that the bound of epsilon holds",
            None,
            sketch.confidence,
        )?;
        self.gauge(
            "rmbd_sketch_memory",
            "Memory of all cells: this node's, the copy of what it told others, and what it holds of others",
            Some(&Unit::Bytes),
            sketch.memory_bytes,
        )?;
        self.counter(
            "rmbd_sketch_weight",
            "Sum of all weights added on this node",
            None,
            sketch.total_weight,
        )?;
        self.gauge(
            "rmbd_sketch_incomplete",
            "Whether something that others counted is not here for want of room",
            None,
            u64::from(sketch.incomplete),
        )
    }

    fn io(&mut self, io: &IoStatus) -> fmt::Result {
        self.info("rmbd_io", "Way of receiving", "backend", &io.backend)?;
        self.gauge("rmbd_threads", "Data threads", None, io.threads.len())?;
        self.counters(
            "rmbd_thread_datagrams",
            "Datagrams received, by data thread",
            "thread",
            by_thread(&io.threads, |thread| thread.datagrams),
        )?;
        self.counters(
            "rmbd_thread_dropped_by_kernel",
            "Drops at the socket's full receive buffer, by data thread",
            "thread",
            by_thread(&io.threads, |thread| thread.dropped_by_kernel),
        )?;
        self.counters_of(
            "rmbd_thread_spinning",
            "Time spent looking for datagrams while nothing was there, by data thread",
            Some(&Unit::Seconds),
            "thread",
            by_thread(&io.threads, |thread| thread.spinning_s),
        )?;
        self.gauges(
            "rmbd_thread_receive_buffer",
            "Size of the socket's receive buffer, by data thread",
            Some(&Unit::Bytes),
            "thread",
            by_thread(&io.threads, |thread| thread.receive_buffer_bytes),
        )
    }

    /// Encodes the families of clients of Redis's protocol; none where they are not served.
    fn resp(&mut self, resp: &RespStatus) -> fmt::Result {
        if resp.address.is_none() {
            return Ok(());
        }
        self.singles(singles::resp(resp))?;
        self.gauge(
            "rmbd_resp_connections",
            "Connections of clients of Redis's protocol",
            None,
            resp.connections,
        )?;
        self.gauge(
            "rmbd_resp_connections_max",
            "Connections of such clients that there may be",
            None,
            resp.connections_max,
        )
    }

    /// Encodes the families of HAProxy's offload protocol; none where it is not served.
    fn spoe(&mut self, spoe: &SpoeStatus) -> fmt::Result {
        if spoe.address.is_none() {
            return Ok(());
        }
        self.singles(singles::spoe(spoe))?;
        self.gauge(
            "rmbd_spoe_connections",
            "Connections of HAProxy",
            None,
            spoe.connections,
        )?;
        self.gauge(
            "rmbd_spoe_connections_max",
            "Connections of HAProxy that there may be",
            None,
            spoe.connections_max,
        )
    }

    /// Encodes the compact format's families. The boot is not a label: it changes with each start, and would make
    /// another series.
    fn compact(&mut self, compact: &CompactStatus) -> fmt::Result {
        self.singles(singles::compact(compact))?;
        self.gauge(
            "rmbd_compact_once_clients",
            "Places that exactly-once clients hold",
            None,
            compact.once_clients,
        )?;
        self.gauge(
            "rmbd_compact_once_clients_max",
            "Places that there are for exactly-once clients",
            None,
            compact.once_clients_max,
        )?;
        self.gauge(
            "rmbd_max_weight",
            "The largest weight of one add",
            None,
            compact.max_weight,
        )
    }

    fn log(&mut self, log: &LogStatus) -> fmt::Result {
        let reasons = [
            ("dropped", log.lines_dropped),
            ("refused", log.lines_refused),
        ];
        self.counters(
            "rmbd_log_lines_missing",
            "Lines that standard error did not take: dropped since they came too fast for it, or refused by it",
            "reason",
            reasons,
        )
    }

    /// Encodes the legacy peers' families. Rows and restarts are gauges: a peer that leaves the list takes its rows
    /// out of the sum. `rmbd_messages_total` counts by type what only grows.
    fn peers(&mut self, peers: &[PeerStatus]) -> fmt::Result {
        let pushing = peers.iter().filter(|peer| peer.pushing).count();
        let sum =
            |rows: fn(&PeerStatus) -> u64| peers.iter().map(rows).fold(0, u64::saturating_add);
        self.gauge("rmbd_peers", "Legacy peers known", None, peers.len())?;
        self.gauge(
            "rmbd_peers_pushing",
            "Legacy peers that this node pushes to",
            None,
            pushing,
        )?;
        self.gauge(
            "rmbd_peers_rows_sent",
            "Rows sent to the peers known now",
            None,
            sum(|peer| peer.rows_sent),
        )?;
        self.gauge(
            "rmbd_peers_rows_acked",
            "Rows acknowledged by the peers known now",
            None,
            sum(|peer| peer.rows_acked),
        )?;
        self.gauge(
            "rmbd_peers_rows_received",
            "Rows received from the peers known now",
            None,
            sum(|peer| peer.rows_received),
        )?;
        self.gauge(
            "rmbd_peers_restarts",
            "Restarts seen of the peers known now",
            None,
            sum(|peer| peer.restarts),
        )
    }

    fn process(&mut self, process: &Process) -> fmt::Result {
        self.counter(
            "process_cpu",
            "User and system CPU time spent",
            Some(&Unit::Seconds),
            process.cpu_s,
        )?;
        // A container may hide /proc; then the line is left out.
        process.resident_bytes.map_or(Ok(()), |bytes| {
            self.gauge(
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                bytes,
            )
        })
    }

    fn info(&mut self, name: &str, help: &str, label: &str, value: &str) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Info)?
            .encode_info(&[(label, value)])
    }

    fn singles(&mut self, mut counters: impl Iterator<Item = Single>) -> fmt::Result {
        counters.try_for_each(|one| self.counter(one.metric, one.help, None, one.value))
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn counters<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.counters_of(name, help, None, label, values)
    }

    fn counters_of<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        values: impl IntoIterator<Item = (L, impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        values.into_iter().try_for_each(|(of, value)| {
            ConstCounter::new(value).encode(family.encode_family(&[(label, of.as_ref())])?)
        })
    }

    fn gauges<L: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(of, value)| {
            ConstGauge::new(value).encode(family.encode_family(&[(label, of.as_ref())])?)
        })
    }
}

fn by_reason(reasons: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    reasons
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count))
}

fn by_thread<V>(
    threads: &[ThreadStatus],
    value: fn(&ThreadStatus) -> V,
) -> impl Iterator<Item = (String, V)> {
    threads
        .iter()
        .enumerate()
        .map(move |(number, thread)| (number.to_string(), value(thread)))
}

/// The kernel's numbers about this process.
#[derive(Debug)]
struct Process {
    cpu_s: f64,
    resident_bytes: Option<u64>,
}

impl Process {
    fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self {
            cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 * 1e-9,
            resident_bytes: resident_bytes(),
        }
    }
}

/// Bytes of resident memory: the second field of `/proc/self/statm`, in pages (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}
