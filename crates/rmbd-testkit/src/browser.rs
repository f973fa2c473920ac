//! A real browser without a window.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::required::skip;

/// The content of a page once its script has run for three seconds of the browser's own time, without the text of the
/// script. `None`, and the test is skipped, without a browser.
pub fn content(url: &str) -> Option<String> {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let number = NUMBERS.fetch_add(1, Relaxed);
    let folder = format!("rmbd-browser-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=3000",
        ])
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
