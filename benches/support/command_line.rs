//! What a bench without criterion is asked for.

/// Whether nothing is to be measured: `cargo bench -- --list`, `-- --test`.
pub(crate) fn is_dry() -> bool {
    std::env::args().any(|arg| arg == "--list" || arg == "--test")
}

/// `RMBD_BENCH_ROUNDS`, or so many.
pub(crate) fn rounds(default: usize) -> usize {
    let parse = |text: String| text.parse().expect("RMBD_BENCH_ROUNDS is a number");
    let text = std::env::var("RMBD_BENCH_ROUNDS").ok();
    text.filter(|text| !text.is_empty()).map_or(default, parse)
}

/// Words behind `--`; options, as cargo's own `--bench`, are none.
pub(crate) fn words() -> impl Iterator<Item = String> {
    std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
}

/// Whether the name has every word of the command line in it.
pub(crate) fn is_chosen(name: &str) -> bool {
    words().all(|word| name.contains(&word))
}
