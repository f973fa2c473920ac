//! The list of one slice, as it goes from node to node.

use std::collections::HashMap;
use std::sync::Arc;

use rmbd_proto::cluster::{
    TOP_PLACES_MAX, TOP_VERSION_MAX, TopBound, TopEntries, TopEntry, TopHead, TopName,
};
use rmbd_sketch::KeyHash;

/// Bytes of a slice's list at most, names included. It is 1 000 keys of 40 bytes, or 60 of 1 024.
pub(crate) const TOP_BYTES_MAX: usize = 64 << 10;
/// Bytes of a key of a list beside its name, as it is told. Here it takes some more.
const KEY_BYTES: usize = 24;
/// Largest number of places of a list: as many as keys without names.
const PLACES_MAX: usize = TOP_BYTES_MAX / KEY_BYTES;
/// Bytes that a list may have while it follows: keys may be in it that its writer's list had at different times.
const FOLLOWING_BYTES_MAX: usize = 4 * TOP_BYTES_MAX;
/// A list that was too large so often, when it was asked for from its beginning, is none that anybody would make.
const ANEW_MAX: u8 = 8;

const _: () = assert!(PLACES_MAX <= TOP_PLACES_MAX);

/// The largest keys of one slice, in places that stay. It has one writer, which raises its version, and others that
/// follow.
#[derive(Debug, Clone, Default)]
pub(crate) struct SliceTop {
    version: u64,
    /// The last version of which everything is here.
    complete: u64,
    /// Of so much weight of the slice the bounds hold, and of what came later nothing is known.
    weight: u64,
    /// Empty where nothing is known.
    bounds: Vec<TopBound>,
    places: Vec<Place>,
    by_hash: HashMap<KeyHash, u16>,
    bytes: usize,
    /// How often it was begun anew since it was complete.
    anew: u8,
}

#[derive(Debug, Clone, Default)]
struct Place {
    /// The version in which it has changed last, and that in which its key was told.
    changed: u64,
    named: u64,
    key: Option<SliceTopKey>,
}

/// A key of a slice's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceTopKey {
    pub(crate) hash: KeyHash,
    pub(crate) name: Option<Arc<[u8]>>,
    /// A bit for the number of each bound whose list it is in.
    pub(crate) lists: u64,
    /// What certainly was counted of it in the slice.
    pub(crate) certain: u64,
}

/// A list that was told does not go on from what is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap;

impl SliceTop {
    /// An empty list that goes on from a version.
    pub(crate) fn beginning_at(version: u64) -> Self {
        Self {
            version,
            complete: version,
            ..Self::default()
        }
    }

    /// It grows with each change; 0 is no list.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The last version of which everything is here.
    pub(crate) fn complete_version(&self) -> u64 {
        self.complete
    }

    /// The weight of the slice when the list was made.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn bounds(&self) -> &[TopBound] {
        &self.bounds
    }

    /// The number and the count of the bound of all time (0), or else that of the shortest window that covers this one.
    pub(crate) fn bound_of(&self, span_ms: u64) -> Option<(usize, u64)> {
        let covers = |bound: &TopBound| match span_ms {
            0 => bound.span_ms == 0,
            _ => bound.span_ms >= span_ms,
        };
        let bounds = self.bounds.iter().enumerate();
        let covering = bounds.filter(|(_, bound)| covers(bound));
        let shortest = covering.min_by_key(|(_, bound)| bound.span_ms);
        shortest.map(|(number, bound)| (number, bound.above))
    }

    /// The keys of the list whose bound [`bound_of`](Self::bound_of) tells.
    pub(crate) fn keys_of(&self, span_ms: u64) -> impl Iterator<Item = &SliceTopKey> {
        let number = self.bound_of(span_ms).map(|(number, _)| number);
        let keys = self.places.iter().filter_map(|place| place.key.as_ref());
        keys.filter(move |key| number.is_some_and(|number| key.lists >> number & 1 == 1))
    }

    pub(crate) fn key(&self, hash: KeyHash) -> Option<&SliceTopKey> {
        let place = self.by_hash.get(&hash)?;
        self.places[usize::from(*place)].key.as_ref()
    }

    /// Bytes that it takes, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let names = self.bytes.saturating_sub(KEY_BYTES * self.by_hash.len());
        let entries = self.by_hash.capacity() * (size_of::<(KeyHash, u16)>() + 1);
        (names + self.places.capacity() * size_of::<Place>() + entries) as u64
    }

    /// Whether so many keys, with names of so many bytes in all, are few enough for a list.
    pub(crate) fn have_room(keys: usize, names_bytes: usize) -> bool {
        keys <= PLACES_MAX && keys * KEY_BYTES + names_bytes <= TOP_BYTES_MAX
    }
}

/// The calls of the one writer.
impl SliceTop {
    /// Puts a key here, or what is known of it now, if that is anything else.
    pub(crate) fn put(&mut self, key: SliceTopKey) {
        let at = match self.by_hash.get(&key.hash) {
            Some(&at) => usize::from(at),
            None => self.free_place(),
        };
        let before = self.places[at].key.as_ref();
        if before == Some(&key) {
            return;
        }
        let is_named = before.is_some_and(|it| it.hash == key.hash && it.name == key.name);
        self.version += 1;
        let changed = self.version;
        let named = if is_named {
            self.places[at].named
        } else {
            changed
        };
        self.set(at, changed, named, Some(key));
        self.complete = self.version;
    }

    /// Takes away the keys that are not to stay.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(KeyHash) -> bool) {
        for at in 0..self.places.len() {
            let hash = self.places[at].key.as_ref().map(|key| key.hash);
            if hash.is_some_and(|hash| !stays(hash)) {
                self.version += 1;
                self.set(at, self.version, self.version, None);
            }
        }
        self.complete = self.version;
    }

    /// Says what the list is complete above, of so much weight.
    pub(crate) fn set_bounds(&mut self, weight: u64, bounds: Vec<TopBound>) {
        if (self.weight, &self.bounds) != (weight, &bounds) {
            self.version += 1;
            (self.weight, self.bounds) = (weight, bounds);
        }
        self.complete = self.version;
    }

    fn free_place(&mut self) -> usize {
        let free = self.places.iter().position(|place| place.key.is_none());
        free.unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        })
    }
}

/// Telling, and taking what is told.
impl SliceTop {
    /// What stands before the entries that [`changed_since`](Self::changed_since) gives.
    pub(crate) fn head(&self, since: u64) -> TopHead {
        TopHead {
            from: since,
            to: self.version,
            is_complete: self.complete == self.version,
            weight: self.weight,
            bounds: self.bounds.clone(),
        }
    }

    /// All entries that have changed since a version, by the versions in which they have, for somebody who had
    /// everything of the version `complete`.
    pub(crate) fn changed_since(&self, since: u64, complete: u64) -> Vec<TopEntry<'_>> {
        let places = (0_u16..).zip(&self.places);
        let changed = places.filter(|(_, place)| place.changed > since);
        let mut entries: Vec<TopEntry<'_>> = changed
            .map(|(number, place)| place.entry(number, complete))
            .collect();
        entries.sort_unstable_by_key(|entry| entry.changed);
        entries
    }

    /// Takes what was told. `hash_of` is the sketch's hash of a name.
    ///
    /// # Errors
    /// [`Gap`], and nothing has changed, where it does not go on from what is here.
    pub(crate) fn follow(
        &mut self,
        head: TopHead,
        entries: TopEntries<'_>,
        hash_of: impl Fn(&[u8]) -> Option<KeyHash>,
    ) -> Result<(), Gap> {
        if head.from > self.version || head.to > TOP_VERSION_MAX {
            return Err(Gap);
        }
        if head.to < self.version || self.anew >= ANEW_MAX {
            self.version = self.version.max(head.to);
            return Ok(());
        }
        let mut is_whole = true;
        for entry in entries {
            let is_later = |place: &Place| entry.changed > place.changed;
            let place = self.places.get(usize::from(entry.place));
            if place.is_none_or(is_later) {
                is_whole &= self.take(&entry, &hash_of);
            }
        }
        self.version = head.to;
        if !is_whole {
            self.begin_anew();
        } else if head.is_complete {
            (self.weight, self.bounds) = (head.weight, head.bounds);
            (self.complete, self.anew) = (head.to, 0);
        } else {
            self.raise(&head.bounds);
        }
        Ok(())
    }

    /// Forgets everything, and is asked for again from its beginning, but for some times only.
    fn begin_anew(&mut self) {
        let anew = self.anew + 1;
        let version = if anew < ANEW_MAX { 0 } else { self.version };
        *self = Self {
            anew,
            version,
            ..Self::default()
        };
    }

    /// Takes an entry; returns whether it could be.
    fn take(&mut self, entry: &TopEntry<'_>, hash_of: impl Fn(&[u8]) -> Option<KeyHash>) -> bool {
        let at = usize::from(entry.place);
        let before = self.places.get(at).and_then(|place| place.key.clone());
        let (hash, name) = match entry.key {
            TopName::Gone => {
                if at < self.places.len() {
                    self.set(at, entry.changed, entry.changed, None);
                }
                return true;
            }
            TopName::Hash(halves) => (Some(KeyHash::of_halves(halves)), None),
            TopName::Name(name) => (hash_of(name), Some(name.into())),
            TopName::AsBefore => match before {
                Some(before) => (Some(before.hash), before.name),
                None => (None, None),
            },
        };
        let Some(hash) = hash else {
            return false;
        };
        let bytes = KEY_BYTES + name.as_ref().map_or(0, |name: &Arc<[u8]>| name.len());
        let is_too_much = self.bytes + bytes > FOLLOWING_BYTES_MAX + self.bytes_at(at);
        if is_too_much || at >= PLACES_MAX || !self.leave_other_place(hash, entry) {
            return false;
        }
        if at >= self.places.len() {
            self.places.resize_with(at + 1, Place::default);
        }
        let named = match entry.key {
            TopName::AsBefore => self.places[at].named,
            _ => entry.changed,
        };
        let key = SliceTopKey {
            hash,
            name,
            lists: entry.lists,
            certain: entry.certain,
        };
        self.set(at, entry.changed, named, Some(key));
        true
    }

    /// A key that was in another place has left it before it came to the place of this entry. What has come there since
    /// may still be to come. False where it came there later.
    fn leave_other_place(&mut self, hash: KeyHash, entry: &TopEntry<'_>) -> bool {
        let other = self.by_hash.get(&hash).copied();
        let Some(other) = other.filter(|&other| other != entry.place) else {
            return true;
        };
        let other = usize::from(other);
        let Place { changed, named, .. } = self.places[other];
        let is_earlier = changed < entry.changed;
        if is_earlier {
            self.set(other, changed, named, None);
        }
        is_earlier
    }

    /// Entries are of different versions until the last of them has come: what left is below the larger bound.
    fn raise(&mut self, told: &[TopBound]) {
        self.bounds.retain_mut(|bound| {
            let same = told.iter().find(|it| it.span_ms == bound.span_ms);
            bound.above = bound.above.max(same.map_or(0, |it| it.above));
            same.is_some()
        });
        // Numbers of bounds are places in the list of the writer.
        let is_same = self.bounds.iter().map(|bound| bound.span_ms);
        if !is_same.eq(told.iter().map(|bound| bound.span_ms)) {
            self.bounds.clear();
        }
    }

    fn set(&mut self, at: usize, changed: u64, named: u64, key: Option<SliceTopKey>) {
        self.bytes -= self.bytes_at(at);
        if let Some(before) = self.places[at].key.take() {
            self.by_hash.remove(&before.hash);
        }
        if let Some(key) = &key {
            self.by_hash.insert(key.hash, at as u16);
        }
        self.places[at] = Place {
            changed,
            named,
            key,
        };
        self.bytes += self.bytes_at(at);
    }

    fn bytes_at(&self, at: usize) -> usize {
        let key = self.places.get(at).and_then(|place| place.key.as_ref());
        key.map_or(0, |key| {
            KEY_BYTES + key.name.as_ref().map_or(0, |name| name.len())
        })
    }
}

impl Place {
    fn entry(&self, place: u16, complete: u64) -> TopEntry<'_> {
        let key = match &self.key {
            None => TopName::Gone,
            Some(_) if self.named <= complete => TopName::AsBefore,
            Some(key) => match &key.name {
                Some(name) => TopName::Name(name),
                None => TopName::Hash(key.hash.halves()),
            },
        };
        let (lists, certain) = self
            .key
            .as_ref()
            .map_or((0, 0), |key| (key.lists, key.certain));
        TopEntry {
            place,
            changed: self.changed,
            key,
            lists,
            certain,
        }
    }
}
