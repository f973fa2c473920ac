//! The percentile text of HdrHistogram (`--hgrm`), which its plotters and `hdr-plot` read: four
//! columns, values in microseconds.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::output::{OutputError, write_text};
use crate::record::{LATENCY_MAX_NS, Latency, Record, slug};

/// Number of slots in the first bucket of a histogram with 3 significant digits: 2 * 10^3, up to a power of 2.
const SUB_BUCKETS: u64 = 2048;

/// Writes every latency of a record and returns the files. The response time of the only phase goes to `path`, and
/// its service time to `path` with `service` before the ending. With several phases, each phase's name is also in the
/// file name.
///
/// # Errors
/// Fails with the [`OutputError`] of the first file that cannot be written; those before it stay.
pub(super) fn write(record: &Record, path: &Path) -> Result<Vec<PathBuf>, OutputError> {
    let timed = || record.phases.iter().filter(|p| p.response_time.is_some());
    let several = timed().count() > 1;
    let mut written = Vec::new();
    for phase in timed() {
        let name = several.then(|| slug(&phase.name));
        let kinds = [
            (None, &phase.response_time),
            (Some("service"), &phase.service_time),
        ];
        for (kind, latency) in kinds {
            let Some(latency) = latency else { continue };
            let path = with_infix(path, name.as_deref(), kind);
            write_text("the percentile text", &path, text(latency).as_bytes())?;
            written.push(path);
        }
    }
    Ok(written)
}

/// The text in the format of `HistogramLogProcessor`.
#[must_use]
pub(super) fn text(latency: &Latency) -> String {
    let us = |ns: f64| ns / 1000.0;
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for point in &latency.distribution {
        let value = us(point.ns as f64);
        let (quantile, count) = (point.quantile, point.count);
        // Writing into a string does not fail.
        let _ = write!(text, "{value:12.3} {quantile:2.12} {count:10}");
        let _ = match quantile < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)),
            false => writeln!(text),
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {SUB_BUCKETS:12}]",
        us(latency.mean_ns),
        us(latency.stdev_ns),
        us(latency.max_ns as f64),
        latency.count,
        buckets(),
    );
    text
}

/// Number of buckets of a histogram up to [`LATENCY_MAX_NS`]; each is twice as wide as the one before.
fn buckets() -> u32 {
    (LATENCY_MAX_NS / SUB_BUCKETS).ilog2() + 2
}

fn with_infix(path: &Path, name: Option<&str>, kind: Option<&str>) -> PathBuf {
    let mut file = path.file_stem().unwrap_or_default().to_owned();
    for infix in [name, kind].into_iter().flatten() {
        file.push(".");
        file.push(infix);
    }
    if let Some(ending) = path.extension() {
        file.push(".");
        file.push(ending);
    }
    path.with_file_name(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::output::{check_file, testing};
    use crate::record::{latency_histogram, sample};

    #[test]
    fn the_text_is_what_the_original_prints() {
        let mut histogram = latency_histogram();
        for ns in [1_000, 2_000, 3_000, 1_000_000] {
            histogram.record(ns).unwrap();
        }
        let text = text(&Latency::of(&histogram).unwrap());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "       Value     Percentile TotalCount 1/(1-Percentile)",
                "",
                "       1.000 0.000000000000          1           1.00",
            ]
        );
        assert!(lines.contains(&"       2.000 0.500000000000          2           2.00"));
        assert_eq!(
            lines[lines.len() - 4],
            "    1000.447 1.000000000000          4"
        );
        assert_eq!(
            lines[lines.len() - 2..],
            [
                "#[Max     =     1000.447, Total count    =            4]",
                "#[Buckets =           27, SubBuckets     =         2048]",
            ]
        );
    }

    #[test]
    fn there_is_a_file_for_each_latency_and_no_other() {
        let directory = testing::directory("hgrm");
        let path = directory.join("run.hgrm");
        let (both, [adds, counts]) = (
            sample::record(),
            [0, 1].map(|phase| Record {
                phases: vec![sample::record().phases.remove(phase)],
                ..sample::record()
            }),
        );
        let mut twice = both.clone();
        twice.phases[0].response_time = twice.phases[1].response_time.clone();
        let phases = twice.phases.iter().map(|phase| slug(&phase.name));
        let phases: Vec<_> = phases.map(|name| format!("run.{name}.hgrm")).collect();
        let service = format!("run.{}.service.hgrm", slug(&twice.phases[1].name));
        let once = vec!["run.hgrm".to_owned(), "run.service.hgrm".to_owned()];
        for (record, mut expected) in [
            (adds, vec![]),
            (counts, once.clone()),
            (both, once),
            (twice, [phases, vec![service]].concat()),
        ] {
            check_file("it", &path).unwrap();
            let written = write(&record, &path).unwrap();
            let entries = std::fs::read_dir(&directory).unwrap();
            let mut there: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            there.sort();
            expected.sort();
            let expected: Vec<_> = expected.iter().map(|name| directory.join(name)).collect();
            assert_eq!(there, expected);
            for path in &there {
                assert!(written.contains(path));
                assert!(std::fs::metadata(path).unwrap().len() > 0);
                std::fs::remove_file(path).unwrap();
            }
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn file_names_tell_phase_and_kind() {
        let path = Path::new("out/run.hgrm");
        assert_eq!(with_infix(path, None, None), path);
        assert_eq!(
            with_infix(path, Some("counts"), Some("service")),
            Path::new("out/run.counts.service.hgrm")
        );
        assert_eq!(
            with_infix(Path::new("run"), None, Some("service")),
            Path::new("run.service")
        );
    }
}
