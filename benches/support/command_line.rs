//! The command line of a bench without criterion.

/// Whether nothing is to be measured, with `cargo bench -- --list` or `-- --test`.
pub(crate) fn is_dry() -> bool {
    std::env::args().any(|arg| arg == "--list" || arg == "--test")
}

/// The number of rounds: `RMBD_BENCH_ROUNDS`, or the default.
pub(crate) fn rounds(default: usize) -> usize {
    let parse = |text: String| text.parse().expect("RMBD_BENCH_ROUNDS is a number");
    let text = std::env::var("RMBD_BENCH_ROUNDS").ok();
    text.filter(|text| !text.is_empty()).map_or(default, parse)
}

/// The words behind `--`. Options, such as cargo's own `--bench`, are left out.
pub(crate) fn words() -> impl Iterator<Item = String> {
    std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
}

/// Whether the name contains every word of the command line.
pub(crate) fn is_chosen(name: &str) -> bool {
    words().all(|word| name.contains(&word))
}

/// Whether one of several runs is chosen: no word of the command line names another one alone.
pub(crate) fn is_chosen_among(all: &[&str], name: &str) -> bool {
    let mut named = words()
        .filter(|word| all.contains(&word.as_str()))
        .peekable();
    named.peek().is_none() || named.any(|word| word == name)
}
