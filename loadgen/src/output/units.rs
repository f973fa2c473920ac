//! Figures for people: three digits and a unit.

/// Three significant digits, without a unit: `0.123`, `1.23`, `12.3`, `123`.
#[must_use]
pub(crate) fn digits(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        _ if magnitude == 0.0 || magnitude >= 99.95 => 0,
        _ if magnitude >= 9.995 => 1,
        _ if magnitude >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// A number with a letter for thousands: `12.3 k`, `1.23 M`. Below 1 000 it has none.
#[must_use]
pub(crate) fn thousands(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        _ if magnitude >= 999.5e6 => format!("{} G", digits(value / 1e9)),
        _ if magnitude >= 999.5e3 => format!("{} M", digits(value / 1e6)),
        _ if magnitude >= 999.5 => format!("{} k", digits(value / 1e3)),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => digits(value),
    }
}

/// All digits of a number in groups of three: `12 345 678`, with spaces that do not break a line.
#[must_use]
pub(crate) fn exact(value: u64) -> String {
    let plain = value.to_string();
    let mut grouped = String::with_capacity(plain.len() * 2);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time: `87 ns`, `12.3 µs`, `1.23 ms`, `1.23 s`.
#[must_use]
pub(crate) fn time_ns(ns: f64) -> String {
    match ns.abs() {
        magnitude if magnitude >= 999.5e6 => format!("{} s", digits(ns / 1e9)),
        magnitude if magnitude >= 999.5e3 => format!("{} ms", digits(ns / 1e6)),
        magnitude if magnitude >= 999.5 => format!("{} µs", digits(ns / 1e3)),
        _ if ns.fract() == 0.0 => format!("{ns} ns"),
        _ => format!("{} ns", digits(ns)),
    }
}

/// Memory, in powers of 1 024: `16.0 MiB`.
#[must_use]
pub(crate) fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", digits(value / 1024.0)),
        0x10_0000..0x4000_0000 => format!("{} MiB", digits(value / 1_048_576.0)),
        _ => format!("{} GiB", digits(value / 1_073_741_824.0)),
    }
}

/// A share as per cent: `0 %`, `0.012 %`, `1.23 %`, `100 %`.
#[must_use]
pub(crate) fn share(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_owned(),
        // With three decimals so small a share would show as none.
        percent if percent.abs() < 0.001 => "< 0.001 %".to_owned(),
        percent => format!("{} %", digits(percent)),
    }
}

/// Seconds with their unit: `5 s`, `0.25 s`.
#[must_use]
pub(crate) fn seconds(seconds: f64) -> String {
    if (seconds - seconds.round()).abs() < 0.005 {
        format!("{seconds:.0} s")
    } else {
        format!("{} s", without_empty_decimals(&digits(seconds)))
    }
}

/// Removes empty decimals: `5.00` becomes `5`, `0.500` becomes `0.5`, and `100` stays.
pub(crate) fn without_empty_decimals(number: &str) -> &str {
    match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (-1.5, "-1.50"),
        ] {
            assert_eq!(digits(value), text);
        }
        for (value, text) in [
            (7.0, "7"),
            (1234.0, "1.23 k"),
            (999_600.0, "1.00 M"),
            (12_345_678.0, "12.3 M"),
            (2e9, "2.00 G"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn times_sizes_and_shares() {
        assert_eq!(time_ns(87.0), "87 ns");
        assert_eq!(time_ns(37.25), "37.2 ns");
        assert_eq!(time_ns(12_340.0), "12.3 µs");
        assert_eq!(time_ns(1.5e9), "1.50 s");
        assert_eq!(bytes(16 << 20), "16.0 MiB");
        assert_eq!(share(0.0), "0 %");
        assert_eq!(share(0.000_001), "< 0.001 %");
        assert_eq!(share(0.0183), "1.83 %");
        assert_eq!(seconds(5.001), "5 s");
        assert_eq!(seconds(0.5), "0.5 s");
        assert_eq!(exact(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(exact(12), "12");
    }
}
