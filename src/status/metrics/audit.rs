//! The families of what is counted exactly beside the sketches.

use std::fmt;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Page;
use crate::status::{AuditErrorsStatus, AuditStatus, NamedSketchStatus};

/// The families of a window: name, help and value.
const WINDOWS: [Family<AuditErrorsStatus, f64>; 3] = [
    (
        "rmbd_window_audit_keys",
        "Keys whose own counts in a window were compared with exact ones, the last time that one was over",
        |errors| errors.keys as f64,
    ),
    (
        "rmbd_window_audit_error_mean",
        "By how much own counts of these keys exceeded the truth on average",
        |errors| errors.mean,
    ),
    (
        "rmbd_window_audit_error_largest",
        "By how much own counts of these keys exceeded the truth at most",
        |errors| errors.largest as f64,
    ),
];

/// Name, help and value of a family.
type Family<S, V> = (&'static str, &'static str, fn(&S) -> V);

const COUNTERS: [Family<AuditStatus, u64>; 5] = [
    (
        "rmbd_sketch_audit_too_low",
        "Estimates that were below an exact count, by sketch: it must stay 0",
        |audit| audit.too_low,
    ),
    (
        "rmbd_sketch_audit_missed_weight",
        "Weight of audited keys that could not be counted exactly; then nothing is told of errors",
        |audit| audit.missed_weight,
    ),
    (
        "rmbd_sketch_audit_verdicts",
        "Verdicts on audited keys by counts of all time",
        |audit| audit.verdicts,
    ),
    (
        "rmbd_sketch_audit_verdicts_over",
        "Of these verdicts those that a limit is passed",
        |audit| audit.verdicts_over,
    ),
    (
        "rmbd_sketch_audit_verdicts_wrong",
        "Of those the ones that were wrong by what the sketch errs",
        |audit| audit.verdicts_wrong,
    ),
];

const GAUGES: [Family<AuditErrorsStatus, f64>; 5] = [
    (
        "rmbd_sketch_audit_keys",
        "Keys that are counted exactly on this node beside the sketch",
        |errors| errors.keys as f64,
    ),
    (
        "rmbd_sketch_audit_sampled",
        "The part of all keys that is counted exactly",
        |errors| errors.sampled,
    ),
    (
        "rmbd_sketch_audit_error_mean",
        "By how much own counts of audited keys exceed the truth on average",
        |errors| errors.mean,
    ),
    (
        "rmbd_sketch_audit_error_largest",
        "By how much own counts of audited keys exceed the truth at most",
        |errors| errors.largest as f64,
    ),
    (
        "rmbd_sketch_audit_above_epsilon",
        "The part of audited keys whose own counts err by more than epsilon * weight",
        |errors| errors.part_above_epsilon(),
    ),
];

impl Page<'_> {
    pub(super) fn audits(&mut self, sketches: &[NamedSketchStatus]) -> fmt::Result {
        for (name, help, value) in COUNTERS {
            let values = audited(sketches).map(|(sketch, audit)| (sketch, value(&audit)));
            self.counters(name, help, "sketch", values)?;
        }
        let told = || {
            let errors = |(name, audit): (_, AuditStatus)| Some((name, audit.errors?));
            audited(sketches).filter_map(errors)
        };
        for (name, help, value) in GAUGES {
            let mut family = self
                .0
                .encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (name, errors) in told() {
                let labels = [("sketch", name)];
                ConstGauge::new(value(&errors)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut quantiles = self.0.encode_descriptor(
            "rmbd_sketch_audit_error",
            "By how much own counts of this share of the audited keys exceed the truth at most",
            None,
            MetricType::Gauge,
        )?;
        told().try_for_each(|(name, errors)| {
            let share = format!("{:.4}", errors.share);
            let labels = [("sketch", name), ("share", &share)];
            ConstGauge::new(errors.quantile).encode(quantiles.encode_family(&labels)?)
        })?;
        self.audits_of_windows(sketches)
    }

    fn audits_of_windows(&mut self, sketches: &[NamedSketchStatus]) -> fmt::Result {
        for (name, help, value) in WINDOWS {
            let mut family = self
                .0
                .encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (name, span_ms, errors) in windows(sketches) {
                let labels = [("sketch", name), ("window", &span_ms)];
                ConstGauge::new(value(&errors)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut quantiles = self.0.encode_descriptor(
            "rmbd_window_audit_error",
            "By how much own counts of this share of these keys exceeded the truth at most",
            None,
            MetricType::Gauge,
        )?;
        windows(sketches).try_for_each(|(name, span_ms, errors)| {
            let share = format!("{:.4}", errors.share);
            let labels = [("sketch", name), ("window", &span_ms), ("share", &share)];
            ConstGauge::new(errors.quantile).encode(quantiles.encode_family(&labels)?)
        })
    }
}

/// The windows that are audited: the sketch, milliseconds, and what was found.
fn windows(
    sketches: &[NamedSketchStatus],
) -> impl Iterator<Item = (&str, String, AuditErrorsStatus)> {
    sketches.iter().flat_map(|sketch| {
        let windows = sketch.windows.iter();
        windows.filter_map(|window| {
            let errors = window.audit?;
            Some((sketch.name.as_str(), window.span_ms.to_string(), errors))
        })
    })
}

/// The sketches that are audited.
fn audited(sketches: &[NamedSketchStatus]) -> impl Iterator<Item = (&str, AuditStatus)> {
    let audits = sketches.iter();
    audits.filter_map(|sketch| Some((sketch.name.as_str(), sketch.sketch.audit?)))
}
