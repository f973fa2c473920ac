//! The text format 0.0.4, converted from OpenMetrics text.
//!
//! The two formats have the same samples and differ in the lines above them. The older one names a family like its
//! samples (so that `_total` and `_info` are part of the name). It has neither units nor infos, escapes no quotes in
//! a help text, and has no end mark.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.

/// Converts text that the encoder has written: `HELP` and then `TYPE` above the samples of each family.
pub(super) fn from_openmetrics(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        match line.strip_prefix("# ").map(|line| line.split_once(' ')) {
            Some(Some(("HELP", about))) => help = about.split_once(' '),
            Some(Some(("TYPE", about))) => {
                let (name, kind) = about.split_once(' ').unwrap_or((about, "unknown"));
                let (suffix, kind) = as_named_before(kind);
                if let Some((_, help)) = help.take() {
                    let help = help.replace("\\\"", "\"");
                    text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            // UNIT and EOF lines are left out.
            Some(_) => {}
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// The suffix of a family's samples, and its type in the older format.
fn as_named_before(kind: &str) -> (&'static str, &str) {
    match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "stateset" => ("", "gauge"),
        "unknown" => ("", "untyped"),
        _ => ("", kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples() {
        let openmetrics = "\
            # HELP a Some \\\"a\\\" and \\\\.\n# TYPE a counter\n# UNIT a_seconds seconds\na_total{x=\"# y\"} 1\n\
            # HELP b_build B\n# TYPE b_build info\nb_build_info{version=\"1\"} 1\n\
            # HELP c C\n# TYPE c gauge\nc 2\nc{x=\"z\"} 3\n# TYPE d unknown\nd 4\n# EOF\n";
        let text = "\
            # HELP a_total Some \"a\" and \\\\.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n\
            # HELP b_build_info B\n# TYPE b_build_info gauge\nb_build_info{version=\"1\"} 1\n\
            # HELP c C\n# TYPE c gauge\nc 2\nc{x=\"z\"} 3\n# TYPE d untyped\nd 4\n";
        assert_eq!(from_openmetrics(openmetrics), text);
    }
}
