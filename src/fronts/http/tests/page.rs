//! Tests that the page loads nothing from elsewhere, and of what it shows in a browser.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine;
use sha2::{Digest, Sha256};

use super::*;
use crate::status::testing::{denied, top};
use crate::status::{AmountStatus, Datagrams, LogStatus, SnapshotFilesStatus, WindowStatus};
use rmbd_testkit::browser;

#[test]
fn the_page_may_run_its_own_script_and_nothing_else() {
    let answer = Server::start().get("/");
    let (script, style) = (sha256("script"), sha256("style"));
    let expected = format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    assert_eq!(
        answer.header("content-security-policy"),
        expected,
        "put these into PAGE_POLICY"
    );
}

/// Base64 of the hash of the page's only element of that name, as a browser computes it.
fn sha256(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    assert_eq!(PAGE.matches(&open).count(), 1);
    let text = PAGE
        .split_once(&open)
        .unwrap()
        .1
        .split_once(&close)
        .unwrap()
        .0;
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text))
}

#[test]
fn the_page_loads_nothing_and_writes_no_markup() {
    let without_namespace = PAGE.replace("http://www.w3.org/2000/svg", "");
    for forbidden in [
        "http:",
        "https:",
        "src=",
        "@import",
        "url(",
        " style=",
        " onclick=",
        " onload=",
    ] {
        assert!(!without_namespace.contains(forbidden), "{forbidden}");
    }
    for sink in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!PAGE.contains(sink), "{sink}");
    }
}

/// A node whose clock goes a second further with each question for its status. In this second it counts.
struct Busy {
    status: Status,
    asked: AtomicU64,
    shows_keys: bool,
}

impl StatusSource for Busy {
    fn status(&self) -> Status {
        let second = self.asked.fetch_add(1, Relaxed);
        let mut status = self.status.clone();
        status.uptime_s += second as f64;
        for (sketch, weight) in status.sketches.iter_mut().zip([1_234, 77]) {
            sketch.sketch.total_weight += weight * second;
        }
        for limit in &mut status.limits {
            limit.asked += 530 * second;
            limit.over += 41 * second;
            limit.near += 23 * second;
            limit.unsure += 19 * second;
            limit.shadow += 17 * second;
        }
        status
    }

    fn detail(&self, _: &DetailQuestion) -> Result<Detail, DetailError> {
        unreachable!("the page asks for no key");
    }

    fn top(&self, question: &TopQuestion, shows_keys: bool) -> Result<TopDocument, TopError> {
        top(question, shows_keys)
    }

    fn denied(
        &self,
        question: &DeniedQuestion,
        shows_keys: bool,
    ) -> Result<DeniedDocument, DeniedError> {
        denied(question, shows_keys)
    }

    fn may_see_keys(&self, _: IpAddr, _: bool) -> bool {
        self.shows_keys
    }
}

/// The page of a node with this status, in a browser.
fn in_browser(status: Status) -> Option<String> {
    in_browser_of(status, true)
}

/// The same for somebody who may see names or not.
fn in_browser_of(status: Status, shows_keys: bool) -> Option<String> {
    let busy = Busy {
        status,
        asked: AtomicU64::new(0),
        shows_keys,
    };
    let server = Server::with(Limits::default(), Arc::new(busy));
    let page = browser::content(&format!("http://{}/", server.address))?;
    assert!(!page.contains("does not answer"), "its script fails");
    Some(page)
}

/// The part of the page that has this id: a section, or a table's body.
fn part<'p>(page: &'p str, tag: &str, id: &str) -> &'p str {
    let (_, behind) = page.split_once(&format!("id=\"{id}\"")).expect(id);
    behind.split_once(&format!("</{tag}>")).expect(tag).0
}

/// The texts of the rows of a table's body, cells apart by a bar.
fn rows(page: &str, id: &str) -> Vec<String> {
    let rows = part(page, "tbody", id).split("<tr>").skip(1);
    let cells = |row: &str| {
        row.replace("</th>", "|")
            .replace("</td>", "|")
            .replace("</div>", ";")
    };
    rows.map(|row| text_of(&cells(row))).collect()
}

/// A text without its markup, and with plain spaces.
fn text_of(markup: &str) -> String {
    let behind_tags = markup.split('<').map(|it| match it.split_once('>') {
        Some((_, text)) => text,
        None => it,
    });
    let text: String = behind_tags.collect();
    text.replace(['\u{202f}', '\u{a0}'], " ")
        .replace("&nbsp;", " ")
}

fn is_hidden(page: &str, id: &str) -> bool {
    part(page, "section", id)
        .split_once('>')
        .unwrap()
        .0
        .contains("hidden")
}

fn window(span_ms: u64, step_ms: u64, width: u64, weight: u64, error: u64) -> WindowStatus {
    WindowStatus {
        span_ms,
        step_ms,
        width,
        epsilon: std::f64::consts::E / width as f64,
        memory_bytes: 1 << 20,
        weight,
        error,
        audit: None,
    }
}

fn amount(limit: u64, window_ms: u64, error: u64) -> AmountStatus {
    AmountStatus {
        limit,
        window_ms,
        error,
        error_is_large: error > limit / 10,
    }
}

/// Two sketches with three windows, and two limits; the error is large against one amount of the second one.
fn with_limits() -> Status {
    let mut status = fake_status();
    let minute = || window(60_000, 5_000, 131_072, 9_100, 0);
    status.sketches[0].windows = vec![minute()];
    status.sketches[1].windows = vec![minute(), window(3_600_000, 300_000, 4_096, 241_000, 159)];
    status.sketches[1].windows[0].audit = status.sketches[0].sketch.audit.unwrap().errors;
    status.sketches[1].known_weight = 9_000_000;
    let mut second = status.limits[0].clone();
    status.limits[0].sketch = "default".into();
    status.limits[0].amounts = vec![amount(1_000_000, 0, 155), amount(100, 30_000, 7)];
    second.name = "login".into();
    second.shadow_mode = true;
    second.amounts = vec![amount(5, 60_000, 0), amount(100, 1_800_000, 159)];
    status.limits.push(second);
    status
}

#[test]
fn sketches_windows_and_limits_are_shown_in_a_browser() {
    let Some(page) = in_browser(with_limits()) else {
        return;
    };
    assert_eq!(
        rows(&page, "errors"),
        [
            "all time default|72|0|8, 35|11, 23|all|&lt; 0.1 % of 1 000 000|",
            "1 min default|9 100|0|–|–|–|7 % of 100|",
            "all time logins|9 000 000|23|9, 36|12, 24|157 %|–|",
            "1 min logins|9 100|0|–|11, 23|all|0 % of 5|",
            "1 h logins|241 000|159|–|–|–|159 % of 100|",
        ]
    );
    assert_eq!(
        rows(&page, "sketches"),
        [
            "default||1 234|72|530|4 × 1 048 576|69.3 KiB|",
            "logins||77|9 000 000|530|4 × 1 048 576|71.3 KiB|",
        ]
    );
    assert_eq!(
        rows(&page, "windows"),
        [
            "1 min default|9 100|12 × 5 s|4 × 131 072|1 MiB|",
            "1 min logins|9 100|12 × 5 s|4 × 131 072|1 MiB|",
            "1 h logins|241 000|12 × 5 min|4 × 4 096|1 MiB|",
        ]
    );
    assert_eq!(
        rows(&page, "audit"),
        [
            "default|missed weight 1 071|64|4.4|11|23|25 %|5 071|4 071|3 071|",
            "logins|missed weight 1 073|64|4.6|12|24|25 %|5 073|4 073|3 073|",
        ]
    );
    let sum = text_of(part(&page, "span", "audit-sum"));
    assert!(sum.contains("4 144 counts were below the truth"), "{sum}");
    let limits = rows(&page, "limits");
    let starts = [
        "api;over is not counted, in default;||530/s;",
        "login;shadow mode, in logins;||530/s;",
    ];
    for (limit, start) in limits.iter().zip(starts) {
        assert!(limit.starts_with(start), "{limit}");
        for rate in ["|41/s;", "|23/s;", "|19/s;", "|17/s;"] {
            assert!(limit.contains(rate), "{limit}");
        }
    }
    assert!(
        limits[0].ends_with("1 000 000 in all time, error up to 155;100 in 30 s, error up to 7;|"),
        "{limits:?}"
    );
    let warning = part(&page, "ul", "large-errors");
    assert!(!warning.split_once('>').unwrap().0.contains("hidden"));
    let warning = text_of(warning);
    for words in [
        "Counts of other keys may refuse what is within: a larger width for the window or the sketch",
        "login, 100 in 30 min: an estimate may be 159 too high, in the sketch logins",
    ] {
        assert!(warning.contains(words), "{warning}");
    }
    assert_eq!(warning.matches("an estimate may be").count(), 1);
    assert!(!page.contains("<table><thead"), "every table has a caption");
}

#[test]
fn what_is_kept_is_shown_with_all_that_is_wrong_with_it() {
    let mut status = fake_status();
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    assert!(!is_hidden(&page, "files-card"));
    let shown = text_of(&part(&page, "dl", "files").replace("</dt>", " | "));
    for words in [
        "all is in a file that was counted until | 1 min 1 s ago",
        "now | a file is being written",
        "last file | 9 MiB in 0.75 s, 5 slices, 1 min 21 s ago",
        "written, with nothing new, failed | 127, 131, 137",
        "taken over at the start | 139 001, as the same writer",
        "overdue | writing fails: No space left on device",
        "no room for slices at the start | 2",
        "skipped at the start | logins: its size is another",
        "could not be used | snapshot.bad-20270115T080000.000Z-torn",
        "could not be used | not kept: it is a symbolic link",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(part(&page, "main", "main").contains("class=\"half alarm\" id=\"files-card\""));
    status.snapshot_files = SnapshotFilesStatus::default();
    let page = in_browser(status).unwrap();
    assert!(is_hidden(&page, "files-card"), "nothing is kept");
}

#[test]
fn who_has_one_number_and_who_has_a_new_writer_is_shown() {
    let mut status = fake_status();
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    let notes = |page: &str| text_of(&part(page, "dl", "cluster-notes").replace("</dt>", " | "));
    let is_alarmed = |page: &str| page.contains("class=\"wide alarm\" id=\"cluster-card\"");
    let shown = notes(&page);
    for words in [
        "one number | 10.0.0.12:8001 and 10.0.0.17:8001 are one node by its number",
        "new writer | others have more of it (10.0.0.4:8001): it may count twice",
        "waits for | another node to say what it has",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(is_alarmed(&page));
    // One that loses nothing is said, and no reason for an alarm.
    let cluster = &mut status.cluster;
    cluster.shared_nodes.clear();
    cluster.refused.clear();
    cluster.dropped_by_kernel = 0;
    cluster
        .members
        .iter_mut()
        .for_each(|it| it.state = "down".into());
    cluster.one_way.clear();
    let new_writer = cluster.new_writer.as_mut().unwrap();
    new_writer.may_count_twice = false;
    let page = in_browser(status).unwrap();
    let shown = notes(&page);
    assert!(
        shown.contains("new writer |") && !shown.contains("waits for"),
        "{shown}"
    );
    assert!(!is_alarmed(&page), "{shown}");
}

#[test]
fn one_sketch_without_limits_is_a_quiet_page() {
    let mut status = fake_status();
    status.sketches.truncate(1);
    status.limits.clear();
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    let hidden =
        |page: &str| ["sketches-card", "windows-card", "limits-card"].map(|id| is_hidden(page, id));
    assert_eq!(hidden(&page), [true, false, true]);
    assert_eq!(
        rows(&page, "windows"),
        ["1 min |500|12 × 5 s|4 × 131 072|28 MiB|"]
    );
    status.sketches[0].windows.clear();
    let page = in_browser(status).unwrap();
    assert_eq!(hidden(&page), [true; 3]);
}

#[test]
fn no_name_gets_into_the_markup() {
    const NAME: &str = "<img src=x onerror=\"document.title='broken'\">&amp;";
    let mut status = with_limits();
    status.sketches[1].name = NAME.into();
    status.limits[1].name = NAME.into();
    status.limits[1].sketch = NAME.into();
    let Some(page) = in_browser(status) else {
        return;
    };
    assert!(!page.contains("<img"), "{page}");
    let escaped = "&lt;img src=x onerror=\"document.title='broken'\"&gt;&amp;amp;";
    for id in ["sketches", "windows", "limits", "errors"] {
        assert!(part(&page, "tbody", id).contains(escaped), "{id}");
    }
    assert!(part(&page, "ul", "large-errors").contains(escaped));
}

#[test]
fn one_sketch_with_limits_shows_its_error_against_them() {
    let mut status = fake_status();
    status.sketches.truncate(1);
    status.limits[0].sketch = "default".into();
    status.limits[0].amounts = vec![amount(1_000, 0, 155), amount(0, 60_000, 5)];
    let Some(page) = in_browser(status) else {
        return;
    };
    let sketch = part(&page, "dl", "sketch");
    assert!(
        sketch.contains("<dt>error against limits</dt><dd class=\"bad\">16 % of 1\u{202f}000<"),
        "{sketch}"
    );
    // Where nothing is allowed any error is all of it.
    assert_eq!(
        rows(&page, "errors")[1],
        "1 min |500|5|–|23, 47|460 %|all of 0|"
    );
    let warning = part(&page, "ul", "large-errors");
    assert_eq!(warning.matches("<li>").count(), 2, "{warning}");
    assert!(!warning.contains("in the sketch"), "there is only one");
}

#[test]
fn the_largest_keys_are_shown_as_text_or_not_at_all() {
    let mut status = fake_status();
    status.sketches.truncate(1);
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    assert!(!is_hidden(&page, "top-card"));
    let shown = rows(&page, "top");
    assert_eq!(
        shown,
        [
            "1|&lt;b&gt;apple&lt;/b&gt;|99|89|9.9 %|",
            "2|\\xff\\x00|98|88|9.8 %|",
            "3|(name not known yet)|97|87|9.7 %|",
        ]
    );
    let note = text_of(part(&page, "p", "top-note"));
    assert!(
        note.ends_with("Every key of which more than 97 came is here. The node lists 3."),
        "{note}"
    );
    let lists = text_of(&part(&page, "select", "top-list").replace("</option>", "|"));
    assert_eq!(lists, "all time|1 min|");
    let page = in_browser_of(status.clone(), false).unwrap();
    assert!(!page.contains("gt;apple"), "{page}");
    assert_eq!(rows(&page, "top")[0], "1|(not shown)|99|89|9.9 %|");
    assert!(text_of(part(&page, "p", "top-note")).contains("--show-keys"));
    status.sketches[0].top.most = 0;
    assert!(is_hidden(&in_browser(status).unwrap(), "top-card"));
}

#[test]
fn denied_keys_are_shown_as_text_or_not_at_all() {
    let mut status = fake_status();
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    assert!(!is_hidden(&page, "denied-card"));
    let expected = [
        "api|&lt;b&gt;apple&lt;/b&gt;|3|",
        "api|\\xff\\x00|2|",
        "api|(the empty key)|1|",
    ];
    assert_eq!(rows(&page, "denied"), expected);
    let page = in_browser_of(status.clone(), false).unwrap();
    assert_eq!(rows(&page, "denied")[0], "api|(not shown)|3|");
    assert!(text_of(part(&page, "p", "denied-note")).contains("--show-keys"));
    status.limits.clear();
    assert!(is_hidden(&in_browser(status).unwrap(), "denied-card"));
}

#[test]
fn what_was_lost_is_shown_with_its_cause_and_its_cure() {
    let mut status = fake_status();
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    let shown = rows(&page, "losses");
    for (what, count, cure) in [
        ("dropped by the kernel", 128, "net.core.rmem_max"),
        ("replies that the kernel did not take", 5, "send buffer"),
        ("malformed: length", 17, "--dialect"),
        ("malformed: unknown type", 4, "a client of a later version"),
        ("refused: untrusted", 2, "See the log"),
        ("log lines", 68, "standard error"),
    ] {
        let row = shown.iter().find(|row| row.starts_with(what));
        let row = row.unwrap_or_else(|| panic!("{what}: {shown:?}"));
        assert!(row.contains(&format!("|{count}|0/s|")), "{row}");
        assert!(row.contains(cure), "{row}");
    }
    assert!(page.contains("class=\"wide alarm\" id=\"losses-card\""));
    status.datagrams = Datagrams {
        refused: [("address_unproven".into(), 7)].into(),
        ..Datagrams::default()
    };
    (status.replies.dropped, status.log) = (0, LogStatus::default());
    let page = in_browser(status).unwrap();
    assert_eq!(rows(&page, "losses").len(), 1);
    assert!(
        !page.contains("alarm\" id=\"losses-card\""),
        "that is usual"
    );
}

/// Every reason that a node may give has its words on the page.
#[test]
fn every_reason_has_a_cause_and_a_cure() {
    let engine_reasons = crate::status::loss_reasons();
    assert!(engine_reasons.len() > 30, "{engine_reasons:?}");
    for reason in engine_reasons {
        assert!(
            PAGE.contains(&format!("\n  {reason}: \"")),
            "CAUSES lacks {reason}"
        );
    }
}

#[test]
fn ways_in_are_shown_where_they_are_on() {
    let mut status = fake_status();
    let Some(page) = in_browser(status.clone()) else {
        return;
    };
    let shown = rows(&page, "fronts");
    for (row, start) in shown.iter().zip([
        "Datagrams;|127.0.0.1:8000|–||0/s|5 511 002|–|23|128|",
        "HTTP;|127.0.0.1:8000|–||0/s|321|57|58|59|",
        "Redis’s protocol;wrong passwords 53, connections without a place 56, protocol errors 52;|127.0.0.1:6379|51 of 1 024||",
        "Envoy, 2 rules;unknown domains 74, connections without a place 81;|127.0.0.1:8081|71 of 1 024||0/s|800 001|73|",
        "HAProxy;protocol errors 75, connections without a place 78;|127.0.0.1:9001|12 of 256||0/s|600 001|71|",
    ]) {
        assert!(row.starts_with(start), "{row}");
    }
    assert_eq!(shown.len(), 5);
    (status.resp, status.envoy, status.spoe) = Default::default();
    let page = in_browser(status).unwrap();
    let names = rows(&page, "fronts");
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn members_are_shown_with_their_state_and_lag() {
    let Some(page) = in_browser(fake_status()) else {
        return;
    };
    assert_eq!(
        rows(&page, "members"),
        [
            "00000000|10.0.0.1:8001|this node|–|–|–||1|4.8 MiB|5.7 MiB|",
            "00000000|10.0.0.11:8001|alive|0.2 s ago|0|0 s||1|1.8 MiB|1.2 MiB|",
            "00000000|10.0.0.12:8001|alive|0.2 s ago|6|1.3 s||1|1.9 MiB|1.4 MiB|",
            "00000000|10.0.0.13:8001|down|0.2 s ago|99|12 min 57 s||1|2.1 MiB|1.5 MiB|",
            "00000000|10.1.0.1:8001|one way|0.4 s ago|2|–||–|–|–|",
        ]
    );
}
