//! A real browser without a window.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::required::skip;
use crate::streams::PATIENCE;

const PROGRAM: &str = "chromium";
/// The browser speaks by the descriptors 3 and 4 then, in documents that end with a zero byte.
const BY_PIPE: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null"#;
const WORDS: [&str; 3] = ["--headless", "--no-sandbox", "--disable-gpu"];
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The content of a page once its script has run for three seconds of the browser's own time, without the text of the
/// script. `None`, and the test is skipped, without a browser.
pub fn content(url: &str) -> Option<String> {
    let folder = folder();
    let output = Command::new(PROGRAM)
        .args(WORDS)
        .arg("--virtual-time-budget=3000")
        .arg(format!("--user-data-dir={}", folder.display()))
        .args(["--dump-dom", url])
        .output();
    let _ = std::fs::remove_dir_all(folder);
    match output {
        Ok(output) => {
            let page = String::from_utf8(output.stdout).unwrap();
            let (before, script) = page.split_once("<script").unwrap_or((&page, ""));
            let behind = script.split_once("</script>");
            Some(format!("{before}{}", behind.map_or("", |(_, it)| it)))
        }
        Err(error) => {
            skip(format!("chromium: {error}; apt-get install chromium"));
            None
        }
    }
}

/// A folder for what a browser writes, which no other one has.
fn folder() -> PathBuf {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let number = NUMBERS.fetch_add(1, Relaxed);
    std::env::temp_dir().join(format!("rmbd-browser-{}-{number}", std::process::id()))
}

/// A browser with one page, which a test uses as a person would. Its clock is the real one.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
    session: Option<String>,
    number: u64,
    complaints: Vec<String>,
}

impl Browser {
    /// Starts it. `None`, and the test is skipped, without a browser.
    ///
    /// # Panics
    /// Panics if the browser is there and does not start; so do all other functions where it does not do what it is
    /// told.
    pub fn start() -> Option<Self> {
        if let Err(error) = Command::new(PROGRAM).arg("--version").output() {
            skip(format!("chromium: {error}; apt-get install chromium"));
            return None;
        }
        let folder = folder();
        let mut child = Command::new("sh")
            .args(["-c", BY_PIPE, PROGRAM, "--remote-debugging-pipe"])
            .args(WORDS)
            .arg(format!("--user-data-dir={}", folder.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut browser = Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            folder,
            session: None,
            number: 0,
            complaints: Vec::new(),
        };
        let page = browser.order("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.order("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.order(domain, json!({}));
        }
        Some(browser)
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        let opened = self.order("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.wait_until("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// Makes the window so many pixels wide and high.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        self.order("Emulation.setDeviceMetricsOverride", size);
    }

    /// Prefers dark or light colours.
    pub fn prefer_dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let wish = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.order("Emulation.setEmulatedMedia", json!({ "features": wish }));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let told = self.order("Runtime.evaluate", ask);
        assert!(
            told.get("exceptionDetails").is_none(),
            "{expression}: {told}"
        );
        told["result"]["value"].clone()
    }

    /// The same as a text.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        let text = value.as_str();
        text.unwrap_or_else(|| panic!("{expression}: {value}"))
            .to_owned()
    }

    /// Waits until an expression in the page is true.
    pub fn wait_until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(expression) != Value::Bool(true) {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {expression}"
            );
            sleep(LOOK_EVERY);
        }
    }

    /// Types text where the focus is.
    pub fn type_text(&mut self, text: &str) {
        self.order("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key and lets it go: a character, or `Tab`, `Enter`, `Escape`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            text => (0, text),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.order("Input.dispatchKeyEvent", event);
        }
    }

    /// Writes a picture (PNG) of what the window shows, and returns its number of bytes.
    pub fn picture(&mut self, path: &Path) -> usize {
        let taken = self.order("Page.captureScreenshot", json!({"format": "png"}));
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap());
        let bytes = bytes.unwrap();
        std::fs::write(path, &bytes).unwrap();
        bytes.len()
    }

    /// All that was said in the page's console so far, also by the browser.
    pub fn complaints(&mut self) -> Vec<String> {
        // An answer comes behind what was said before.
        self.value("0");
        std::mem::take(&mut self.complaints)
    }

    /// Gives an order, and returns what came of it.
    fn order(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.orders.write_all(&bytes).unwrap();
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).unwrap();
            assert_eq!(answer.pop(), Some(0), "{method}: the browser has ended");
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            let said = [
                "Runtime.consoleAPICalled",
                "Runtime.exceptionThrown",
                "Log.entryAdded",
            ];
            if said.iter().any(|it| answer["method"] == *it) {
                self.complaints.push(answer["params"].to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self
            .orders
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        // It closes its end when it ends.
        while self.answers.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
            let length = self.answers.buffer().len();
            self.answers.consume(length);
        }
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
