//! The families of sketches, windows and limits. Their names come from the configuration.

use std::fmt;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Page;
use crate::status::{
    LikelyErrorStatus, LimitStatus, NamedSketchStatus, TopListStatus, WindowStatus,
};

impl Page<'_> {
    pub(super) fn sketches(&mut self, sketches: &[NamedSketchStatus]) -> fmt::Result {
        let by_name = |value: fn(&NamedSketchStatus) -> u64| {
            sketches
                .iter()
                .map(move |sketch| (sketch.name.as_str(), value(sketch)))
        };
        self.counters(
            "rmbd_sketches_weight",
            "Sum of all weights added on this node, by sketch",
            "sketch",
            by_name(|sketch| sketch.sketch.total_weight),
        )?;
        self.gauges(
            "rmbd_sketches_memory",
            "Memory of all cells, snapshots and exact counts, by sketch",
            Some(&Unit::Bytes),
            "sketch",
            by_name(|sketch| sketch.sketch.memory_bytes),
        )?;
        self.errors(sketches)?;
        self.audits(sketches)?;
        self.windows(
            "rmbd_window_weight",
            "Sum of all weights in the window, on all nodes, by sketch and window in milliseconds",
            sketches,
            |window| window.weight,
        )?;
        self.windows(
            "rmbd_window_error",
            "By how much an estimate in the window may exceed the truth now: epsilon * weight",
            sketches,
            |window| window.error,
        )?;
        self.top(sketches)
    }

    /// The lists of the largest keys, in numbers: keys are never labels.
    fn top(&mut self, sketches: &[NamedSketchStatus]) -> fmt::Result {
        /// Name, help and value of a family.
        type Family = (
            &'static str,
            &'static str,
            fn(&TopListStatus) -> Option<u64>,
        );
        let families: [Family; 5] = [
            (
                "rmbd_sketch_top_keys",
                "Keys in the list of the largest, by sketch and window in milliseconds (0 is all time)",
                |list| Some(list.keys),
            ),
            (
                "rmbd_sketch_top_keys_named",
                "Keys in the list of the largest of which the names are known",
                |list| Some(list.named),
            ),
            (
                "rmbd_sketch_top_complete_above",
                "Every key of which more was counted is in the list of the largest",
                |list| list.complete_above,
            ),
            (
                "rmbd_sketch_top_certain",
                "Sum of what was certainly added to the largest keys",
                |list| Some(list.certain),
            ),
            (
                "rmbd_sketch_top_weight",
                "Sum of all weights, of all keys, when the list of the largest was made",
                |list| Some(list.total_weight),
            ),
        ];
        for (name, help, value) in families {
            let mut family = self
                .0
                .encode_descriptor(name, help, None, MetricType::Gauge)?;
            for sketch in sketches {
                for list in &sketch.top.lists {
                    let window_ms = list.window_ms.to_string();
                    let labels = [("sketch", sketch.name.as_str()), ("window", &window_ms)];
                    if let Some(value) = value(list) {
                        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is promised of the error of each sketch, and beside it what was sampled.
    fn errors(&mut self, sketches: &[NamedSketchStatus]) -> fmt::Result {
        let mut promised = self.0.encode_descriptor(
            "rmbd_sketch_error",
            "By how much an estimate may exceed the truth now, by sketch: epsilon * weight, on all nodes",
            None,
            MetricType::Gauge,
        )?;
        for sketch in sketches {
            let error = sketch.promised_error();
            let labels = [("sketch", sketch.name.as_str())];
            ConstGauge::new(error).encode(promised.encode_family(&labels)?)?;
        }
        let mut likely = self.0.encode_descriptor(
            "rmbd_sketch_error_likely",
            "By how much estimates of this share of the keys exceed the truth at most, as it was sampled",
            None,
            MetricType::Gauge,
        )?;
        for (name, error) in sampled(sketches) {
            let most = format!("{:.4}", error.share);
            for (share, value) in [("0.5", error.median), (&most, error.quantile)] {
                let labels = [("sketch", name), ("share", share)];
                ConstGauge::new(value).encode(likely.encode_family(&labels)?)?;
            }
        }
        let mut mean = self.0.encode_descriptor(
            "rmbd_sketch_error_likely_mean",
            "By how much estimates exceed the truth on average, as it was sampled",
            None,
            MetricType::Gauge,
        )?;
        sampled(sketches).try_for_each(|(name, error)| {
            ConstGauge::new(error.mean).encode(mean.encode_family(&[("sketch", name)])?)
        })
    }

    fn windows(
        &mut self,
        name: &str,
        help: &str,
        sketches: &[NamedSketchStatus],
        value: fn(&WindowStatus) -> u64,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for sketch in sketches {
            for window in &sketch.windows {
                let span_ms = window.span_ms.to_string();
                let labels = [("sketch", sketch.name.as_str()), ("window", &span_ms)];
                ConstGauge::new(value(window)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn limits(&mut self, limits: &[LimitStatus]) -> fmt::Result {
        /// Name, help and value of a family.
        type Family = (&'static str, &'static str, fn(&LimitStatus) -> u64);
        let families: [Family; 5] = [
            ("rmbd_limit_asked", "Hits by the name of a limit", |limit| {
                limit.asked
            }),
            (
                "rmbd_limit_over",
                "Hits that were over their limit",
                |limit| limit.over,
            ),
            (
                "rmbd_limit_near",
                "Hits within their limit, and above four fifths of it",
                |limit| limit.near,
            ),
            (
                "rmbd_limit_unsure",
                "Hits of which the sketch could not tell whether they were within their limit",
                |limit| limit.unsure,
            ),
            (
                "rmbd_limit_shadow",
                "Hits over their limit that were admitted, as it is in shadow mode",
                |limit| limit.shadow,
            ),
        ];
        families.into_iter().try_for_each(|(name, help, value)| {
            let values = limits.iter();
            let values = values.map(|limit| (limit.name.as_str(), value(limit)));
            self.counters(name, help, "limit", values)
        })
    }

    pub(super) fn pardons(&mut self, in_force: u64) -> fmt::Result {
        self.gauge(
            "rmbd_pardons",
            "Pardons in force, from whichever node of the cluster they are",
            None,
            in_force,
        )
    }
}

/// The names of sketches that were sampled, and what came out.
fn sampled(sketches: &[NamedSketchStatus]) -> impl Iterator<Item = (&str, LikelyErrorStatus)> {
    let errors = sketches.iter();
    errors.filter_map(|sketch| Some((sketch.name.as_str(), sketch.sketch.likely_error?)))
}
