//! How long operations take.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Page;
use crate::status::LatencyStatus;

impl Page<'_> {
    /// Encodes the histogram. A kind of operation begins with the first one of it.
    pub(super) fn latency(&mut self, kinds: &[LatencyStatus]) -> fmt::Result {
        if kinds.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(
            "rmbd_latency",
            "Time from taking an operation of the kernel until its reply is given to it; of http, envoy and spoe from \
             the whole request to its answer",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        kinds.iter().try_for_each(|kind| {
            let octaves = kind.octaves().into_iter();
            let buckets: Vec<(f64, u64)> = octaves
                .map(|(end, count)| (end.unwrap_or(f64::INFINITY), count))
                .collect();
            family
                .encode_family(&[("operation", kind.operation.as_str())])?
                .encode_histogram::<NoLabelSet>(kind.sum_s, kind.count, &buckets, None)
        })
    }
}
