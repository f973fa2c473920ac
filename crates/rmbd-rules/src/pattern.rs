//! Values with `*`.

/// A value in which each `*` stands for any characters, or for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What stands before the first `*`.
    first: Box<str>,
    /// What stands between two of them.
    middle: Box<[Box<str>]>,
    /// What stands behind the last.
    last: Box<str>,
}

impl Pattern {
    /// The pattern of a value. None if there is no `*` in it.
    pub(crate) fn new(value: &str) -> Option<Self> {
        let (first, rest) = value.split_once('*')?;
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        // Two of them in a row stand for the same as one.
        let middle = middle.split('*').filter(|part| !part.is_empty());
        Some(Self {
            first: first.into(),
            middle: middle.map(Box::from).collect(),
            last: last.into(),
        })
    }

    /// Whether a value fits. It takes the first place where each part of the middle is found: a later one would leave
    /// less to the next.
    pub(crate) fn fits(&self, value: &str) -> bool {
        let rest = value.strip_prefix(&*self.first);
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&*self.last)) else {
            return false;
        };
        for part in &self.middle {
            let Some((_, behind)) = rest.split_once(&**part) else {
                return false;
            };
            rest = behind;
        }
        true
    }
}
