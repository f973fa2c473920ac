//! All sketches of a node, by name and by number.

use std::sync::Arc;

use thiserror::Error;

use super::{Replica, fingerprint};
use rmbd_proto::cluster::SKETCHES_MAX;
use rmbd_proto::{SketchName, SketchNumber};

const _: () = assert!(SKETCHES_MAX <= u8::MAX as usize + 1);

/// Which sketch of a [`Registry`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SketchIndex(u8);

impl SketchIndex {
    /// The sketch that every node has.
    pub const DEFAULT: Self = Self(0);

    /// Its place in the order of the registry.
    #[inline]
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// A sketch and its name.
#[derive(Debug, Clone)]
pub struct NamedSketch {
    /// Its name, from which its number follows.
    pub name: SketchName,
    /// Its tables.
    pub replica: Arc<Replica>,
    fingerprint: u64,
}

impl NamedSketch {
    /// A sketch and its name.
    #[must_use]
    pub fn new(name: SketchName, replica: Arc<Replica>) -> Self {
        let own = replica.own();
        Self {
            fingerprint: fingerprint(own.geometry(), own.family()),
            name,
            replica,
        }
    }

    /// Equal where width, depth, hash and its seed are: [`fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// All sketches of a node, which do not change while it runs. The first one is `default`.
///
/// ```
/// use std::sync::Arc;
///
/// use rmbd_proto::{SketchName, SketchNumber};
/// use rmbd_sketch::{Geometry, HashFamily};
/// use rmbd_store::{Registry, Replica, SketchIndex};
///
/// let replica = Replica::try_new(Geometry::DEFAULT, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// let registry = Registry::of_default(Arc::new(replica));
/// assert_eq!(registry.find(SketchNumber::DEFAULT), Some(SketchIndex::DEFAULT));
/// assert_eq!(registry.find(SketchNumber(17)), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    sketches: Box<[NamedSketch]>,
    /// All but the first, ascending.
    by_number: Box<[(SketchNumber, SketchIndex)]>,
    /// All of them, by their names, ascending.
    by_name: Box<[SketchIndex]>,
}

/// Why sketches do not make a registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// There are none, or more than [`SKETCHES_MAX`].
    #[error("a node has 1 to {SKETCHES_MAX} sketches, not {0}")]
    Count(usize),
    /// The first one has another name.
    #[error("the first sketch of a node is `default`, not `{0}`")]
    NoDefault(SketchName),
    /// Two have one name, or names with the same number.
    #[error(
        "the sketches `{0}` and `{1}` have the same number in messages: choose another name for one of them"
    )]
    Collision(SketchName, SketchName),
}

impl Registry {
    /// A registry of these sketches, the first of which is `default`.
    ///
    /// # Errors
    /// [`RegistryError`] says which of them do not go together.
    pub fn new(sketches: Vec<NamedSketch>) -> Result<Self, RegistryError> {
        check_numbers(sketches.iter().map(|sketch| &sketch.name))?;
        let rest = sketches.iter().zip(0..=u8::MAX).skip(1);
        let mut by_number: Vec<_> = rest
            .map(|(sketch, index)| (sketch.name.number(), SketchIndex(index)))
            .collect();
        by_number.sort_unstable();
        let all = sketches.iter().zip(0..=u8::MAX);
        let mut by_name: Vec<SketchIndex> = all.map(|(_, index)| SketchIndex(index)).collect();
        by_name.sort_unstable_by_key(|index| sketches[index.get()].name.as_str());
        Ok(Self {
            by_name: by_name.into(),
            sketches: sketches.into(),
            by_number: by_number.into(),
        })
    }

    /// A registry of one sketch.
    #[must_use]
    pub fn of_default(replica: Arc<Replica>) -> Self {
        Self {
            sketches: [NamedSketch::new(SketchName::default(), replica)].into(),
            by_number: Box::default(),
            by_name: [SketchIndex::DEFAULT].into(),
        }
    }

    /// The sketch with this number.
    #[inline]
    #[must_use]
    pub fn find(&self, number: SketchNumber) -> Option<SketchIndex> {
        if number == SketchNumber::DEFAULT {
            return Some(SketchIndex::DEFAULT);
        }
        let found = self.by_number.binary_search_by_key(&number, |&(it, _)| it);
        found.ok().map(|at| self.by_number[at].1)
    }

    /// The sketch with this name.
    #[must_use]
    pub fn by_name(&self, name: impl AsRef<[u8]>) -> Option<SketchIndex> {
        let name_of = |index: &SketchIndex| self.named(*index).name.as_str().as_bytes();
        let found = (self.by_name).binary_search_by_key(&name.as_ref(), name_of);
        found.ok().map(|at| self.by_name[at])
    }

    /// The tables of a sketch. An index of another registry leads to another sketch.
    #[inline]
    #[must_use]
    pub fn replica(&self, index: SketchIndex) -> &Arc<Replica> {
        &self.named(index).replica
    }

    /// A sketch and its name. An index of another registry leads to another sketch.
    #[inline]
    #[must_use]
    pub fn named(&self, index: SketchIndex) -> &NamedSketch {
        &self.sketches[index.get() % self.sketches.len()]
    }

    /// All sketches in their order, `default` first.
    #[must_use]
    pub fn sketches(&self) -> &[NamedSketch] {
        &self.sketches
    }

    /// All of them with their places, `default` first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (SketchIndex, &NamedSketch)> {
        let sketches = self.sketches.iter().enumerate();
        sketches.map(|(at, sketch)| (SketchIndex(at as u8), sketch))
    }
}

/// Checks that names make a registry: there are 1 to [`SKETCHES_MAX`], the first is `default`, and no two have the
/// same number.
///
/// # Errors
/// [`RegistryError`] says which of them do not go together.
fn check_numbers<'a>(
    names: impl ExactSizeIterator<Item = &'a SketchName>,
) -> Result<(), RegistryError> {
    let count = names.len();
    if !(1..=SKETCHES_MAX).contains(&count) {
        return Err(RegistryError::Count(count));
    }
    let mut numbers: Vec<(SketchNumber, &SketchName)> = Vec::with_capacity(count);
    for name in names {
        if numbers.is_empty() && name.as_str() != SketchName::DEFAULT {
            return Err(RegistryError::NoDefault(name.clone()));
        }
        numbers.push((name.number(), name));
    }
    numbers.sort_unstable();
    let same = numbers.windows(2).find_map(|pair| match pair {
        [(one, a), (other, b)] if one == other => Some((*a, *b)),
        _ => None,
    });
    same.map_or(Ok(()), |(a, b)| {
        Err(RegistryError::Collision(a.clone(), b.clone()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rmbd_sketch::{Geometry, HashFamily};

    fn named(name: &str) -> NamedSketch {
        let geometry = Geometry::new(16, 2).unwrap();
        let replica = Replica::try_new(geometry, HashFamily::Xxh3 { seed: 7 }, 1).unwrap();
        NamedSketch::new(name.parse().unwrap(), Arc::new(replica))
    }

    fn of(names: &[&str]) -> Result<Registry, RegistryError> {
        Registry::new(names.iter().map(|name| named(name)).collect())
    }

    #[test]
    fn sketches_are_found_by_number_and_by_name() {
        let names = ["default", "logins", "pages", "a"];
        let registry = of(&names).unwrap();
        for (at, name) in names.iter().enumerate() {
            let index = registry.by_name(name).unwrap();
            let number = name.parse::<SketchName>().unwrap().number();
            assert_eq!((index.get(), registry.find(number)), (at, Some(index)));
            let same = &registry.sketches()[at].replica;
            assert!(Arc::ptr_eq(registry.replica(index), same));
        }
        assert_eq!(registry.by_name("other"), None);
        assert_eq!(registry.find(SketchNumber(1)), None);
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        assert_eq!(of(&[]).unwrap_err(), RegistryError::Count(0));
        let logins: SketchName = "logins".parse().unwrap();
        let refused = of(&["logins"]).unwrap_err();
        assert_eq!(refused, RegistryError::NoDefault(logins.clone()));
        let refused = of(&["default", "logins", "a", "logins"]).unwrap_err();
        assert_eq!(refused, RegistryError::Collision(logins.clone(), logins));
        let many: Vec<String> = (0..SKETCHES_MAX).map(|n| format!("s{n}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.insert(0, "default");
        assert_eq!(of(&many).unwrap_err(), RegistryError::Count(257));
        many.pop();
        assert_eq!(of(&many).unwrap().sketches().len(), SKETCHES_MAX);
    }

    /// Two such names are found by trying some 100 000.
    #[test]
    fn names_with_the_same_number_are_refused() {
        let mut seen = std::collections::HashMap::new();
        let (one, other) = (0..)
            .find_map(|n| {
                let name: SketchName = format!("n{n}").parse().unwrap();
                let before = seen.insert(name.number(), name.clone());
                before.map(|before| (before, name))
            })
            .unwrap();
        let refused = of(&["default", one.as_str(), other.as_str()]).unwrap_err();
        let (one, other) = (one.clone().min(other.clone()), one.max(other));
        assert_eq!(refused, RegistryError::Collision(one, other));
    }
}
