//! The lists of the largest keys, compared with what was sent.
//!
//! The scripts are run again after each phase, and all keys that they add are counted exactly. So the truth costs
//! nothing while sending, and memory by the number of keys, of which there may be [`KEYS_MAX`].

use std::collections::HashMap;

use rmbd_client::Top;
use rmbd_proto::SketchName;

use super::replay::replay;
use crate::output::{exact, share};
use crate::plan::{Load, Script};
use crate::record::{Check, ListFigures, Outcome};

/// Number of keys that lists are asked for.
pub(crate) const ASKED: usize = 100;

/// Largest number of keys of a load that are counted: some hundred megabytes in the worst case.
const KEYS_MAX: u64 = 1 << 22;

/// All keys that were sent, with the weight of each.
#[derive(Debug, Default)]
pub(crate) struct SentKeys {
    /// The sketch that they were sent to: the loads of a run all have the same one.
    sketch: SketchName,
    weights: HashMap<Vec<u8>, u64>,
    /// Some of what was sent did not arrive, or nobody knows.
    are_some_lost: bool,
    /// Why lists cannot be judged.
    unjudged: Option<String>,
}

/// How often the messages of a phase add each key, by the keys' numbers.
#[derive(Debug)]
pub(crate) struct Replayed(Vec<u64>);

impl Replayed {
    /// Runs the scripts of a load again, as far as `scripted[part]` messages of each; `None` where there are too many
    /// keys.
    pub(crate) fn of(load: &Load, scripted: &[u64]) -> Option<Self> {
        let distinct = load.keys.distinct();
        if distinct > KEYS_MAX {
            return None;
        }
        let places = distinct as usize;
        let count = |script, messages| times_of_all(places, script, messages);
        Some(Self(replay(load, scripted, places, count)))
    }

    /// How often the key with a number was added.
    pub(crate) fn times(&self, number: u64) -> u64 {
        let place = usize::try_from(number).ok();
        place.and_then(|at| self.0.get(at)).copied().unwrap_or(0)
    }
}

/// How often the next `messages` messages add each of so many keys.
fn times_of_all(keys: usize, mut script: Script, messages: u64) -> Vec<u64> {
    let mut times = vec![0; keys];
    for _ in 0..messages {
        let (kind, number) = script.next_number();
        if kind.adds()
            && let Some(times) = times.get_mut(number as usize)
        {
            *times += 1;
        }
    }
    times
}

impl SentKeys {
    /// Nothing was sent yet to a sketch, in which servers have this weight, if they tell.
    pub(crate) fn to_sketch(sketch: &SketchName, weight_before: Option<u64>) -> Self {
        let unjudged = match weight_before {
            Some(0) => None,
            Some(_) => Some("the sketch was not empty before the run".to_owned()),
            None => Some("the server does not say what was in the sketch before".to_owned()),
        };
        Self {
            sketch: sketch.clone(),
            unjudged,
            ..Self::default()
        }
    }

    /// The sketch that they were sent to.
    pub(crate) fn sketch(&self) -> &SketchName {
        &self.sketch
    }

    /// Enters what a phase sent. `replayed` is `None` where it had too many keys, `lost` the number of its adds that
    /// did not arrive, if that is known.
    pub(crate) fn enter(&mut self, load: &Load, replayed: Option<&Replayed>, lost: Option<u64>) {
        let Some(Replayed(all)) = replayed else {
            let most = exact(KEYS_MAX);
            self.unjudged(&format!("a load has more than {most} keys"));
            return;
        };
        if load.mode.takes() {
            self.unjudged("what takes add depends on their verdicts");
            return;
        }
        self.are_some_lost |= lost != Some(0);
        for (number, &times) in (0..).zip(all) {
            if times > 0 {
                let weight = times * u64::from(load.weight);
                *self.weights.entry(load.keys.key(number)).or_default() += weight;
            }
        }
    }

    /// Notes why lists cannot be judged.
    pub(crate) fn unjudged(&mut self, why: &str) {
        self.unjudged.get_or_insert_with(|| why.to_owned());
    }

    /// Why they cannot be judged.
    pub(crate) fn why_not(&self) -> Option<&str> {
        self.unjudged.as_deref()
    }

    /// The weight of all that was sent.
    pub(crate) fn total_weight(&self) -> u64 {
        self.weights.values().sum()
    }

    /// Compares the list of a server.
    pub(crate) fn compare(&self, server: &str, top: &Top) -> ListFigures {
        let mut ordered: Vec<u64> = self.weights.values().copied().collect();
        ordered.sort_unstable_by(|a, b| b.cmp(a));
        let asked = ASKED.min(ordered.len());
        let least = asked.checked_sub(1).map_or(0, |last| ordered[last]);
        let named: Vec<(&[u8], u64)> = (top.keys.iter())
            .filter_map(|key| key.name.as_deref())
            .map(|name| (name, self.weight(name)))
            .collect();
        // Of keys that came as often as the last one of the largest, any will do.
        let found = named.iter().filter(|(_, weight)| *weight >= least).count();
        let pairs = || named.iter().zip(named.iter().skip(1));
        let ordered_pairs = pairs().filter(|((_, one), (_, next))| one >= next).count();
        let is_above = |weight: u64| top.complete_above.is_some_and(|above| weight > above);
        let above = ordered.iter().take_while(|&&weight| is_above(weight));
        let found_above = named.iter().filter(|(_, weight)| is_above(*weight));
        let key_is = |is: fn(u64, u64, u64) -> bool| {
            let keys = top.keys.iter();
            let keys = keys.filter(|key| {
                let weight = key.name.as_deref().map(|name| self.weight(name));
                weight.is_some_and(|weight| is(weight, key.estimate, key.certain))
            });
            keys.count() as u64
        };
        ListFigures {
            server: server.to_owned(),
            asked: asked as u64,
            listed: top.keys.len() as u64,
            named: named.len() as u64,
            recall: found.min(asked) as f64 / asked.max(1) as f64,
            in_order: ordered_pairs as f64 / pairs().count().max(1) as f64,
            complete_above: top.complete_above,
            least_of_largest: least,
            missing_above: (above.count()).saturating_sub(found_above.count()) as u64,
            below_truth: key_is(|weight, estimate, _| estimate < weight),
            certain_above_truth: key_is(|weight, _, certain| certain > weight),
            incomplete: top.incomplete || top.mixed || top.redacted || self.are_some_lost,
        }
    }

    fn weight(&self, name: &[u8]) -> u64 {
        self.weights.get(name).copied().unwrap_or(0)
    }
}

/// The checks of lists.
pub(super) fn checks(lists: &[ListFigures]) -> Vec<Check> {
    let check = |name: &str, outcome, detail| Check {
        name: name.to_owned(),
        outcome,
        detail,
    };
    if lists.is_empty() {
        return Vec::new();
    }
    let are_incomplete = lists.iter().any(|list| list.incomplete);
    let failed_if = |is_wrong: bool, may_be: bool| match (is_wrong, may_be) {
        (false, _) => Outcome::Passed,
        (true, true) => Outcome::Unknown,
        (true, false) => Outcome::Failed,
    };
    // A key without a name may be any.
    let nameless = |list: &ListFigures| list.listed - list.named;
    let lacks = lists.iter().any(|list| list.missing_above > nameless(list));
    let below = lists.iter().any(|list| list.below_truth > 0);
    let above = lists.iter().any(|list| list.certain_above_truth > 0);
    let details: Vec<String> = lists.iter().map(in_words).collect();
    let bounds = match (below, above) {
        // Whatever was lost, nothing that did not come is certain.
        (_, true) => Outcome::Failed,
        (below, false) => failed_if(below, are_incomplete),
    };
    let wrong: Vec<String> = (lists.iter())
        .map(|list| {
            format!(
                "{} of {} named counts are below the truth, {} certain ones above it",
                exact(list.below_truth),
                exact(list.named),
                exact(list.certain_above_truth)
            )
        })
        .collect();
    vec![
        check(
            "the list of the largest keys has all that it says",
            failed_if(lacks, are_incomplete),
            format!("{}.", details.join("; ")),
        ),
        check(
            "counts of the list are bounds",
            bounds,
            format!("{}.", wrong.join("; ")),
        ),
    ]
}

fn in_words(list: &ListFigures) -> String {
    let above = match list.complete_above {
        Some(above) => format!("complete above {}", exact(above)),
        None => "it says nothing of what lacks".to_owned(),
    };
    let lacks = match list.missing_above {
        0 => String::new(),
        lacking => format!(", and {} keys with more are not in it", exact(lacking)),
    };
    format!(
        "{}: {} of the {} largest keys, {} of pairs in order, {above} (the last of the largest came {} times){lacks}",
        list.server,
        share(list.recall),
        exact(list.asked),
        share(list.in_order),
        exact(list.least_of_largest),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::testing::load;
    use rmbd_client::TopKey;

    #[test]
    fn a_replay_counts_each_key_as_the_scripts_send_it() {
        let mut load = load("mix:0.4", "zipf:1.1:300");
        load.threads = 2;
        let scripted = [5_000, 700];
        let mut truth = vec![0; 300];
        for (part, &messages) in scripted.iter().enumerate() {
            let mut script = Script::new(&load, part);
            for _ in 0..messages {
                let (kind, number) = script.next_number();
                truth[number as usize] += u64::from(kind.adds());
            }
        }
        let replayed = Replayed::of(&load, &scripted).unwrap();
        assert_eq!(replayed.0, truth);
        assert_eq!((replayed.times(0), replayed.times(300)), (truth[0], 0));
        let many = crate::plan::testing::load("add", "uniform:4194305");
        assert!(Replayed::of(&many, &[1]).is_none());
    }

    /// Keys `a`, `b` and so on that came so often.
    fn sent(weights: &[u64]) -> SentKeys {
        let mut sent = SentKeys::to_sketch(&SketchName::default(), Some(0));
        for (name, &weight) in (b'a'..).zip(weights) {
            sent.weights.insert(vec![name], weight);
        }
        sent
    }

    fn top(keys: &[(Option<u8>, u64, u64)], complete_above: u64) -> Top {
        Top {
            keys: keys
                .iter()
                .map(|&(name, estimate, certain)| TopKey {
                    name: name.map(|name| vec![name]),
                    estimate,
                    certain,
                })
                .collect(),
            complete_above: Some(complete_above),
            total_weight: 100,
            listed: keys.len() as u64,
            age: Some(Duration::ZERO),
            incomplete: false,
            redacted: false,
            mixed: false,
        }
    }

    fn outcomes(sent: &SentKeys, top: &Top) -> [Outcome; 2] {
        let figures = sent.compare("here", top);
        let checks = checks(&[figures]);
        [checks[0].outcome, checks[1].outcome]
    }

    #[test]
    fn a_list_is_judged_by_what_it_says() {
        use Outcome::{Failed, Passed, Unknown};
        let mut sent = sent(&[50, 30, 20]);
        let a = (Some(b'a'), 50, 50);
        let (b, c) = ((Some(b'b'), 31, 29), (Some(b'c'), 20, 0));
        assert_eq!(outcomes(&sent, &top(&[a, b, c], 0)), [Passed, Passed]);
        let figures = sent.compare("here", &top(&[a, c, b], 0));
        assert_eq!((figures.recall, figures.in_order), (1.0, 0.5));
        assert_eq!((figures.asked, figures.least_of_largest), (3, 20));
        // One lacks that came more often than it says; with as much it may lack; a key without a name may be it.
        assert_eq!(outcomes(&sent, &top(&[a, c], 29)), [Failed, Passed]);
        assert_eq!(outcomes(&sent, &top(&[a, c], 30)), [Passed, Passed]);
        assert_eq!(
            outcomes(&sent, &top(&[a, (None, 30, 30)], 29)),
            [Passed, Passed]
        );
        assert_eq!(sent.compare("here", &top(&[a], 90)).recall, 1.0 / 3.0);
        // Bounds that are none.
        let (low, high) = ((Some(b'b'), 29, 1), (Some(b'b'), 99, 31));
        assert_eq!(outcomes(&sent, &top(&[a, low, c], 0)), [Passed, Failed]);
        assert_eq!(outcomes(&sent, &top(&[a, high, c], 0)), [Passed, Failed]);
        let stranger = (Some(b'z'), 9, 1);
        assert_eq!(outcomes(&sent, &top(&[a, stranger], 40)), [Passed, Failed]);
        // Where some were lost, only what is said to be certain can be wrong.
        sent.are_some_lost = true;
        assert_eq!(outcomes(&sent, &top(&[a, low], 0)), [Unknown, Unknown]);
        assert_eq!(outcomes(&sent, &top(&[a, high], 0)), [Unknown, Failed]);
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        for (weight, expected) in [(None, "does not say"), (Some(7), "not empty")] {
            let sent = SentKeys::to_sketch(&SketchName::default(), weight);
            assert!(sent.why_not().unwrap().contains(expected));
        }
        let mut sent = SentKeys::to_sketch(&SketchName::default(), Some(0));
        let adds = load("add", "uniform:3");
        sent.enter(&adds, Replayed::of(&adds, &[30]).as_ref(), Some(0));
        assert!(sent.why_not().is_none() && !sent.are_some_lost);
        assert_eq!((sent.weights.len(), sent.total_weight()), (3, 30));
        sent.enter(&adds, Replayed::of(&adds, &[30]).as_ref(), None);
        assert!(sent.are_some_lost);
        sent.enter(&adds, None, Some(0));
        assert!(sent.why_not().unwrap().contains("4"));
    }
}
