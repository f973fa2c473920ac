//! The kernel program that separates datagrams of members from those of strangers before any is read.
//!
//! ```text
//! length, version, kind are none of ours  -------------------------------> others
//! 31 bits of the channel's id, looked up in a tree of known ones:
//!     of a channel that only its owner sends on    ----------------------> members
//!     of one that somebody else sends on, too      ----------------------> contested
//!     unknown: a newcomer, or somebody without a key  -------------------> strangers
//! ```
//!
//! The program only decides which datagrams wait behind which: all of them are opened, or refused, in the same way.
//! So 31 of the 64 bits are enough. A stranger who guesses gets one of a million datagrams into the queue of 2 048
//! members. An attacker who has seen a member's datagrams turns that member's channel into a contested one.
//!
//! It is classic BPF, since any user may attach that (linux/filter.h). Conditional jumps reach 255 instructions
//! ahead, hence the tree: its inner nodes use unconditional jumps for long ways, and its leaves compare one id after
//! the other.

use rmbd_cluster::seal::{CHANNEL_ID_AT, HEADER_BYTES, TAG_BYTES, VERSION, accepts};
use rmbd_io::Instruction;
use rmbd_proto::cluster::DATAGRAM_BYTES_MAX;

/// Largest number of channels in a program, as many as a cluster has members. The program stays below the kernel's
/// limit of 4 096 instructions.
pub(super) const CHANNELS_MAX: usize = 2_048;
/// Number of channels in a leaf. Smaller leaves need more instructions, and larger ones take longer.
const LEAF: usize = 32;
/// The bits of an id that are looked up. The kernel's own code has signed values, and a negative one costs an
/// instruction more each time.
const KEY_BITS: u32 = 0x7fff_ffff;

/// The queues of the port, as the program numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Members,
    Contested,
    Strangers,
    Others,
}

// Instruction codes of linux/bpf_common.h: class, size or operation, mode or source.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_LENGTH: u16 = 0x80;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The program for at most [`CHANNELS_MAX`] channels, given by their ids and whether each is contested.
pub(super) fn program(channels: impl Iterator<Item = (u64, bool)>) -> Vec<Instruction> {
    let mut known: Vec<(u32, Queue)> = channels
        .take(CHANNELS_MAX)
        .map(|(id, is_contested)| match is_contested {
            true => (key(id), Queue::Contested),
            false => (key(id), Queue::Members),
        })
        .collect();
    known.sort_unstable_by_key(|(key, _)| *key);
    known.dedup_by_key(|(key, _)| *key);
    let mut program = Vec::new();
    header(&mut program);
    tree(&known, &mut program);
    program
}

/// The key of an id in the program: its first four bytes, of which the kernel loads the first as the highest.
const fn key(id: u64) -> u32 {
    let [a, b, c, d, ..] = id.to_le_bytes();
    u32::from_be_bytes([a, b, c, d]) & KEY_BITS
}

fn header(program: &mut Vec<Instruction>) {
    let bytes_min = (HEADER_BYTES + TAG_BYTES) as u32;
    // Each check has its instruction, its value, and the result that sends a datagram to `others`.
    let checks = [
        (LOAD_LENGTH, 0, None),
        (IF_AT_LEAST, bytes_min, Some(false)),
        (IF_GREATER, DATAGRAM_BYTES_MAX as u32, Some(true)),
        (LOAD_HALF, 0, None),
    ];
    let versions = (1..=u8::MAX).filter(|&version| accepts(VERSION, version));
    let versions: Vec<u32> = versions.map(|version| u32::from(version) << 8).collect();
    let length = checks.len() + versions.len();
    let add = |code, value, refused_if: Option<bool>, program: &mut Vec<Instruction>| {
        // The way out is behind the rest of this part and the jump over it.
        let out = (length - program.len()) as u8;
        let (jt, jf) = match refused_if {
            None => (0, 0),
            Some(true) => (out, 0),
            Some(false) => (0, out),
        };
        program.push(instruction(code, jt, jf, value));
    };
    for (code, value, refused_if) in checks {
        add(code, value, refused_if, program);
    }
    for (at, &version) in versions.iter().enumerate() {
        let behind = (versions.len() - 1 - at) as u8;
        if behind == 0 {
            add(IF_EQUAL, version, Some(false), program);
        } else {
            program.push(instruction(IF_EQUAL, behind, 0, version));
        }
    }
    program.extend([
        instruction(JUMP, 0, 0, 1),
        answer(Queue::Others),
        instruction(LOAD_WORD, 0, 0, CHANNEL_ID_AT as u32),
        instruction(AND, 0, 0, KEY_BITS),
    ]);
}

/// Appends a search for the loaded key among `known`, which is sorted.
fn tree(known: &[(u32, Queue)], program: &mut Vec<Instruction>) {
    if known.len() <= LEAF {
        return leaf(known, program);
    }
    let (below, from) = known.split_at(known.len() / 2);
    program.push(instruction(IF_AT_LEAST, 0, 1, from[0].0));
    let jump = program.len();
    program.push(instruction(JUMP, 0, 0, 0));
    tree(below, program);
    program[jump].k = (program.len() - jump - 1) as u32;
    tree(from, program);
}

fn leaf(known: &[(u32, Queue)], program: &mut Vec<Instruction>) {
    for (at, &(key, queue)) in known.iter().enumerate() {
        let to_end = known.len() - 1 - at;
        // A leaf has far fewer than 255 instructions.
        let jump = match queue {
            Queue::Members => to_end + 1,
            _ => to_end + 2,
        };
        program.push(instruction(IF_EQUAL, jump as u8, 0, key));
    }
    program.push(answer(Queue::Strangers));
    program.push(answer(Queue::Members));
    program.push(answer(Queue::Contested));
}

const fn answer(queue: Queue) -> Instruction {
    instruction(RETURN, 0, 0, queue as u32)
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::UdpSocket;

    use rand::rngs::ChaCha12Rng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;
    use rmbd_io::{INSTRUCTIONS_MAX, bind_steered};

    /// The queue that the program must choose.
    fn queue_of(datagram: &[u8], known: &BTreeMap<u64, bool>) -> Queue {
        let is_ours = (42..=1_200).contains(&datagram.len()) && datagram[..2] == [1, 0];
        if !is_ours {
            return Queue::Others;
        }
        // The program looks at all bits of the first four bytes but the top one.
        let start = |bytes: &[u8]| [bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]];
        let mut alike = (known.iter())
            .filter(|(id, _)| start(&id.to_le_bytes()) == start(&datagram[10..14]))
            .map(|(_, &is_contested)| is_contested);
        match alike.next() {
            Some(true) => Queue::Contested,
            Some(false) => Queue::Members,
            None => Queue::Strangers,
        }
    }

    fn datagram(random: &mut ChaCha12Rng, known: &BTreeMap<u64, bool>) -> Vec<u8> {
        let bytes = match random.random_range(0..4) {
            0 => [
                0, 1, 2, 3, 9, 10, 13, 14, 18, 26, 41, 42, 43, 1_199, 1_200, 1_201, 9_000,
            ][random.random_range(0..17)],
            _ => random.random_range(0..1_500),
        };
        let mut datagram = vec![0; bytes];
        random.fill_bytes(&mut datagram);
        let mut put = |at: usize, bytes: &[u8]| {
            for (place, byte) in datagram.iter_mut().skip(at).zip(bytes) {
                *place = *byte;
            }
        };
        let part = random.random_range(0..12);
        if part > 0 {
            put(0, &[1, 0]);
        }
        if part > 4 && !known.is_empty() {
            let chosen = random.random_range(0..known.len());
            let id = *known.keys().nth(chosen).unwrap();
            put(10, &id.to_le_bytes());
        }
        // One bit of the header is flipped, where the program compares it.
        if part > 9 && bytes > 18 {
            let bit = random.random_range(0..18 * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
        datagram
    }

    /// The kernel's own answers are checked, for thousands of channels.
    #[test]
    fn the_kernel_puts_every_datagram_where_it_belongs() {
        let seed = 0x57ee_0001;
        println!("seed {seed:#x}");
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let others = program(std::iter::empty());
        let address = "127.0.0.1:0".parse().unwrap();
        let group = bind_steered(address, &[1 << 17; 4], 1 << 17, &others).unwrap();
        assert!(group.refused.is_none(), "{:?}", group.refused);
        let sender = UdpSocket::bind(address).unwrap();
        sender
            .connect(group.sockets[0].local_addr().unwrap())
            .unwrap();
        for channels in [0, 1, 2, 3, 31, 32, 33, 64, 65, 100, 500, 1_000] {
            let known: BTreeMap<u64, bool> = (0..channels)
                .map(|_| (random.next_u64(), random.random_bool(0.3)))
                .collect();
            let program = program(known.iter().map(|(&id, &is)| (id, is)));
            rmbd_io::steer(&group.sockets[0], &program).unwrap();
            for _ in 0..2_000 {
                let datagram = datagram(&mut random, &known);
                sender.send(&datagram).unwrap();
                let mut buffer = [0; 16_000];
                let receives = |socket: &UdpSocket| socket.recv(&mut buffer).is_ok();
                let found: Vec<bool> = group.sockets.iter().map(receives).collect();
                let queue = queue_of(&datagram, &known);
                let mut expected = [false; 4];
                expected[queue as usize] = true;
                assert_eq!(
                    found,
                    expected,
                    "{queue:?}: {:02x?}",
                    &datagram[..datagram.len().min(34)]
                );
            }
        }
    }

    #[test]
    fn a_full_cluster_has_room_in_a_program() {
        let mut random = ChaCha12Rng::seed_from_u64(1);
        let channels = std::iter::repeat_with(|| (random.next_u64(), false));
        let program = program(channels);
        assert!(program.len() <= INSTRUCTIONS_MAX, "{}", program.len());
        let leaves = program.iter().filter(|one| one.code == IF_EQUAL).count();
        assert!(leaves > CHANNELS_MAX - 2 && leaves < CHANNELS_MAX + 4);
    }
}
