//! Compact requests, one in each datagram. Requests that ask get a reply, which answers for the whole datagram,
//! including the adds behind the question.

use rmbd_proto::compact::RequestWriter;

use super::filling::Filling;
use crate::flight::Question;
use crate::judge::{Chosen, Claim, Ledger};
use crate::plan::{DATAGRAM_BYTES, Kind, Load, Messages, Script};

/// Writes requests, each with its own number.
pub(super) struct Requests<'a> {
    writer: RequestWriter,
    messages: Messages,
    next_id: u32,
    ledger: Option<&'a Ledger>,
    chosen: Option<&'a Chosen>,
}

impl<'a> Requests<'a> {
    /// Requests of a load. A load of hits of all time has a ledger, and one with windows may have chosen keys.
    pub(super) fn new(load: &Load, ledger: Option<&'a Ledger>, chosen: Option<&'a Chosen>) -> Self {
        Self {
            writer: RequestWriter::new(DATAGRAM_BYTES),
            messages: load.form().messages(),
            next_id: 0,
            ledger,
            chosen,
        }
    }

    /// What goes with the question of a message of this kind and key.
    fn claim(&self, kind: Kind, number: u64) -> Claim {
        match (self.ledger, self.chosen) {
            (Some(ledger), _) if kind == Kind::Hit => ledger.leaves(number),
            (_, Some(chosen)) => chosen.name(number).map_or(Claim::NONE, Claim::of_diary),
            _ => Claim::NONE,
        }
    }

    /// Adds a datagram of the next `messages` messages, or of as many as fit. Returns their number.
    pub(super) fn datagram(
        &mut self,
        filling: &mut Filling,
        script: &mut Script,
        messages: usize,
        planned_ns: u64,
    ) -> usize {
        let id = self.start(false);
        let first_question = filling.questions.len();
        let (mut adds, mut hits, mut written) = (0, 0, 0);
        while written < messages {
            let (kind, key) = script.next();
            let fits = self.messages.write(&mut self.writer, kind, key);
            if fits.is_err() {
                script.put_back();
                break;
            }
            written += 1;
            if kind == Kind::Add {
                adds += 1;
                let number = script.latest_number();
                let name = self.chosen.and_then(|chosen| chosen.name(number));
                filling.noted_adds.extend(name);
                continue;
            }
            hits += u64::from(kind == Kind::Hit);
            let claim = self.claim(kind, script.latest_number());
            filling.questions.push(Question {
                planned_ns,
                sent_ns: 0,
                check: id,
                covers: 1,
                claim,
            });
        }
        debug_assert!(written > 0, "any message fits a datagram of its own");
        let questions = written - adds;
        filling.contents.adds += adds as u64;
        filling.contents.hits += hits;
        filling.contents.counts += questions as u64 - hits;
        // The number is at most 1 400.
        filling.adds_uncovered += adds as u32;
        if let Some(question) = filling.questions.get_mut(first_question) {
            question.covers += filling.adds_uncovered;
            filling.adds_uncovered = 0;
        }
        filling.push(self.writer.finish());
        written
    }

    /// Adds a request that asks only for an acknowledgement.
    pub(super) fn fence(&mut self, filling: &mut Filling, planned_ns: u64) {
        let id = self.start(true);
        filling.contents.acknowledgements += 1;
        filling.questions.push(Question {
            planned_ns,
            sent_ns: 0,
            check: id,
            covers: filling.adds_uncovered,
            claim: Claim::NONE,
        });
        filling.adds_uncovered = 0;
        filling.push(self.writer.finish());
    }

    fn start(&mut self, acknowledge: bool) -> u32 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.messages.start(&mut self.writer, id, acknowledge);
        id
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rmbd_proto::compact::{Operation, is_request, request};

    use crate::judge::Ledger;
    use crate::plan::testing::load;
    use crate::plan::{Format, KeySet, Kind, Load, Script};
    use crate::send::TrainWriter;

    fn compact(mode: &str, keys: &KeySet, weight: u32) -> Load {
        let mut load = Load {
            format: Format::Compact,
            weight,
            keys: keys.clone(),
            ..load(mode, "uniform:1000")
        };
        load.pack = load.full_datagram();
        load.check().unwrap();
        load
    }

    /// The kinds and keys of a train, which is cut as the kernel cuts it.
    fn operations(writer: &TrainWriter<'_>, load: &Load) -> Vec<(Kind, Vec<u8>)> {
        let mut seen = Vec::new();
        let as_told = |weight: u64| assert_eq!(weight, u64::from(load.weight));
        let train: Vec<u8> = (writer.filling.train.datagrams().flatten())
            .copied()
            .collect();
        for (id, datagram) in train.chunks(load.segment_bytes()).enumerate() {
            assert!(datagram.len() <= 1400 && is_request(datagram[0]));
            let request = request(datagram).unwrap();
            assert_eq!(request.id, id as u32);
            assert!(!request.acknowledge || request.operations().next().is_none());
            for operation in request.operations() {
                let (kind, key) = match operation.unwrap() {
                    Operation::Add { key, weight } => {
                        as_told(weight);
                        (Kind::Add, key)
                    }
                    Operation::Count { key } => (Kind::Count, key),
                    Operation::Hit {
                        key,
                        weight,
                        limit: 7,
                        window_ms: 0,
                    } => {
                        as_told(weight);
                        (Kind::Hit, key)
                    }
                    other => panic!("{other:?}"),
                };
                seen.push((kind, key.to_vec()));
            }
        }
        seen
    }

    #[test]
    fn trains_are_what_the_script_says_whatever_the_keys() {
        let path = std::env::temp_dir().join(format!("loadgen-keys-{}", std::process::id()));
        let lines: Vec<_> = (0..500).map(|n| "k".repeat(1 + n * 7 % 1024)).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let open = |keys: &str, key_bytes| {
            KeySet::open(&keys.parse().unwrap(), key_bytes, "", Format::Compact).unwrap()
        };
        let file = &open(&format!("file:{}", path.display()), 16);
        let (short, skewed) = (&open("uniform:1000", 16), &open("zipf:1.1:1000", 16));
        let longest = &open("uniform:1000", 1024);
        let cases = [
            ("add", short, 1),
            ("add", short, 1000),
            ("mix:0.5", skewed, 1),
            ("mix:0.5", skewed, 1 << 20),
            ("hit:7", short, 1),
            ("hit:7", short, 300),
            ("add", longest, 2),
            ("hit:7", longest, 1),
            ("add", file, 1),
            ("add", file, 1 << 20),
            ("mix:0.3", file, 1),
            ("mix:0.3", file, 130),
            ("hit:7", file, 1),
        ];
        for (mode, keys, weight) in cases {
            let load = compact(mode, keys, weight);
            let name = format!("{mode} {} {weight}", load.keys.spec());
            let ledger =
                (mode == "hit:7").then(|| Ledger::new(7, load.weight, load.keys.distinct()));
            let mut writer = TrainWriter::new(&load, ledger.as_ref(), None);
            let mut script = Script::new(&load, 0);
            let mut written = 0;
            while writer.has_room() {
                written += writer.datagram(&mut script, usize::MAX, 5);
            }
            assert!(writer.filling.train.bytes() <= 65_507);
            assert!(written >= 40, "{name}: {written}");
            assert_eq!(writer.messages(), written);
            // The next train goes on where this one ended.
            let mut again = Script::new(&load, 0);
            let mut expected = || {
                let (kind, key) = again.next();
                (kind, key.to_vec())
            };
            let wanted: Vec<_> = (0..written).map(|_| expected()).collect();
            assert_eq!(operations(&writer, &load), wanted, "{name}");
            let (kind, key) = script.next();
            assert_eq!((kind, key.to_vec()), expected());
            // The questions, or the fence, cover everything.
            if writer.needs_fence() {
                writer.fence(&script, 5);
            }
            assert!(!writer.needs_fence());
            let questions = &writer.filling.questions;
            let covered: u32 = questions.iter().map(|question| question.covers).sum();
            assert_eq!(covered as usize, written, "{name}");
            assert_eq!(questions.len() as u64, writer.filling.contents.requests());
            assert_eq!(operations(&writer, &load), wanted, "{name}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn made_keys_fill_datagrams_without_padding() {
        let load = compact("add", &load("add", "uniform:1000").keys, 1);
        assert_eq!((load.pack, load.segment_bytes()), (77, 7 + 77 * 18));
        let mut writer = TrainWriter::new(&load, None, None);
        let mut script = Script::new(&load, 0);
        for _ in 0..3 {
            assert_eq!(writer.datagram(&mut script, 100, 0), 77);
        }
        assert_eq!(writer.filling.train.bytes(), 3 * load.segment_bytes());
        assert_eq!(writer.filling.adds_uncovered, 3 * 77);
        writer.fence(&script, 0);
        assert_eq!(writer.filling.train.bytes(), 3 * load.segment_bytes() + 7);
    }
}
