//! The known name that a wrong one may stand for.

use std::fmt::Write as _;

/// Names that differ in more than this share of their characters are not alike.
const ALIKE_ABOVE: f64 = 0.7;
/// Number of names that are listed where none is alike.
const LISTED_MAX: usize = 16;

/// What to tell somebody who wrote `wrong`: the known name that is most like it, or, if none is, the known names.
pub(super) fn advice<'n>(wrong: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    if let Some(name) = nearest(wrong, known.clone()) {
        return format!("do you mean `{name}`?");
    }
    let mut text = "known are".to_owned();
    for (place, name) in known.clone().take(LISTED_MAX).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{name}", if place == 0 { " " } else { ", " });
    }
    if known.count() > LISTED_MAX {
        text.push_str(" and others");
    }
    text
}

fn nearest<'n>(wrong: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // What is much longer than any name is like none, and comparing takes time that is quadratic.
    let wrong: String = wrong.chars().take(100).collect();
    let wrong = wrong.to_lowercase().replace('_', "-");
    let likeness = known.map(|name| (strsim::jaro_winkler(&wrong, name), name));
    let nearest = likeness.max_by(|one, other| one.0.total_cmp(&other.0));
    nearest
        .filter(|&(likeness, _)| likeness > ALIKE_ABOVE)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let known = [
            "address",
            "width",
            "depth",
            "gossip-rate",
            "gossip-interval",
        ];
        for (wrong, meant) in [
            ("widht", "width"),
            ("Depth", "depth"),
            ("gosip-rate", "gossip-rate"),
            ("gossip_interval", "gossip-interval"),
            ("adress", "address"),
        ] {
            assert_eq!(nearest(wrong, known.into_iter()), Some(meant));
        }
        assert_eq!(nearest("zzz", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), known.into_iter()), None);
        let told = advice("zzz", known.into_iter());
        assert_eq!(
            told,
            "known are address, width, depth, gossip-rate, gossip-interval"
        );
    }
}
