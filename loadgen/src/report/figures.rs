//! The plots of a phase, for pages and files.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::output::{
    OutputError, make_directory, seconds, thousands, time_ns, without_empty_decimals, write_text,
};
use crate::record::{Admitted, AdmittedSecond, Interval, Latency, Phase, Record, slug};
use crate::report::plot::{Axis, Ink, Line, Plot, PlotError};

/// The reader of a plot. Making a plot smaller is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// The plot takes half a page, or is in a README.
    Wide,
    /// The plot is on a phone.
    Narrow,
}

impl Size {
    /// Width and height in pixels.
    #[must_use]
    pub(super) fn px(self) -> (u32, u32) {
        match self {
            Self::Wide => (560, 300),
            Self::Narrow => (350, 280),
        }
    }

    /// Largest number of labels along the x axis.
    fn x_ticks(self) -> usize {
        match self {
            Self::Wide => 10,
            Self::Narrow => 6,
        }
    }
}

/// A plot of a phase, with its name in file names.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// The name: `throughput`, `latency`, `percentiles`, `admitted` or `window`.
    pub kind: &'static str,
    /// The plot.
    pub plot: Plot,
}

/// All plots of a phase for which there are figures.
#[must_use]
pub(super) fn of(phase: &Phase, size: Size) -> Vec<Figure> {
    let figures = [
        ("throughput", throughput(phase, size)),
        ("latency", latency_over_time(phase, size)),
        ("percentiles", latency_by_percentile(phase, size)),
        ("admitted", admitted_over_time(phase, size)),
        ("window", admitted_in_window(phase, size)),
    ];
    let drawn = figures.into_iter();
    drawn
        .filter_map(|(kind, plot)| Some(Figure { kind, plot: plot? }))
        .collect()
}

/// Why plots could not be written. Those written before stay.
#[derive(Debug, Error)]
pub(super) enum ExportError {
    /// A plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Writes every plot of a record into a directory as `PHASE-KIND.svg`, and returns the files. The directory is made
/// if it is missing.
///
/// # Errors
/// Fails with [`ExportError`].
pub(super) fn export(record: &Record, directory: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let mut drawn = Vec::new();
    for phase in &record.phases {
        for Figure { kind, mut plot } in of(phase, Size::Wide) {
            plot.title = format!("{}: {}", phase.name, plot.title);
            let path = directory.join(format!("{}-{kind}.svg", slug(&phase.name)));
            drawn.push((path, plot.file(Size::Wide.px())?));
        }
    }
    make_directory("the plots", directory)?;
    for (path, text) in &drawn {
        write_text("a plot", path, text.as_bytes())?;
    }
    Ok(drawn.into_iter().map(|(path, _)| path).collect())
}

fn throughput(phase: &Phase, size: Size) -> Option<Plot> {
    let per_s = |value: fn(&Interval) -> Option<u64>| {
        move |interval: &Interval| Some(value(interval)? as f64 / interval.seconds)
    };
    // Equal lines lie on top of each other, and can be seen all the same.
    let mut lines = vec![Line {
        width_px: 7,
        opacity: 0.35,
        ..line(
            "sent",
            Ink::Other,
            over_time(phase, true, per_s(|i| Some(i.sent))),
        )
    }];
    lines.push(Line {
        width_px: 4,
        opacity: 0.7,
        ..line(
            "received",
            Ink::Main,
            over_time(phase, true, per_s(|i| i.received)),
        )
    });
    if phase.answers.is_some() {
        lines.push(line(
            "answered",
            Ink::Dim,
            over_time(phase, true, per_s(|i| Some(i.answered))),
        ));
    }
    if phase.series.iter().any(|interval| interval.timed_out > 0) {
        lines.push(line(
            "unanswered",
            Ink::Bad,
            over_time(phase, true, per_s(|i| Some(i.timed_out))),
        ));
    }
    Some(Plot {
        title: "messages per second".to_owned(),
        x: time_axis(phase.seconds, size),
        y: from_zero(highest(&lines)?, thousands),
        lines: with_points(lines),
    })
}

fn latency_over_time(phase: &Phase, size: Size) -> Option<Plot> {
    let log = |value: fn(&Interval) -> Option<u64>| {
        move |interval: &Interval| Some((value(interval)?.max(1) as f64).log10())
    };
    let lines = vec![
        Line {
            opacity: 0.45,
            ..line(
                "longest",
                Ink::Main,
                over_time(phase, false, log(|i| i.response_max_ns)),
            )
        },
        line(
            "service 99 %",
            Ink::Other,
            over_time(phase, false, log(|i| i.service_p99_ns)),
        ),
        line(
            "response 99 %",
            Ink::Main,
            over_time(phase, false, log(|i| i.response_p99_ns)),
        ),
        line(
            "50 %",
            Ink::Dim,
            over_time(phase, false, log(|i| i.response_p50_ns)),
        ),
    ];
    Some(Plot {
        title: "latency over time".to_owned(),
        x: time_axis(phase.series.last()?.end_s.max(phase.seconds), size),
        y: log_time(&lines)?,
        lines: with_points(lines),
    })
}

fn latency_by_percentile(phase: &Phase, size: Size) -> Option<Plot> {
    let curve = |name, ink, latency: &Option<Latency>| {
        line(name, ink, latency.as_ref().map(curve).unwrap_or_default())
    };
    let lines = vec![
        curve("service time", Ink::Other, &phase.service_time),
        curve("response time", Ink::Main, &phase.response_time),
    ];
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let y = log_time(&lines)?;
    Some(Plot {
        title: "latency by percentile".to_owned(),
        x: percentile_axis(end, size),
        y,
        lines: with_points(lines),
    })
}

/// What was asked and admitted in each second, of the key of which most was admitted, and what the limit allows on
/// average.
fn admitted_over_time(phase: &Phase, size: Size) -> Option<Plot> {
    let admitted = phase.window_truth.as_ref()?.admitted.as_ref()?;
    let window_s = phase.window_truth.as_ref()?.window_ms as f64 / 1e3;
    let per_s = |value: fn(&AdmittedSecond) -> u64| {
        let seconds = admitted.series.iter();
        seconds
            .map(|second| (second.end_s - 0.5, value(second) as f64))
            .collect()
    };
    let lines = vec![
        line("admitted", Ink::Main, per_s(|second| second.admitted)),
        level(
            "allowed on average",
            admitted,
            admitted.allowed as f64 / window_s,
        ),
    ];
    limited(
        "admitted per second, key with the most",
        admitted,
        lines,
        size,
    )
}

/// The largest weight in any window that ends in each second, of the same key, and the limit.
fn admitted_in_window(phase: &Phase, size: Size) -> Option<Plot> {
    let truth = phase.window_truth.as_ref()?;
    let admitted = truth.admitted.as_ref()?;
    let seconds = admitted.series.iter();
    let points = seconds.map(|second| (second.end_s - 0.5, second.in_window as f64));
    let lines = vec![
        line("admitted", Ink::Main, points.collect()),
        level("allowed", admitted, admitted.allowed as f64),
    ];
    let window = seconds_of(truth.window_ms);
    limited(
        &format!("admitted within {window}, key with the most"),
        admitted,
        lines,
        size,
    )
}

fn seconds_of(ms: u64) -> String {
    round(&seconds(ms as f64 / 1e3))
}

/// A level line.
fn level(name: &str, admitted: &Admitted, at: f64) -> Line {
    let end = admitted.series.last().map_or(1.0, |second| second.end_s);
    let ends = [(0.0, at), (end, at)];
    line(name, Ink::Bad, ends.into())
}

fn limited(title: &str, admitted: &Admitted, lines: Vec<Line>, size: Size) -> Option<Plot> {
    Some(Plot {
        title: title.to_owned(),
        x: time_axis(admitted.series.last()?.end_s, size),
        y: from_zero(highest(&lines)?, thousands),
        lines: with_points(lines),
    })
}

/// The curve over the number of nines: 0.9 is at 1, 0.99 at 2. It ends at one request of all.
fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    let end = (latency.count.max(2) as f64).log10();
    let nines = |quantile: f64| (-(1.0 - quantile).log10()).min(end);
    let points = latency.distribution.iter();
    points
        .map(|point| (nines(point.quantile), (point.ns.max(1) as f64).log10()))
        .collect()
}

fn percentile_axis(end: f64, size: Size) -> Axis {
    let unit = if size == Size::Wide { " %" } else { "" };
    let half = (0.5_f64.log10().abs(), format!("50{unit}"));
    let nines = (1..=end.floor() as usize).map(|nines| {
        let decimals = nines.saturating_sub(2);
        let percent = 100.0 - 10_f64.powi(2 - nines as i32);
        (nines as f64, format!("{percent:.decimals$}{unit}"))
    });
    Axis {
        range: 0.0..end,
        ticks: std::iter::once(half).chain(nines).collect(),
    }
}

fn line(name: &str, ink: Ink, points: Vec<(f64, f64)>) -> Line {
    Line {
        name: name.to_owned(),
        ink,
        opacity: 1.0,
        width_px: 2,
        points,
    }
}

/// A line over time, with the value of each interval at the interval's middle. `while_sending` leaves out intervals
/// after the measured part, in which the last answers came in.
fn over_time(
    phase: &Phase,
    while_sending: bool,
    value: impl Fn(&Interval) -> Option<f64>,
) -> Vec<(f64, f64)> {
    // A shorter interval belongs to the last answers, too.
    let end = phase.seconds - 0.05;
    let series = phase.series.iter();
    series
        .filter(|interval| interval.seconds > 0.0)
        .filter(|interval| !while_sending || interval.end_s - interval.seconds < end)
        .filter_map(|interval| Some((interval.end_s - interval.seconds / 2.0, value(interval)?)))
        .collect()
}

fn with_points(lines: Vec<Line>) -> Vec<Line> {
    let lines = lines.into_iter();
    lines.filter(|line| !line.points.is_empty()).collect()
}

fn highest(lines: &[Line]) -> Option<f64> {
    let points = lines.iter().flat_map(|line| &line.points);
    points.map(|(_, y)| *y).reduce(f64::max)
}

fn lowest(lines: &[Line]) -> Option<f64> {
    let points = lines.iter().flat_map(|line| &line.points);
    points.map(|(_, y)| *y).reduce(f64::min)
}

fn time_axis(end: f64, size: Size) -> Axis {
    let mut ticks = ticks(end, size.x_ticks());
    if end >= 3.0 {
        ticks.retain(|at| at.fract() == 0.0);
    }
    Axis {
        range: 0.0..end.max(f64::MIN_POSITIVE),
        ticks: label(ticks, seconds),
    }
}

fn from_zero(highest: f64, name: impl Fn(f64) -> String) -> Axis {
    let highest = highest.max(1.0) * 1.08;
    Axis {
        range: 0.0..highest,
        ticks: label(ticks(highest, 8), name),
    }
}

/// A logarithmic axis from the power of ten (or 2 or 5 times one) below all lines to the one above.
fn log_time(lines: &[Line]) -> Option<Axis> {
    let (low, high) = (lowest(lines)?, highest(lines)?);
    let decades = low.floor() as i32..=high.ceil() as i32;
    let steps: Vec<f64> = decades
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| (step * 10_f64.powi(decade)).log10()))
        .collect();
    let bottom = steps
        .iter()
        .copied()
        .filter(|at| *at <= low)
        .reduce(f64::max);
    let top = steps
        .iter()
        .copied()
        .filter(|at| *at > high)
        .reduce(f64::min);
    let range = bottom.unwrap_or(low)..top.unwrap_or(high + 0.3);
    let inside = || {
        steps
            .iter()
            .copied()
            .filter(|at| range.contains(at) || *at == range.end)
    };
    let tens: Vec<f64> = inside().filter(|at| at.fract().abs() < 1e-9).collect();
    let ticks = if inside().count() <= 7 {
        inside().collect()
    } else {
        tens
    };
    Some(Axis {
        ticks: label(ticks, |at| time_ns(10_f64.powf(at).round())),
        range,
    })
}

fn label(ticks: Vec<f64>, name: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let ticks = ticks.into_iter();
    ticks.map(|at| (at, round(&name(at)))).collect()
}

/// A text without empty decimals: `5.00 M` becomes `5 M`.
fn round(text: &str) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number = without_empty_decimals(number);
    format!("{number} {unit}").trim_end().to_owned()
}

/// Ticks from 0 to `end` in at most `count` steps of 1, 2 or 5 times a power of ten.
fn ticks(end: f64, count: usize) -> Vec<f64> {
    let least = end / count.max(1) as f64;
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| *step >= least);
    let step = step.unwrap_or(end);
    (0..=(end / step + 1e-9) as usize)
        .map(|n| n as f64 * step)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(5.0, 6), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(ticks(21.0, 6), [0.0, 5.0, 10.0, 15.0, 20.0]);
        for end in [0.013, 0.7, 3.0, 999.0, 1e7] {
            let ticks = ticks(end, 6);
            assert!((3..=7).contains(&ticks.len()), "{end}: {ticks:?}");
            assert!(*ticks.last().unwrap() <= end * 1.000_001);
        }
    }

    #[test]
    fn labels_of_ticks_are_short() {
        for (long, short) in [
            ("5.00 M", "5 M"),
            ("0.500 s", "0.5 s"),
            ("100 µs", "100 µs"),
            ("0", "0"),
        ] {
            assert_eq!(round(long), short);
        }
    }

    /// In the last interval nothing is sent, but answers still come.
    #[test]
    fn waiting_for_the_last_answers_is_no_drop_of_the_rate() {
        let mut phase = crate::record::sample::record().phases.remove(1);
        let points =
            |phase: &Phase, at: usize| of(phase, Size::Wide)[at].plot.lines[0].points.len();
        let before = (points(&phase, 0), points(&phase, 1));
        let mut last = *phase.series.last().unwrap();
        last.end_s += 1.0;
        last.sent = 0;
        phase.series.push(last);
        assert_eq!(
            (points(&phase, 0), points(&phase, 1)),
            (before.0, before.1 + 1)
        );
    }

    #[test]
    fn what_was_admitted_is_drawn_beside_what_was_allowed() {
        let phase = crate::record::sample::takes();
        let figures = of(&phase, Size::Wide);
        let kinds: Vec<_> = figures.iter().map(|figure| figure.kind).collect();
        assert_eq!(kinds[3..], ["admitted", "window"]);
        let window = &figures[4].plot;
        assert_eq!(window.title, "admitted within 5 s, key with the most");
        assert_eq!(window.lines[0].points[0], (0.5, 104.0));
        assert_eq!(window.lines[1].points, [(0.0, 100.0), (8.0, 100.0)]);
        assert!(window.y.range.contains(&104.0));
        let average = &figures[3].plot.lines[1];
        assert_eq!(average.points, [(0.0, 20.0), (8.0, 20.0)]);
    }

    #[test]
    fn a_log_axis_holds_its_lines() {
        for (low, high) in [(87.0, 91.0), (900.0, 2.1e6), (1.0, 6e10), (1000.0, 1000.0)] {
            let points = vec![(0.0, f64::log10(low)), (1.0, f64::log10(high))];
            let axis = log_time(&[line("", Ink::Main, points)]).unwrap();
            assert!(axis.range.start <= f64::log10(low) && f64::log10(high) < axis.range.end);
            assert!(
                (2..=12).contains(&axis.ticks.len()),
                "{low} {high}: {:?}",
                axis.ticks
            );
        }
    }

    #[test]
    fn percentiles_are_written_with_as_many_nines_as_they_have() {
        let axis = percentile_axis(4.2, Size::Wide);
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
