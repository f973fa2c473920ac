//! A small question, "what are you?", before anything is pushed to an address, or believed of one: a
//! node of this program answers it, and the Python program does not.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;

use crate::wire::compact::{Answer, Header, RequestWriter, reply};

/// How often the question is sent; each may be lost.
const TRIES: u32 = 3;
/// A question and its padding for the answer.
const QUESTION_BYTES_MAX: usize = 64;

/// Whom we asked and have no answer of yet.
#[derive(Debug)]
pub(super) struct Challenges {
    asked: BTreeMap<SocketAddr, Asked>,
    writer: RequestWriter,
    random: RandomState,
    numbers: u64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Not to be guessed by who cannot see the question.
    id: u32,
    tries: u32,
}

/// What an address says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) boot: u64,
    pub(super) fingerprint: u64,
    /// 0 where it is in no cluster.
    pub(super) cluster_port: u16,
}

impl Challenges {
    pub(super) fn new() -> Self {
        Self {
            asked: BTreeMap::new(),
            writer: RequestWriter::new(QUESTION_BYTES_MAX),
            random: RandomState::new(),
            numbers: 0,
        }
    }

    /// Whether answers are awaited.
    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Asks from now on, unless that is under way.
    pub(super) fn ask(&mut self, whom: SocketAddr, send: impl FnOnce(&[u8])) {
        if self.asked.contains_key(&whom) {
            return;
        }
        let mut hasher = self.random.build_hasher();
        self.numbers += 1;
        hasher.write_u64(self.numbers);
        let id = hasher.finish() as u32;
        self.asked.insert(whom, Asked { id, tries: 1 });
        if let Some(question) = question(&mut self.writer, id) {
            send(question);
        }
    }

    /// One round: asks again who has not answered; returns who has been asked often enough.
    pub(super) fn round(&mut self, mut send: impl FnMut(SocketAddr, &[u8])) -> Vec<SocketAddr> {
        let silent = self.asked.extract_if(.., |_, asked| asked.tries >= TRIES);
        let silent = silent.map(|(whom, _)| whom).collect();
        for (&whom, asked) in &mut self.asked {
            asked.tries += 1;
            if let Some(question) = question(&mut self.writer, asked.id) {
                send(whom, question);
            }
        }
        silent
    }

    /// Takes a reply; `None` where nobody asked for it.
    pub(super) fn answer(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Told> {
        let id = self.asked.get(&from)?.id;
        let reply = reply(datagram).ok()?;
        let Some(Ok(Answer::Info(info))) = reply.answers().next() else {
            return None;
        };
        (reply.head.id == id).then(|| {
            self.asked.remove(&from);
            Told {
                boot: info.boot,
                fingerprint: info.fingerprint,
                cluster_port: info.cluster_port,
            }
        })
    }
}

/// Always fits.
fn question(writer: &mut RequestWriter, id: u32) -> Option<&[u8]> {
    let header = Header {
        id,
        ..Header::default()
    };
    writer.start(&header).ok()?;
    writer.info().ok()?;
    Some(writer.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::compact::{Info, REPLY_HEAD_BYTES, ReplyHead, encode_info, write_reply_head};

    fn peer(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn reply_to(question: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; REPLY_HEAD_BYTES];
        let head = ReplyHead {
            id: u32::from_le_bytes(question[2..6].try_into().unwrap()),
            done: 1,
            ..ReplyHead::default()
        };
        write_reply_head(head, bytes.first_chunk_mut().unwrap());
        bytes.extend(encode_info(&Info {
            boot: 5,
            fingerprint: 6,
            width: 7,
            max_weight: 8,
            depth: 9,
            hash: 1,
            version: b"1",
            cluster_port: 10,
            cookie: b"",
        }));
        bytes
    }

    #[test]
    fn an_answer_counts_once_from_who_was_asked_and_to_what_was_asked() {
        let mut challenges = Challenges::new();
        let mut question = Vec::new();
        challenges.ask(peer(1), |bytes| question = bytes.to_vec());
        let good = reply_to(&question);
        // What is asked pays for what is answered.
        assert!(question.len() * 3 >= good.len());
        assert_eq!(challenges.answer(peer(2), &good), None);
        let mut other_id = good.clone();
        other_id[2] ^= 1;
        assert_eq!(challenges.answer(peer(1), &other_id), None);
        for end in 0..good.len() {
            assert_eq!(challenges.answer(peer(1), &good[..end]), None);
        }
        assert!(challenges.is_waiting());
        let told = Told {
            boot: 5,
            fingerprint: 6,
            cluster_port: 10,
        };
        assert_eq!(challenges.answer(peer(1), &good), Some(told));
        assert_eq!(challenges.answer(peer(1), &good), None);
        assert!(!challenges.is_waiting());
    }

    #[test]
    fn who_stays_silent_is_asked_three_times() {
        let mut challenges = Challenges::new();
        let mut sent = Vec::new();
        challenges.ask(peer(1), |bytes| sent.push(bytes.to_vec()));
        challenges.ask(peer(1), |_| panic!("asked already"));
        for _ in 0..2 {
            assert!(
                challenges
                    .round(|_, bytes| sent.push(bytes.to_vec()))
                    .is_empty()
            );
        }
        assert_eq!(challenges.round(|_, _| panic!("asked enough")), [peer(1)]);
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|bytes| *bytes == sent[0]));
        // Another time is another question.
        challenges.ask(peer(1), |bytes| assert_ne!(bytes, sent[0]));
    }
}
