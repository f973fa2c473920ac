//! Options that somebody gave, and which of them count.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    File,
    Variable,
    Flag,
}

/// An option that somebody gave.
pub(super) struct Given {
    pub(super) id: String,
    pub(super) level: Level,
    pub(super) values: Vec<String>,
    /// Whether it says more than the default does; `--compat` may be given as false.
    pub(super) is_on: bool,
}

/// A word of an option, or any.
type Word = (&'static str, Option<&'static str>);

const SIZE: [Word; 2] = [("width", None), ("depth", None)];
const ERROR: [Word; 2] = [("epsilon", None), ("confidence", None)];
const COMPAT: [Word; 1] = [("compat", None)];
/// The size in a sketch of the name `default`, which is no option by itself.
pub(super) const SIZE_OF_DEFAULT_ID: &str = "size of the sketch default";
const SIZE_OF_DEFAULT: [Word; 1] = [(SIZE_OF_DEFAULT_ID, None)];

/// Options that contradict each other: each of the one list with each of the other.
const CONTRADICTIONS: &[(&[Word], &[Word])] = &[
    (&SIZE, &ERROR),
    (&COMPAT, &SIZE),
    (&COMPAT, &ERROR),
    (&COMPAT, &[("hash", None), ("seed", None)]),
    (&[("hash", Some("fnv"))], &[("seed", None)]),
    (&SIZE_OF_DEFAULT, &SIZE),
    (&SIZE_OF_DEFAULT, &ERROR),
    (&SIZE_OF_DEFAULT, &COMPAT),
    (
        &[("cluster", Some("off"))],
        &[
            ("join", None),
            ("advertise", None),
            ("cluster_key_file", None),
            ("insecure_cluster", None),
        ],
    ),
];

impl Given {
    fn is(&self, &(id, value): &Word) -> bool {
        self.id == id && value.is_none_or(|value| self.values.iter().any(|it| it == value))
    }

    fn contradicts(&self, other: &Self) -> bool {
        let has = |words: &[Word], given: &Self| words.iter().any(|word| given.is(word));
        self.is_on
            && other.is_on
            && CONTRADICTIONS.iter().any(|(ones, others)| {
                (has(ones, self) && has(others, other)) || (has(others, self) && has(ones, other))
            })
    }
}

/// Splits what is given into what counts and what a higher level contradicts.
pub(super) fn weigh(mut given: Vec<Given>) -> (Vec<Given>, Vec<Given>) {
    given.sort_by_key(|given| std::cmp::Reverse(given.level));
    let (mut counts, mut dropped): (Vec<Given>, _) = (Vec::new(), Vec::new());
    for given in given {
        let is_contradicted = counts
            .iter()
            .any(|higher| higher.level > given.level && higher.contradicts(&given));
        if is_contradicted {
            dropped.push(given);
        } else {
            counts.push(given);
        }
    }
    (counts, dropped)
}
