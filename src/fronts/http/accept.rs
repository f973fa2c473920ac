//! The text format of metrics that a request prefers (RFC 9110, 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::status::metrics::Format;

/// Chooses OpenMetrics only if it is preferred to the other format. If neither is accepted, it chooses the other one
/// all the same, which a person can read.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let values = headers.get_all(ACCEPT).iter();
    let accepted: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let accepted = accepted.join(",");
    if accepted.trim().is_empty() {
        return Format::Text;
    }
    let openmetrics = quality(&accepted, ("application", "openmetrics-text", "1.0.0"));
    let text = quality(&accepted, ("text", "plain", "0.0.4"));
    if openmetrics > text {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// The quality of a type in thousandths: that of the most specific range, and of several such ranges the best.
fn quality(accepted: &str, wanted: (&str, &str, &str)) -> u16 {
    let ranges = split_unquoted(accepted, ',').filter_map(|range| rank(range, wanted));
    ranges.max().map_or(0, |(_, quality)| quality)
}

/// How specific a range is for a type, and its quality; `None` if the range is for another type.
fn rank(range: &str, (main, sub, version): (&str, &str, &str)) -> Option<(u8, u16)> {
    let mut parts = split_unquoted(range, ';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let mut rank = match kind.split_once('/')? {
        ("*", "*") => 0,
        (of, "*") if of == main => 1,
        (of, to) if of == main && to == sub => 2,
        _ => return None,
    };
    let mut quality = 1000;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = thousandths(value)?,
            "version" if value == version => rank = 3,
            "version" => return None,
            "charset" if !value.eq_ignore_ascii_case("utf-8") => return None,
            // Parameters of names are ignored: ours need no escaping in any scheme.
            _ => {}
        }
    }
    Some((rank, quality))
}

/// Parses a quality from `0` to `1` with at most three digits behind the point.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, rest) = value.split_once('.').unwrap_or((value, ""));
    let is_number = rest.len() <= 3 && rest.bytes().all(|b| b.is_ascii_digit());
    let rest: u16 = format!("{rest:0<3}").parse().ok().filter(|_| is_number)?;
    match (whole, rest) {
        ("0", rest) => Some(rest),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Splits a text at separators that are not in quotes.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        format(&headers)
    }

    #[test]
    fn openmetrics_is_for_those_who_prefer_it() {
        // These are the headers that Prometheus 2.0, 2.30, 2.50 and 3 send.
        for accept in [
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
        ] {
            assert_eq!(of(&[accept]), Format::Text, "{accept}");
        }
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text",
            "APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.001, text/plain;q=0",
            "application/*, text/*;q=0.9",
        ] {
            assert_eq!(of(&[accept]), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;q=0.5, text/plain;q=0.5",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;version=2.0.0",
            "image/png",
            ",;=,/,;q=,*",
        ] {
            assert_eq!(of(&[accept]), Format::Text, "{accept}");
        }
        assert_eq!(of(&[]), Format::Text);
        let split = ["text/plain;q=0.1", "application/openmetrics-text;q=0.2"];
        assert_eq!(of(&split), Format::OpenMetrics);
    }

    /// The rule of the RFC, for one range after the other.
    fn oracle(ranges: &[(usize, u16)]) -> Format {
        let quality = |order: [usize; 4]| {
            let of = |kind: usize| {
                let all = ranges.iter().filter(|(it, _)| *it == kind);
                all.map(|(_, quality)| *quality).max()
            };
            order.into_iter().find_map(of).unwrap_or(0)
        };
        if quality([0, 1, 2, 6]) > quality([3, 4, 5, 6]) {
            Format::OpenMetrics
        } else {
            Format::Text
        }
    }

    /// Bytes that a header may have.
    fn bytes_of_a_header(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![32u8..127, 128u8..=255];
        proptest::collection::vec(byte, 0..most)
    }

    proptest! {
        #[test]
        fn the_best_of_the_most_specific_ranges_decides(
            ranges in proptest::collection::vec((0usize..9, 0u16..=10), 1..8)
        ) {
            let names = [
                "application/openmetrics-text;version=1.0.0",
                "application/openmetrics-text",
                "application/*",
                "text/plain;version=0.0.4",
                "text/plain",
                "text/*",
                "*/*",
                "image/*",
                "text/html",
            ];
            let written: Vec<String> = ranges
                .iter()
                .map(|(kind, q)| format!("{} ; q={}.{}", names[*kind], q / 10, q % 10))
                .collect();
            let accept = written.join(" , ");
            prop_assert_eq!(of(&[&accept]), oracle(&ranges), "{}", accept);
        }

        #[test]
        fn no_header_panics(bytes in bytes_of_a_header(60)) {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT, axum::http::HeaderValue::from_bytes(&bytes).unwrap());
            format(&headers);
        }
    }
}
