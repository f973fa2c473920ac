//! Figures of several rounds, in the form of tables.

/// The median; with an even number of figures, the greater one of the two in the middle.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures);
    sorted[sorted.len() / 2]
}

/// A text `median [min-max]`.
pub(crate) fn median_min_max(figures: &[f64], digits: usize) -> String {
    let sorted = sorted(figures);
    let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
    format!(
        "{:.digits$} [{min:.digits$}-{max:.digits$}]",
        median(&sorted)
    )
}

/// A text `median [max]`, or `-` if there is no figure.
pub(crate) fn median_max(figures: &[f64], digits: usize) -> String {
    let Some(max) = sorted(figures).pop() else {
        return "-".to_owned();
    };
    format!("{:.digits$} [{max:.digits$}]", median(figures))
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The time at a quantile of ascending times, in microseconds; not a number where there are too few.
pub(crate) fn quantile_us(ascending: &[std::time::Duration], quantile: f64) -> f64 {
    let place = (ascending.len() as f64 * quantile) as usize;
    let time = ascending.get(place);
    time.map_or(f64::NAN, |time| time.as_nanos() as f64 / 1e3)
}
