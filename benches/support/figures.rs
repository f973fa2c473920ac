//! Figures of several rounds, as they stand in tables.

/// The one in the middle; of two in the middle, the greater.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures);
    sorted[sorted.len() / 2]
}

/// `median [min-max]`.
pub(crate) fn median_min_max(figures: &[f64], digits: usize) -> String {
    let sorted = sorted(figures);
    let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
    format!(
        "{:.digits$} [{min:.digits$}-{max:.digits$}]",
        median(&sorted)
    )
}

/// `median [max]`; `-` where there is no figure.
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
