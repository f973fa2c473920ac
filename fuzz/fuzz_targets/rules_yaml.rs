#![no_main]

use rmbd_fuzz::targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::rules::yaml(input));
