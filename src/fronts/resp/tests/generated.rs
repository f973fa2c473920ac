//! Generated pipelines, which come in pieces, beside a naive server.

use std::collections::HashMap;

use super::*;
use rmbd_testkit::random::Random;

/// What a server would say that knows every key.
#[derive(Default)]
struct Naive(HashMap<(bool, Vec<u8>), u64>);

impl Naive {
    fn increase(&mut self, other: bool, pairs: &[(Vec<u8>, u64)]) -> String {
        let mut reply = format!("*{}\r\n", pairs.len());
        for (key, weight) in pairs {
            let count = self.0.entry((other, key.clone())).or_default();
            *count += weight;
            reply += &format!(":{count}\r\n");
        }
        reply
    }
}

fn sketch(other: bool) -> &'static [u8] {
    if other { b"other" } else { b"default" }
}

/// A command, and what the naive server says to it. Keys come again, in both sketches, and have any bytes.
fn any_command(random: &mut Random, naive: &mut Naive) -> (Vec<u8>, String) {
    let other = random.below(3) == 0;
    let pairs: Vec<(Vec<u8>, u64)> = (0..1 + random.below(9))
        .map(|_| {
            let key = random.below(30) as u8;
            (vec![key; usize::from(key)], random.below(100))
        })
        .collect();
    match random.below(8) {
        0 => (command(&[b"ping"]), "+PONG\r\n".into()),
        1 => (b" \r\n*0\r\n".to_vec(), String::new()),
        2 => {
            let text = random.bytes(20);
            let shown: String = text.iter().map(|&byte| char::from(byte)).collect();
            let reply = format!("${}\r\n{shown}\r\n", text.len());
            (command::<&[u8]>(&[b"ECHO", &text]), reply)
        }
        3 | 4 => {
            let mut words: Vec<&[u8]> = vec![b"CMS.QUERY", sketch(other)];
            words.extend(pairs.iter().map(|(key, _)| &key[..]));
            let zeros: Vec<_> = pairs.iter().map(|(key, _)| (key.clone(), 0)).collect();
            (command(&words), naive.increase(other, &zeros))
        }
        _ => {
            let mut words = vec![b"cms.incrby".to_vec(), sketch(other).to_vec()];
            for (key, weight) in &pairs {
                words.push(key.clone());
                words.push(weight.to_string().into_bytes());
            }
            let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
            (command(&words), naive.increase(other, &pairs))
        }
    }
}

#[test]
fn pipelines_in_pieces_are_what_a_naive_server_says() {
    let seed = std::env::var("RMBD_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("RMBD_TEST_SEED={seed}");
    for round in 0..60 {
        let mut random = Random(seed + round);
        let (mut thread, mut naive) = (Thread::open(), Naive::default());
        let (mut stream, mut expected) = (Vec::new(), String::new());
        for _ in 0..40 {
            let (bytes, reply) = any_command(&mut random, &mut naive);
            stream.extend(bytes);
            expected += &reply;
        }
        let (mut waiting, mut out, mut left) = (Vec::new(), Vec::new(), &stream[..]);
        // From byte by byte to the whole.
        let bits = random.below(14);
        let most = 1 + random.below(1 << bits);
        while !left.is_empty() {
            let (piece, rest) = left.split_at((1 + random.below(most) as usize).min(left.len()));
            waiting.extend(piece);
            left = rest;
            let taken = thread
                .0
                .received(0, &waiting, &mut StreamReplies::new(&mut out));
            waiting.drain(..taken.bytes);
        }
        let text: String = out.iter().map(|&byte| char::from(byte)).collect();
        assert!(text == expected, "round {round}: {text}\n{expected}");
        assert!(waiting.is_empty());
    }
}
