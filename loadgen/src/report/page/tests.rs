#![allow(clippy::unwrap_used)]

use super::*;
use crate::output::{check_file, testing};
use crate::record::{Outcome, ReadError, SCHEMA, sample};

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = page_text(&sample::record()).unwrap();
    for outside in [
        "<script",
        "<link rel=\"stylesheet",
        "url(",
        "@import",
        " src=",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    let addresses = page.matches("http").count();
    let names = page.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(
        addresses, names,
        "only the name of SVG's namespace is there"
    );
}

#[test]
fn a_page_shows_what_was_measured_and_by_what_command() {
    let record = sample::record();
    let page = page_text(&record).unwrap();
    assert!(
        page.contains("loadgen --rate 50k --keys &#39;file:my &lt;log&gt;&#39;")
            || page.contains("loadgen --rate 50k --keys 'file:my &lt;log&gt;'")
    );
    for phase in &record.phases {
        assert!(page.contains(&phase.name));
    }
    for check in &record.checks {
        assert!(page.contains(&check.name) && page.contains(&check.detail));
    }
    assert!(page.contains("1 of 4 checks failed"));
    assert!(page.contains("did not keep its plan</b> in “counts while adds run”"));
    assert!(record.notes.iter().all(|note| page.contains(note)));
    assert!(page.contains("750 ns work, 1.50 µs spinning"), "{page}");
    // Each of the four plots is there for a desk and for a phone.
    assert_eq!(page.matches("<svg").count(), 2 * 4);
}

#[test]
fn a_page_shows_what_was_admitted_and_each_node() {
    let mut record = sample::record();
    record.phases = vec![sample::takes()];
    let page = page_text(&record).unwrap();
    for part in [
        "takes, limit 100, in 5 s (smooth)",
        "104 of a key, 100 allowed; at least 97 in any full window",
        "10.0.0.2:1",
        "Admitted within 5 s, key with the most",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(page.matches("<svg").count(), 2 * 5);
}

#[test]
fn nothing_from_a_record_becomes_markup() {
    let mut record = sample::record();
    let hostile = "</style><script>alert(1)</script>\"><svg onload=x>";
    record.phases[0].name = hostile.to_owned();
    record.environment.command = hostile.to_owned();
    record.server.address = hostile.to_owned();
    record.notes.push(hostile.to_owned());
    let page = page_text(&record).unwrap();
    assert!(!page.contains("<script"));
    assert!(!page.contains("<svg onload"));
}

#[test]
fn a_record_without_anything_still_makes_a_page() {
    let mut record = sample::record();
    record.server = Server::default();
    record.truth = None;
    record.checks.clear();
    let bare = &mut record.phases[0];
    (bare.received, bare.cost, bare.generator_cpu_s) = (None, None, None);
    bare.series.clear();
    record.phases.truncate(1);
    assert_eq!(page_text(&record).unwrap().matches("<svg").count(), 0);
    record.phases.clear();
    page_text(&record).unwrap();
}

#[test]
fn plots_become_files_that_stand_alone() {
    let directory = testing::directory("plots");
    let files = figures::export(&sample::record(), &directory).unwrap();
    assert_eq!(files.len(), 4);
    assert_eq!(files[0], directory.join("adds-flood-throughput.svg"));
    for file in files {
        let svg = std::fs::read_to_string(file).unwrap();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox"));
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }
    std::fs::remove_dir_all(directory).unwrap();
}

/// The rules for a dark ground find colours by their exact text.
#[test]
fn every_colour_of_a_plot_has_one_for_dark_ground() {
    let rules = dark_rules();
    for figure in sample::record()
        .phases
        .iter()
        .flat_map(|p| figures::of(p, Size::Wide))
    {
        let svg = figure.plot.element((560, 300)).unwrap();
        for attribute in ["fill=\"#", "stroke=\"#"] {
            for (at, _) in svg.match_indices(attribute) {
                let painted = &svg[at..at + attribute.len() + 7];
                assert!(rules.contains(painted), "{painted}");
            }
        }
    }
}

#[test]
fn a_record_survives_its_file() {
    let directory = testing::directory("record");
    let path = directory.join("run.json");
    let record = sample::record();
    record.write_json(&path).unwrap();
    assert!(Record::read_json(&path).unwrap() == record);
    assert!(!record.passed());

    let text = std::fs::read_to_string(&path).unwrap();
    let newer = text.replacen(&format!("\"schema\": {SCHEMA}"), "\"schema\": 999", 1);
    std::fs::write(&path, newer).unwrap();
    assert!(matches!(
        Record::read_json(&path),
        Err(ReadError::Schema { schema: 999, .. })
    ));
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(
        Record::read_json(&path),
        Err(ReadError::NotARecord { .. })
    ));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_path_that_cant_be_written_is_said_before_the_run() {
    let path = Path::new("/proc/no/such/directory/report.html");
    let error = check_file("the report", path).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("can't write the report to /proc/no")
    );
    let error = write(&sample::record(), path).unwrap_err();
    assert!(error.to_string().contains("/proc/no"));
}

#[test]
fn a_failed_check_fails_the_run() {
    let mut record = sample::record();
    record
        .checks
        .retain(|check| check.outcome != Outcome::Failed);
    assert!(record.passed());
}
