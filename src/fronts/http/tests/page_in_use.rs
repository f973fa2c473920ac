//! Tests of the page with a person before it, who types, chooses, and looks again when the node was away.

use rmbd_testkit::browser::Browser;
use serde_json::Value;

use super::*;
use crate::status::JsonKey;
use crate::status::testing::{denied, detail, top};

/// Keys that would run if they became markup, or look like something else.
const HOSTILE: [&[u8]; 5] = [
    b"<img src=x onerror=document.title='broken'>",
    b"</script><script>document.title='broken'</script>",
    b"a\nb\x1b[2J",
    "\u{202e}abc".as_bytes(),
    b"\xff\\x",
];
/// The page shows the node's second look.
const IS_SHOWN: &str = "!document.getElementById('main').hidden && last !== null";

/// A node whose largest keys are hostile, and whose clock goes on with each look at it.
struct Node {
    seconds: std::sync::atomic::AtomicU64,
}

impl Node {
    fn starts_at(second: u64) -> Arc<Self> {
        let seconds = second.into();
        Arc::new(Self { seconds })
    }
}

impl StatusSource for Node {
    fn status(&self) -> Status {
        let second = self
            .seconds
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut status = fake_status();
        status.uptime_s = second as f64;
        status.messages.add += 1_000 * second;
        status
    }

    fn detail(&self, question: &DetailQuestion) -> Result<Detail, DetailError> {
        detail(question)
    }

    fn top(&self, question: &TopQuestion, shows_keys: bool) -> Result<TopDocument, TopError> {
        let mut told = top(&TopQuestion::default(), shows_keys)?;
        told.sketch = question
            .sketch
            .as_ref()
            .map_or_else(|| "default".into(), ToString::to_string);
        told.window_ms = question.window_ms.unwrap_or_default();
        let first = told.keys.remove(0);
        told.keys = HOSTILE
            .iter()
            .map(|key| crate::status::TopKeyDocument {
                key: Some(JsonKey::from(key.to_vec())),
                ..first.clone()
            })
            .collect();
        Ok(told)
    }

    fn denied(
        &self,
        question: &DeniedQuestion,
        shows_keys: bool,
    ) -> Result<DeniedDocument, DeniedError> {
        denied(question, shows_keys)
    }

    fn may_see_keys(&self, _: IpAddr, _: bool) -> bool {
        true
    }
}

/// A browser with the page of such a node.
fn opened() -> Option<(Browser, Server)> {
    let mut browser = Browser::start()?;
    let server = Server::with(Limits::default(), Node::starts_at(100));
    browser.open(&format!("http://{}/", server.address));
    browser.wait_until(IS_SHOWN);
    browser.wait_until("document.querySelectorAll('#top tr').length === 5");
    Some((browser, server))
}

fn text(browser: &mut Browser, id: &str) -> String {
    browser.text(&format!("document.getElementById('{id}').textContent"))
}

/// Waits until the page has asked the node again.
fn wait_for_a_look(browser: &mut Browser) {
    browser.value("globalThis.before = last; 0");
    browser.wait_until("last !== globalThis.before");
}

#[test]
fn a_key_is_looked_up_by_the_keyboard_and_by_a_click() {
    let Some((mut browser, _server)) = opened() else {
        return;
    };
    browser.press("/");
    assert_eq!(browser.text("document.activeElement.id"), "look-key");
    browser.type_text("abc");
    browser.press("Enter");
    browser.wait_until("!document.getElementById('found').hidden");
    assert_eq!(text(&mut browser, "found-key"), "abc");
    assert_eq!(text(&mut browser, "found-count"), "3");
    assert!(text(&mut browser, "origins").contains("this node3"));
    // In a window, as soon as it is chosen.
    browser.value("document.getElementById('look-window').value = '60000'");
    browser.value("document.getElementById('look-window').dispatchEvent(new Event('change'))");
    browser.wait_until("document.getElementById('found-what').textContent.includes('1\\u00a0min')");
    let bounds = text(&mut browser, "found-bounds");
    assert!(
        bounds.contains("best guess3") && bounds.contains("in all time3"),
        "{bounds}"
    );
    // Any bytes, as they are shown.
    for (typed, bytes) in [
        ("a\\\\b", 3),
        ("\\xff\\x00", 2),
        ("\\u{202e}", 3),
        ("\\n", 1),
        ("é", 2),
    ] {
        browser.press("Escape");
        browser.press("/");
        browser.type_text(typed);
        browser.press("Enter");
        let expected = format!("document.getElementById('found-count').textContent === '{bytes}'");
        browser.wait_until("!document.getElementById('found').hidden");
        browser.wait_until(&expected);
    }
    let long = "a".repeat(1_025);
    for (typed, words) in [
        ("\\q", "A backslash"),
        ("\\xf", "A backslash"),
        (&*long, "at most"),
    ] {
        browser.press("Escape");
        browser.press("/");
        browser.type_text(typed);
        browser.press("Enter");
        let note = text(&mut browser, "look-note");
        assert!(
            note.contains(words) && note.contains("nothing was asked"),
            "{note}"
        );
        assert_eq!(
            browser.value("document.getElementById('found').hidden"),
            true
        );
    }
    for (at, key) in HOSTILE.iter().enumerate() {
        browser.value(&format!(
            "document.querySelectorAll('#top button')[{at}].click()"
        ));
        let expected = format!(
            "document.getElementById('found-count').textContent === '{}'",
            key.len()
        );
        browser.wait_until(&expected);
        let shown = text(&mut browser, "found-key");
        let typed = browser.text("document.getElementById('look-key').value");
        assert_eq!(shown, typed, "what is shown can be typed");
        assert!(
            !shown.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{shown:?}"
        );
    }
    browser.press("/");
    browser.press("Escape");
    assert_eq!(
        browser.value("document.getElementById('found').hidden"),
        true
    );
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert!(browser.text("document.title").starts_with("rmbd "));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_focus_goes_down_the_page_and_stays_while_figures_change() {
    let Some((mut browser, _server)) = opened() else {
        return;
    };
    let mut order = Vec::new();
    for _ in 0..12 {
        browser.press("Tab");
        let place = "(e => e.id || e.className || e.getAttribute('aria-label') || e.tagName)(document.activeElement)";
        order.push(browser.text(place));
        let is_seen = "getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(browser.value(is_seen), true, "{order:?}");
    }
    let expected = [
        "top-list",
        "key mono",
        "look-key",
        "look-sketch",
        "look-window",
    ];
    let places = expected.map(|id| order.iter().position(|it| it == id).expect(id));
    assert!(places.is_sorted(), "{order:?}");
    browser.value("document.querySelectorAll('#top button')[2].focus()");
    let adds = text(&mut browser, "adds-total");
    wait_for_a_look(&mut browser);
    wait_for_a_look(&mut browser);
    assert_ne!(text(&mut browser, "adds-total"), adds);
    let focused = "document.activeElement === document.querySelectorAll('#top button')[2]";
    assert_eq!(browser.value(focused), true);
    // A person who hears the page hears what each thing is.
    let unnamed = "[...document.querySelectorAll('input, select, button, [role=region], [role=img]')]
        .filter(e => !(e.getAttribute('aria-label') || e.tagName === 'BUTTON' && e.textContent || e.labels?.length))
        .map(e => e.outerHTML)";
    assert_eq!(browser.value(unnamed), Value::Array(vec![]));
    let tables =
        "[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent)";
    assert_eq!(browser.value(tables), true);
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The least contrast of texts that everybody can read (WCAG 2.2, 1.4.3).
const CONTRAST_MIN: f64 = 4.5;
/// The least contrast of any text with what it stands on, for the texts that are shown.
const CONTRAST: &str = "(() => {
    const parse = c => c.match(/[0-9.]+/g).map(Number);
    const light = rgb => rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const ground = e => {
        for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c.length === 3) return c;
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll('body *')].filter(e => e.offsetParent
        && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
    return Math.min(...texts.map(e => {
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); }));
})()";

#[test]
fn it_is_readable_in_light_and_dark_on_360_pixels_and_on_many() {
    let Some((mut browser, _server)) = opened() else {
        return;
    };
    let mut grounds = Vec::new();
    for is_dark in [false, true] {
        browser.prefer_dark(is_dark);
        for width in [360, 700, 1_280] {
            browser.resize(width, 800);
            wait_for_a_look(&mut browser);
            let wide = browser
                .value("document.documentElement.scrollWidth")
                .as_f64()
                .unwrap();
            assert!(wide <= f64::from(width), "{wide} of {width}");
            let contrast = browser.value(CONTRAST).as_f64().unwrap();
            assert!(
                contrast >= CONTRAST_MIN,
                "dark {is_dark}, {width}: {contrast}"
            );
        }
        grounds.push(browser.text("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1]);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_node_that_dies_is_missed_and_found_again() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    // No other test takes a port of this address meanwhile.
    let server = Server::at(
        "127.97.0.1:0",
        Limits::default(),
        Node::starts_at(100),
        None,
    );
    let address = server.address.to_string();
    browser.open(&format!("http://{address}/"));
    browser.wait_until(IS_SHOWN);
    browser.wait_until("document.querySelectorAll('#top tr').length === 5");
    assert_eq!(browser.complaints(), [""; 0]);
    drop(server);
    browser.wait_until("!document.getElementById('lost').hidden");
    let said = text(&mut browser, "lost");
    assert!(
        said.contains("does not answer") && said.contains("asked again"),
        "{said}"
    );
    assert_eq!(text(&mut browser, "state"), "no answer");
    assert!(browser.text("document.title").starts_with("no answer"));
    // What was known stays, and is marked as old.
    assert_eq!(
        browser.value("document.querySelectorAll('#top tr').length"),
        5
    );
    assert_eq!(
        browser.value("document.body.classList.contains('lost')"),
        true
    );
    let _again = Server::at(&address, Limits::default(), Node::starts_at(3), None);
    browser.wait_until("document.getElementById('lost').hidden");
    let said = text(&mut browser, "back");
    assert!(
        said.contains("answers again") && said.contains("was started again 3 s ago"),
        "{said}"
    );
    assert_eq!(text(&mut browser, "state"), "ready");
    wait_for_a_look(&mut browser);
    assert_eq!(
        browser.value("document.body.classList.contains('lost')"),
        false
    );
    for complaint in browser.complaints() {
        assert!(
            complaint.contains("net::ERR_"),
            "only that nobody answered: {complaint}"
        );
    }
}

#[test]
fn latency_is_shown_where_the_node_tells_it() {
    let Some((mut browser, _server)) = opened() else {
        return;
    };
    let told =
        "{operation: 'hit_by_name', count: 3, sum_s: 6e-6, p50_s: 2e-6, p99_s: .0125, p999_s: null,
        buckets: [{le_s: 2e-6, count: 2}, {le_s: null, count: 1}]}";
    let shown = |latencies: &str| {
        format!(
            "latency({{latencies: [{latencies}]}});
            [by('latency-card').hidden, by('latency').querySelectorAll('rect').length,
                ...[...by('latency').querySelectorAll('th, td')].map(e => e.textContent)].join('|')"
        )
    };
    let row = browser.text(&shown(told));
    assert_eq!(
        row,
        "false|2|hit by name||2 \u{b5}s|12.5 ms|above 1 s|2 \u{b5}s|3"
    );
    assert_eq!(browser.text(&shown("")), "true|0");
    assert_eq!(browser.complaints(), [""; 0]);
}
