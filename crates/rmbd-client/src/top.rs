//! The largest keys of a sketch, as a node lists them.

use std::time::Duration;

use super::limits::window_ms;
use super::questions::FromAnswer;
use rmbd_proto::compact::{Answer, Operation, TopEntry, TopHead};

/// How often a list is asked for from its beginning on, since the node made another one meanwhile.
const TRIES: u32 = 4;
/// Keys of the longest list that is taken: far more than a node lists.
const KEYS_MAX: usize = 1 << 16;

/// Which list of the largest keys is asked for, and how much of it.
///
/// ```
/// use std::time::Duration;
/// use rmbd_client::TopQuestion;
///
/// let of_all_time = TopQuestion::first(10);
/// let in_the_last_minute = TopQuestion::first(10).within(Duration::from_secs(60));
/// assert_ne!(of_all_time, in_the_last_minute);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopQuestion {
    most: usize,
    span: Duration,
}

impl TopQuestion {
    /// The whole list of all time.
    pub const ALL: Self = Self::first(usize::MAX);

    /// At most so many keys, those with the largest counts of all time.
    #[must_use]
    pub const fn first(most: usize) -> Self {
        let span = Duration::ZERO;
        Self { most, span }
    }

    /// The same in a window, which the sketch has to keep as a whole ([`sketches`](super::Client::sketches) tells
    /// them); zero is all time.
    #[must_use]
    pub const fn within(self, span: Duration) -> Self {
        Self { span, ..self }
    }
}

/// The largest keys of a sketch, as the node listed them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// The keys, those with the largest estimates first.
    pub keys: Vec<TopKey>,
    /// Every key of which more than this was counted is in [`keys`](Self::keys); `None` if nothing is known.
    pub complete_above: Option<u64>,
    /// N: all weight that was counted (in the window) when the list was made, of all keys.
    pub total_weight: u64,
    /// How many keys the node lists; it may be more than were asked for.
    pub listed: u64,
    /// How old the list is; `None` if none is made yet, as in the first second of a node.
    pub age: Option<Duration>,
    /// Something that others counted is not at the node, or it has not been there for the whole window: all together
    /// may have more.
    pub incomplete: bool,
    /// The node shows this client no names (its `--show-keys`).
    pub redacted: bool,
    /// The node made other lists faster than all parts of one came: a key may be here twice, or lack.
    pub mixed: bool,
}

/// One of the largest keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopKey {
    /// Its bytes; `None` if the node does not know them, or does not show them.
    pub name: Option<Vec<u8>>,
    /// Never below the truth for what arrived, and is known at the node.
    pub estimate: u64,
    /// What certainly was added to it: never above the truth.
    pub certain: u64,
}

/// A part of a list.
#[derive(Debug, PartialEq)]
pub(super) struct TopPart {
    head: TopHead,
    keys: Vec<TopKey>,
}

/// The list, out of its parts.
#[derive(Debug)]
pub(super) struct TopList {
    question: TopQuestion,
    head: TopHead,
    keys: Vec<TopKey>,
    tries: u32,
    is_mixed: bool,
}

impl TopList {
    pub(super) fn new(question: TopQuestion) -> Self {
        Self {
            question: TopQuestion {
                most: question.most.min(KEYS_MAX),
                ..question
            },
            head: TopHead::default(),
            keys: Vec::new(),
            tries: 1,
            is_mixed: false,
        }
    }

    /// Asks for the next part.
    pub(super) fn operation(&self) -> Operation<'static> {
        Operation::Top {
            window_ms: window_ms(self.question.span),
            first: self.keys.len() as u64,
            most: (self.question.most - self.keys.len()) as u64,
        }
    }

    /// Takes the next part; whether that was the last one.
    pub(super) fn take(&mut self, part: TopPart) -> bool {
        let is_of_another = !self.keys.is_empty() && part.head.edition != self.head.edition;
        if is_of_another && self.tries < TRIES {
            self.tries += 1;
            self.keys.clear();
            return false;
        }
        let mut head = part.head;
        if is_of_another {
            self.is_mixed = true;
            head.complete_above = head.complete_above.max(self.head.complete_above);
            head.incomplete |= self.head.incomplete;
        }
        self.head = head;
        let is_empty = part.keys.is_empty();
        let room = self.question.most - self.keys.len();
        self.keys.extend(part.keys.into_iter().take(room));
        let has_all = self.keys.len() as u64 >= self.head.listed;
        is_empty || has_all || self.keys.len() == self.question.most
    }

    pub(super) fn finish(self) -> Top {
        let Self {
            head,
            keys,
            is_mixed,
            ..
        } = self;
        let is_cut = (keys.len() as u64) < head.listed;
        let above = match keys.last() {
            _ if !is_cut => head.complete_above,
            Some(last) => head.complete_above.max(last.estimate),
            None => u64::MAX,
        };
        Top {
            keys,
            complete_above: (above < u64::MAX).then_some(above),
            total_weight: head.total_weight,
            listed: head.listed,
            age: (head.edition > 0).then(|| Duration::from_millis(head.age_ms.into())),
            incomplete: head.incomplete,
            redacted: head.redacted,
            mixed: is_mixed,
        }
    }
}

impl FromAnswer for TopPart {
    fn from_answer(answer: Option<Answer<'_>>) -> Option<Self> {
        match answer? {
            Answer::Top(top) => Some(Self {
                head: top.head,
                keys: top.entries().map(TopKey::from).collect(),
            }),
            _ => None,
        }
    }
}

impl From<TopEntry<'_>> for TopKey {
    fn from(entry: TopEntry<'_>) -> Self {
        Self {
            name: entry.name.map(<[u8]>::to_vec),
            estimate: entry.estimate,
            certain: entry.certain,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A part of a list of these estimates, from a position on.
    fn part(edition: u64, estimates: &[u64], list: &TopList, most: usize) -> TopPart {
        let Operation::Top { first, .. } = list.operation() else {
            panic!("{:?}", list.operation());
        };
        let keys = estimates.iter().skip(first as usize).take(most);
        let key = |&estimate: &u64| TopKey {
            name: None,
            estimate,
            certain: 0,
        };
        let head = TopHead {
            edition,
            complete_above: 10 + edition,
            listed: estimates.len() as u64,
            ..TopHead::default()
        };
        TopPart {
            head,
            keys: keys.map(key).collect(),
        }
    }

    fn estimates(top: &Top) -> Vec<u64> {
        top.keys.iter().map(|key| key.estimate).collect()
    }

    #[test]
    fn a_list_is_put_together_of_its_parts() {
        let all = [9, 8, 7, 6, 5];
        for most in 0..7 {
            let mut list = TopList::new(TopQuestion::first(most));
            while !list.take(part(1, &all, &list, 2)) {}
            let top = list.finish();
            assert_eq!(estimates(&top), all[..most.min(5)]);
            let above = match most {
                0 => None,
                _ => Some(11),
            };
            assert_eq!((top.complete_above, top.mixed), (above, false), "{most}");
        }
        // Of those that were not asked for one may have as much as the last that was.
        let mut list = TopList::new(TopQuestion::first(2));
        assert!(list.take(part(1, &[90, 80, 70], &list, 9)));
        assert_eq!(list.finish().complete_above, Some(80));
    }

    #[test]
    fn a_list_that_changes_is_asked_for_again_but_not_for_ever() {
        let all = [9, 8, 7, 6];
        let mut list = TopList::new(TopQuestion::ALL);
        assert!(!list.take(part(1, &all, &list, 3)));
        assert!(!list.take(part(2, &all, &list, 3)), "it begins again");
        assert!(!list.take(part(2, &all, &list, 3)));
        assert!(list.take(part(2, &all, &list, 3)));
        let top = list.finish();
        assert_eq!((estimates(&top), top.mixed), (all.to_vec(), false));
        // Each part is of another list.
        let mut list = TopList::new(TopQuestion::ALL);
        let parts = (1..100).take_while(|&edition| {
            let next = part(edition, &all, &list, 1);
            !list.take(next)
        });
        assert!(parts.count() < 20);
        let top = list.finish();
        assert_eq!((estimates(&top), top.mixed), (all.to_vec(), true));
        assert!(top.complete_above > Some(11));
        // It has become shorter.
        let mut list = TopList::new(TopQuestion::ALL);
        list.tries = TRIES;
        assert!(!list.take(part(1, &all, &list, 3)));
        assert!(list.take(part(2, &all[..1], &list, 3)));
        assert_eq!(list.finish().keys.len(), 3);
    }

    #[test]
    fn before_the_first_list_nothing_is_known() {
        let mut list = TopList::new(TopQuestion::ALL);
        let head = TopHead {
            complete_above: u64::MAX,
            ..TopHead::default()
        };
        let keys = Vec::new();
        assert!(list.take(TopPart { head, keys }));
        let top = list.finish();
        assert_eq!((top.complete_above, top.age), (None, None));
    }
}
