//! The `rmbd` binary.

fn main() {}
