//! Tests of every parser on untrusted bytes: a bounded form of what `fuzz/` does for hours. The input is the corpus
//! and the vectors as they are, every prefix of them, and damaged ones; then generated input.

#![allow(missing_docs, clippy::unwrap_used)]

mod cluster;
mod compact;
mod legacy;
mod resp;
mod spoe;
mod targets;

use std::panic::catch_unwind;
use std::path::Path;

use rand::rand_core::{Rng, SeedableRng};
use rand::rngs::ChaCha8Rng;
use serde_json::Value;

use targets::Target;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
/// Number of damaged inputs for each target.
const DAMAGED: u64 = 20_000;
/// Seed of the random numbers, the same every time.
const SEED: u64 = 7;

/// Runs a target, and prints an input that fails in the form of a corpus file.
fn run(name: &str, target: Target, input: &[u8]) {
    let panicked = catch_unwind(|| target(input)).is_err();
    let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        !panicked,
        "{name} fails for these bytes (as hex; tests/data/fuzz/{name}/ keeps them): {hex}"
    );
}

/// The files of a target's corpus, and all bytes in the committed vectors.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(DATA).join("fuzz").join(name);
    let files = std::fs::read_dir(folder).unwrap();
    let mut inputs: Vec<_> = files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty(), "{name} has no corpus");
    // The order of files in a folder depends on the file system.
    inputs.sort();
    let format = name.split('_').next().unwrap();
    if format == "rules" {
        // They are texts, of which the corpus has all forms.
        return inputs;
    }
    let vectors = std::fs::read(format!("{DATA}/{format}_vectors.json")).unwrap();
    let mut datagrams = Vec::new();
    hex_strings(&serde_json::from_slice(&vectors).unwrap(), &mut datagrams);
    assert!(datagrams.len() > 50);
    for datagram in datagrams {
        // The head describes the node that the vectors were made for: 100 columns and 10 rows, or 5 000 cells.
        match name {
            "legacy_messages" => {
                inputs.push([&[0, 100, 9], &datagram[..]].concat());
                inputs.push([&[1, 100, 9], &datagram[..]].concat());
            }
            "cluster_payload" => inputs.push([&[0x88, 0x13], &datagram[..]].concat()),
            _ => inputs.push(datagram),
        }
    }
    inputs
}

fn hex_strings(value: &Value, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(hex) if hex.len() % 2 == 0 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            found.push((0..hex.len()).step_by(2).map(byte).collect());
        }
        Value::Array(values) => values.iter().for_each(|value| hex_strings(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| hex_strings(value, found)),
        _ => {}
    }
}

#[test]
fn every_target_has_a_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut programs: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    programs.sort();
    let called: Vec<_> = programs
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(called, targets::ALL.map(|(name, _)| name));
    for (path, name) in programs.iter().zip(called) {
        let (format, parser) = name.split_once('_').unwrap();
        let call = format!("targets::{format}::{parser}");
        assert!(
            std::fs::read_to_string(path).unwrap().contains(&call),
            "{name}"
        );
    }
}

#[test]
fn every_prefix_of_corpus_and_vectors() {
    for (name, target) in targets::ALL {
        let mut prefixes = 0;
        for input in inputs(name) {
            for end in 0..=input.len() {
                run(name, target, &input[..end]);
                prefixes += 1;
            }
        }
        assert!(prefixes > 10_000, "{name}: {prefixes}");
    }
}

#[test]
fn every_byte_of_corpus_and_vectors_flipped() {
    for (name, target) in targets::ALL {
        // Most bytes of long inputs are those of keys and cells, many times alike.
        for input in inputs(name).iter().filter(|input| input.len() <= 200) {
            for at in 0..input.len() {
                for flip in [0x01, 0x08, 0x40, 0x80, 0xff] {
                    let mut input = input.clone();
                    input[at] ^= flip;
                    run(name, target, &input);
                }
            }
        }
    }
}

#[test]
fn damaged_corpus_and_vectors() {
    for (name, target) in targets::ALL {
        let inputs = inputs(name);
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut below = |end: usize| (rng.next_u64() % end.max(1) as u64) as usize;
        for _ in 0..DAMAGED {
            let mut input = inputs[below(inputs.len())].clone();
            for _ in 0..=below(4) {
                let at = below(input.len() + 1);
                match (below(6), input.get_mut(at)) {
                    (0, Some(byte)) => *byte ^= 1 << below(8),
                    (1, Some(byte)) => *byte = [0, 1, 4, 0x7f, 0x80, 0xff][below(6)],
                    (2, Some(_)) => drop(input.remove(at)),
                    (3, _) => input.insert(at, below(256) as u8),
                    (4, _) => input.truncate(at),
                    // The end of another input is appended.
                    _ => {
                        let other = &inputs[below(inputs.len())];
                        input.truncate(at);
                        input.extend(&other[below(other.len() + 1)..]);
                    }
                }
            }
            run(name, target, &input);
        }
    }
}
