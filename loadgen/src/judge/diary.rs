//! Diaries: what happened to a sample of keys, with times, for the judgement of windows after a phase.
//!
//! Each thread has one, of bounded size: if it is full, half of the keys at random are forgotten, but not the hottest
//! ones. If that is not enough it is closed, and only what was before is judged. Repeated events of one key within a
//! short time are one entry.
//!
//! An add has no answer. It has arrived as soon as a later question on the same socket is answered, since a server
//! reads a socket in order. For that a diary keeps the earliest answer to what left in each of many slots of time.

use std::collections::HashMap;

use crate::plan::{Load, Mode, Window};
use crate::record::InWindow;

/// Largest number of entries of all threads of a part together. Each costs 48 bytes.
const ENTRIES_MAX: usize = 1 << 20;
/// Number of slots of time of a part.
const SLOTS: usize = 8192;
/// Largest number of slots of all sockets together.
const SOCKET_SLOTS_MAX: usize = 1 << 22;
/// Number of the hottest keys, which are kept to the end.
const HOT_KEYS: usize = 64;
/// About how many other keys are chosen at first.
const OTHER_KEYS: u64 = 1 << 12;
/// The level of hot keys: no number of halvings forgets them.
const HOT: u32 = u32::MAX;
/// Repeated events are one entry if they are within this part of the window.
const MERGED_PART: u64 = 8192;
/// The time of an answer that has not come.
pub const NEVER_NS: u64 = u64::MAX;

/// The keys that are judged.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Numbers of the hottest keys, ascending.
    hot: Vec<u64>,
    level: u32,
}

impl Chosen {
    /// The choice for a load with windows; `None` for others, or if `others`, the number of keys to check, is 0.
    pub(crate) fn of(load: &Load, others: usize) -> Option<Self> {
        load.mode.window_ms().filter(|_| others > 0)?;
        let mut hot = load.hottest(HOT_KEYS);
        hot.sort_unstable();
        hot.dedup();
        let too_many = load.keys.distinct().div_ceil(OTHER_KEYS);
        let level = too_many.next_power_of_two().ilog2();
        Some(Self { hot, level })
    }

    /// The name of a key in a diary, if the key is chosen.
    #[inline]
    pub(crate) fn name(&self, number: u64) -> Option<u32> {
        let name = u32::try_from(number).ok().filter(|&name| name < u32::MAX)?;
        (self.level_of(name) >= self.level).then_some(name)
    }

    /// The number of halvings after which a key is forgotten.
    fn level_of(&self, name: u32) -> u32 {
        match self.hot.binary_search(&name.into()) {
            Ok(_) => HOT,
            Err(_) => mixed(name).leading_zeros(),
        }
    }
}

fn mixed(name: u32) -> u64 {
    let mixed = (u64::from(name) ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An add left.
    Add,
    /// A count was answered.
    Counted {
        /// The estimate.
        estimate: u64,
        /// Whether more than 2^32 came within the window.
        overflowed: bool,
    },
    /// A hit was answered, and was within the limit.
    Admitted,
    /// A hit was answered, and was over the limit.
    Refused,
    /// A hit was not answered in time.
    Unanswered,
}

/// Something that happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The key, by a number.
    pub key: u32,
    /// What it was.
    pub what: What,
    /// The node, by its number.
    pub node: u16,
    /// The socket, by its number in the phase.
    pub socket: u16,
    /// How often in turn: the weight is this times that of the load.
    pub times: u32,
    /// When the first left.
    pub sent_ns: u64,
    /// When the last left.
    pub last_ns: u64,
    /// When the last was answered, or was known to have arrived; [`NEVER_NS`] if that is not known.
    pub ended_ns: u64,
}

impl Entry {
    fn follows(&self, earlier: &Self, within_ns: u64) -> bool {
        let is_alike = matches!(self.what, What::Add | What::Refused | What::Unanswered)
            && (self.what, self.key, self.node, self.socket)
                == (earlier.what, earlier.key, earlier.node, earlier.socket);
        is_alike && self.last_ns.saturating_sub(earlier.sent_ns) <= within_ns
    }
}

/// The diary of one thread. Its memory is reserved at the start.
#[derive(Debug)]
pub(crate) struct Diary<'a> {
    chosen: &'a Chosen,
    entries: Vec<Entry>,
    level: u32,
    closed_ns: Option<u64>,
    merged_ns: u64,
    slot_ns: u64,
    weight: u64,
    takes: bool,
    /// Weight that was added to all keys, by the slot in which it left.
    added: Box<[u64]>,
    arrivals: Option<Arrivals>,
}

/// For each socket and slot, when the first question that left in it was answered.
#[derive(Debug)]
struct Arrivals {
    first_socket: u16,
    slots: usize,
    answered_ns: Box<[u64]>,
}

impl<'a> Diary<'a> {
    /// A diary of one thread of a part with this window of time, and with so many sockets from number `first_socket`
    /// on.
    pub(crate) fn new(
        chosen: &'a Chosen,
        load: &Load,
        time: &Window,
        first_socket: u16,
        sockets: usize,
    ) -> Self {
        // Senders and receivers have diaries.
        let most = ENTRIES_MAX / (2 * load.threads);
        let end_ns = time.end_ns + 2 * time.timeout_ns;
        let slots = (SOCKET_SLOTS_MAX / load.sockets).clamp(64, SLOTS);
        let asks_beside_adds = matches!(load.mode, Mode::MixIn { .. });
        Self {
            chosen,
            entries: Vec::with_capacity(most),
            level: chosen.level,
            closed_ns: None,
            merged_ns: load.mode.window_ms().unwrap_or(0) * 1_000_000 / MERGED_PART,
            slot_ns: (end_ns / SLOTS as u64).max(1),
            weight: load.weight.into(),
            takes: load.mode.takes(),
            added: vec![0; SLOTS].into_boxed_slice(),
            arrivals: asks_beside_adds.then(|| Arrivals {
                first_socket,
                slots,
                answered_ns: vec![NEVER_NS; slots * sockets].into_boxed_slice(),
            }),
        }
    }

    /// Notes that so many adds of any keys left.
    pub(crate) fn added(&mut self, adds: u64, sent_ns: u64) {
        let slot = (sent_ns / self.slot_ns) as usize;
        let slot = slot.min(self.added.len() - 1);
        self.added[slot] += adds * self.weight;
    }

    /// Notes a verdict on a hit of any key.
    pub(crate) fn decided(&mut self, tally: &InWindow, sent_ns: u64) {
        let adds = match self.takes {
            true => tally.admitted,
            false => tally.decided(),
        };
        self.added(adds, sent_ns);
    }

    /// Notes that a question on a socket was answered.
    pub(crate) fn answered(&mut self, socket: u16, sent_ns: u64, now_ns: u64) {
        if let Some(arrivals) = &mut self.arrivals {
            let slot = (sent_ns / self.slot_ns) as usize * arrivals.slots / SLOTS;
            let row = usize::from(socket - arrivals.first_socket) * arrivals.slots;
            let earliest = &mut arrivals.answered_ns[row + slot.min(arrivals.slots - 1)];
            *earliest = now_ns.min(*earliest);
        }
    }

    /// Notes what happened to a chosen key.
    pub(crate) fn note(&mut self, entry: Entry) {
        if self.closed_ns.is_some() || self.chosen.level_of(entry.key) < self.level {
            return;
        }
        if let Some(latest) = self.entries.last_mut()
            && entry.follows(latest, self.merged_ns)
        {
            latest.times += entry.times;
            latest.last_ns = entry.last_ns;
            latest.ended_ns = latest.ended_ns.max(entry.ended_ns);
            return;
        }
        if self.entries.len() == self.entries.capacity() {
            self.make_room(entry.sent_ns);
        }
        let is_kept = self.closed_ns.is_none() && self.chosen.level_of(entry.key) >= self.level;
        if is_kept {
            self.entries.push(entry);
        }
    }

    /// Forgets half of the keys until a quarter is free, or closes the diary.
    fn make_room(&mut self, now_ns: u64) {
        let enough = self.entries.capacity() / 4 * 3;
        while self.entries.len() > enough {
            if self.level > u64::BITS {
                self.closed_ns = Some(now_ns);
                return;
            }
            self.level += 1;
            let (chosen, level) = (self.chosen, self.level);
            self.entries
                .retain(|entry| chosen.level_of(entry.key) >= level);
        }
    }
}

/// The diaries of all threads together, of all parts of a phase.
#[derive(Debug, Default)]
pub struct Notebook {
    /// What happened to the keys that are judged, in any order.
    pub entries: Vec<Entry>,
    /// Weight that was added to all keys, with the times at which it left at the latest.
    pub added: Vec<(u64, u64)>,
    /// Nothing that was answered later is judged.
    pub closed_ns: Option<u64>,
    /// The number of halvings after which its keys would be forgotten is at least this.
    pub(super) level: u32,
}

impl Notebook {
    /// A notebook of all that happened to some keys. `added` is as in the [field](Self::added).
    #[must_use]
    pub fn new(entries: Vec<Entry>, added: Vec<(u64, u64)>) -> Self {
        Self {
            entries,
            added,
            ..Self::default()
        }
    }

    /// The notebook of the diaries of a part, in the part's own time.
    pub(crate) fn of(diaries: Vec<Diary<'_>>) -> Self {
        let mut all = Self::default();
        let level = diaries.iter().map(|diary| diary.level).max();
        all.level = level.unwrap_or(0);
        let arrived = arrivals(&diaries);
        for diary in diaries {
            let slot_ns = diary.slot_ns;
            all.closed_ns = earlier(all.closed_ns, diary.closed_ns);
            let slots = diary.added.iter().enumerate();
            let added = slots.filter(|&(_, &weight)| weight > 0);
            all.added
                .extend(added.map(|(slot, &weight)| ((slot as u64 + 1) * slot_ns, weight)));
            let chosen = diary.chosen;
            let kept = diary.entries.into_iter();
            let kept = kept.filter(|entry| chosen.level_of(entry.key) >= all.level);
            all.entries.extend(kept.map(|mut entry| {
                if entry.what == What::Add {
                    entry.ended_ns = arrived(&entry);
                }
                entry
            }));
        }
        all
    }

    /// Adds what happened in another part, whose time began `later_ns` after this one's.
    pub(crate) fn append(&mut self, mut other: Self, later_ns: u64, chosen: &Chosen) {
        self.level = self.level.max(other.level);
        for entry in &mut other.entries {
            entry.sent_ns += later_ns;
            entry.last_ns += later_ns;
            entry.ended_ns = entry.ended_ns.saturating_add(later_ns);
        }
        self.entries.append(&mut other.entries);
        let level = self.level;
        self.entries
            .retain(|entry| chosen.level_of(entry.key) >= level);
        let added = other.added.into_iter();
        self.added
            .extend(added.map(|(ns, weight)| (ns + later_ns, weight)));
        let closed_ns = other.closed_ns.map(|ns| ns + later_ns);
        self.closed_ns = earlier(self.closed_ns, closed_ns);
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

/// When an add is known to have arrived: when the first question that left later on its socket was answered.
fn arrivals(diaries: &[Diary<'_>]) -> impl Fn(&Entry) -> u64 + use<> {
    let mut rows: HashMap<u16, Vec<u64>> = HashMap::new();
    let mut slot_ns = 1;
    for diary in diaries {
        slot_ns = diary.slot_ns;
        let Some(arrivals) = &diary.arrivals else {
            continue;
        };
        for (nth, row) in arrivals.answered_ns.chunks(arrivals.slots).enumerate() {
            let mut from_here = row.to_vec();
            for slot in (1..row.len()).rev() {
                from_here[slot - 1] = from_here[slot - 1].min(from_here[slot]);
            }
            rows.insert(arrivals.first_socket + nth as u16, from_here);
        }
    }
    move |entry| {
        let arrived = rows.get(&entry.socket).and_then(|row| {
            let slot = (entry.last_ns / slot_ns) as usize * row.len() / SLOTS;
            row.get(slot + 1)
        });
        arrived.copied().unwrap_or(NEVER_NS)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::load;

    const SECOND: u64 = 1_000_000_000;

    fn entry(key: u32, what: What, sent_ns: u64) -> Entry {
        Entry {
            key,
            what,
            node: 0,
            socket: 0,
            times: 1,
            sent_ns,
            last_ns: sent_ns,
            ended_ns: sent_ns + 1,
        }
    }

    fn diary<'a>(chosen: &'a Chosen, load: &Load) -> Diary<'a> {
        Diary::new(chosen, load, &Window::new(0, load), 0, 1)
    }

    #[test]
    fn only_loads_with_windows_have_chosen_keys_and_few_of_many() {
        assert!(Chosen::of(&load("hit:5", "uniform:10"), 9).is_none());
        assert!(Chosen::of(&load("take:5/60s", "uniform:10"), 0).is_none());
        let all = Chosen::of(&load("take:5/60s", "uniform:1000"), 9).unwrap();
        assert!((0..1000).all(|number| all.name(number) == Some(number as u32)));
        let some = Chosen::of(&load("take:5/60s", "zipf:1:1000000"), 9).unwrap();
        assert!((0..64).all(|number| some.name(number).is_some()));
        let chosen = (0..1_000_000).filter(|&number| some.name(number).is_some());
        assert!((2000..9000).contains(&chosen.count()));
        assert_eq!(some.name(u64::MAX), None);
    }

    #[test]
    fn what_repeats_at_once_is_one_entry() {
        let load = load("take:5/60s", "uniform:10");
        let chosen = Chosen::of(&load, 9).unwrap();
        let mut diary = diary(&chosen, &load);
        for ns in 0..1000 {
            diary.note(entry(3, What::Refused, ns));
        }
        diary.note(entry(3, What::Admitted, 1000));
        diary.note(entry(3, What::Admitted, 1001));
        diary.note(entry(3, What::Refused, 1002));
        diary.note(entry(3, What::Refused, SECOND));
        let times: Vec<_> = diary.entries.iter().map(|entry| entry.times).collect();
        assert_eq!(times, [1000, 1, 1, 1, 1]);
    }

    #[test]
    fn a_full_diary_forgets_keys_but_not_the_hottest_and_is_closed_at_last() {
        let mut load = load("take:5/60s", "zipf:1:100000");
        load.threads = 256;
        let chosen = Chosen::of(&load, 9).unwrap();
        let mut diary = diary(&chosen, &load);
        let most = diary.entries.capacity() as u64;
        let keys: Vec<u32> = (0..100_000)
            .filter_map(|number| chosen.name(number))
            .collect();
        for (ns, key) in keys.iter().cycle().take(2 * most as usize).enumerate() {
            diary.note(entry(*key, What::Admitted, ns as u64));
        }
        assert!(diary.level > chosen.level && diary.closed_ns.is_none());
        assert!(diary.entries.iter().any(|entry| entry.key == 5));
        for ns in 0..2 * most {
            diary.note(entry(5, What::Admitted, SECOND + ns));
        }
        assert!(diary.closed_ns.unwrap() >= SECOND);
        assert_eq!(diary.entries.capacity() as u64, most);
    }

    #[test]
    fn an_add_has_arrived_when_a_later_question_of_its_socket_is_answered() {
        let load = load("mix:0.5/1s", "uniform:10");
        let chosen = Chosen::of(&load, 9).unwrap();
        let mut diary = diary(&chosen, &load);
        for ns in [SECOND / 2, SECOND] {
            diary.note(entry(3, What::Add, ns));
        }
        diary.answered(0, SECOND / 2, SECOND / 2 + 5);
        diary.answered(0, SECOND / 4 * 3, SECOND / 4 * 3 + 7);
        diary.added(2, SECOND);
        let mut notebook = Notebook::of(vec![diary]);
        let ended: Vec<_> = notebook
            .entries
            .iter()
            .map(|entry| entry.ended_ns)
            .collect();
        assert_eq!(ended, [SECOND / 4 * 3 + 7, NEVER_NS]);
        assert_eq!(
            notebook
                .added
                .iter()
                .map(|&(_, weight)| weight)
                .sum::<u64>(),
            2
        );
        notebook.append(Notebook::default(), 5, &chosen);
        assert_eq!(notebook.entries.len(), 2);
    }
}
