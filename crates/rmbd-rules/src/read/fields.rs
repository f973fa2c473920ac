//! The mappings of a file, whose keys are known, and what their values may be.

use std::sync::Arc;

use crate::error::{What, Wrong, WrongRules, shown};
use crate::yaml::{Content, NodeId, Yaml};
use crate::{NESTING_MAX, PART_BYTES_MAX, READ_BYTES_MAX};

/// The keys of a kind of mapping.
pub(super) struct Kind {
    what: What,
    keys: &'static [&'static str],
    /// The same for people.
    known: &'static str,
}

/// The keys of a file.
pub(super) const ROOT: Kind = Kind {
    what: What("a file of rules"),
    keys: &["domain", "descriptors"],
    known: "domain and descriptors",
};

/// The keys of a descriptor.
pub(super) const DESCRIPTOR: Kind = Kind {
    what: What("a descriptor"),
    keys: &[
        "key",
        "value",
        "rate_limit",
        "descriptors",
        "shadow_mode",
        "detailed_metric",
        "value_to_metric",
        "metadata",
        "quota_mode",
        "share_threshold",
    ],
    known: "key, value, rate_limit, descriptors, shadow_mode, detailed_metric, value_to_metric and metadata",
};

/// The keys of a rate limit.
pub(super) const RATE_LIMIT: Kind = Kind {
    what: What("a rate_limit"),
    keys: &["unit", "requests_per_unit", "unlimited", "name", "replaces"],
    known: "unit, requests_per_unit, unlimited, name and replaces; shadow_mode stands beside it",
};

/// The keys of what is replaced.
pub(super) const REPLACES: Kind = Kind {
    what: What("an entry of replaces"),
    keys: &["name"],
    known: "name",
};

/// How much may still be looked at, in bytes. See [`READ_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(READ_BYTES_MAX)
    }
}

impl Budget {
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), WrongRules> {
        self.0 = self.0.checked_sub(bytes).ok_or(WrongRules::TooMuch)?;
        Ok(())
    }
}

/// A file whose YAML is understood.
#[derive(Clone, Copy)]
pub(super) struct File<'f> {
    pub(super) yaml: &'f Yaml<'f>,
    pub(super) name: &'f Arc<str>,
}

impl<'f> File<'f> {
    /// The fields of a mapping of a kind.
    pub(super) fn fields(
        self,
        node: NodeId,
        kind: &Kind,
        budget: &mut Budget,
    ) -> Result<Fields<'f>, Wrong> {
        let mut fields = Vec::new();
        self.collect(node, kind, budget, 0, &mut fields)?;
        Ok(Fields {
            file: self,
            node,
            fields,
        })
    }

    /// The line of a node, from 1.
    pub(super) fn line(self, node: NodeId) -> u32 {
        self.yaml.node(node).place.line
    }

    /// An error at a node.
    pub(super) fn wrong(self, node: NodeId, wrong: WrongRules) -> Wrong {
        self.yaml.node(node).place.wrong(wrong)
    }

    /// Adds the fields of a mapping to those that take precedence over them.
    fn collect(
        self,
        node: NodeId,
        kind: &Kind,
        budget: &mut Budget,
        merges: usize,
        fields: &mut Vec<(&'f str, NodeId)>,
    ) -> Result<(), Wrong> {
        let Content::Mapping(pairs) = &self.yaml.node(node).content else {
            return Err(self.wrong(node, WrongRules::NotMapping(kind.what)));
        };
        let mut own = Vec::new();
        let mut merged = Vec::new();
        for (key, value) in pairs {
            self.spend(*key, budget)?;
            self.spend(*value, budget)?;
            let Content::Word { text, is_plain } = &self.yaml.node(*key).content else {
                return Err(self.wrong(*key, WrongRules::NotKey));
            };
            let name = kind.keys.iter().find(|known| *known == text);
            let Some(name) = name else {
                if text == "<<" && *is_plain {
                    merged.push(*value);
                    continue;
                }
                return Err(self.unknown(*key, text, kind));
            };
            if own.contains(name) {
                return Err(self.wrong(*key, WrongRules::RepeatedKey((*name).into())));
            }
            own.push(*name);
            if fields.iter().all(|(first, _)| first != name) {
                fields.push((name, *value));
            }
        }
        for value in merged {
            self.merge(value, kind, budget, merges, fields)?;
        }
        Ok(())
    }

    /// Adds what `<<` brings: a mapping, or a list of some. What was there first counts.
    fn merge(
        self,
        node: NodeId,
        kind: &Kind,
        budget: &mut Budget,
        merges: usize,
        fields: &mut Vec<(&'f str, NodeId)>,
    ) -> Result<(), Wrong> {
        if merges == NESTING_MAX {
            return Err(self.wrong(node, WrongRules::TooDeep));
        }
        let single = [node];
        let mappings = match &self.yaml.node(node).content {
            Content::List(mappings) => &mappings[..],
            _ => &single,
        };
        for mapping in mappings {
            self.spend(*mapping, budget)?;
            self.collect(*mapping, kind, budget, merges + 1, fields)?;
        }
        Ok(())
    }

    fn unknown(self, node: NodeId, key: &str, kind: &Kind) -> Wrong {
        let wrong = WrongRules::UnknownKey {
            of: kind.what,
            key: shown(key),
            known: kind.known,
        };
        self.wrong(node, wrong)
    }

    fn spend(self, node: NodeId, budget: &mut Budget) -> Result<(), Wrong> {
        let bytes = match &self.yaml.node(node).content {
            Content::Word { text, .. } => text.len(),
            Content::List(nodes) => nodes.len(),
            Content::Mapping(_) => 0,
        };
        let result = budget.spend(1 + bytes);
        result.map_err(|wrong| self.wrong(node, wrong))
    }
}

/// The fields of a mapping, each of which it may have.
pub(super) struct Fields<'f> {
    file: File<'f>,
    /// The mapping.
    node: NodeId,
    /// A few, each once.
    fields: Vec<(&'f str, NodeId)>,
}

impl<'f> Fields<'f> {
    /// A field that is there and not null.
    pub(super) fn some(&self, name: &str) -> Option<NodeId> {
        let node = self.node(name)?;
        (!self.file.yaml.node(node).content.is_null()).then_some(node)
    }

    /// A text. None: there is none, or it is empty.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'f str>, Wrong> {
        let Some((text, _)) = self.word(name, WrongRules::NotText)? else {
            return Ok(None);
        };
        if text.len() > PART_BYTES_MAX {
            return Err(self.wrong(name, WrongRules::TooLong(what(name))));
        }
        Ok((!text.is_empty()).then_some(text))
    }

    /// A truth value; false where there is none. It is read as in YAML 1.1, too: rules are as old.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Wrong> {
        const TRUE: [&str; 3] = ["true", "yes", "on"];
        const FALSE: [&str; 3] = ["false", "no", "off"];
        let Some((text, is_plain)) = self.word(name, WrongRules::NotFlag)? else {
            return Ok(false);
        };
        let is_in = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match (is_plain && is_in(TRUE), is_plain && is_in(FALSE)) {
            (false, false) => Err(self.wrong(name, WrongRules::NotFlag(what(name)))),
            (is_true, _) => Ok(is_true),
        }
    }

    /// A whole number, which may have `_` between its digits. It has no zero in front: some take that for octal.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u32>, Wrong> {
        let Some((text, is_plain)) = self.word(name, WrongRules::NotNumber)? else {
            return Ok(None);
        };
        let has_digits = text.starts_with(|it: char| it.is_ascii_digit()) && !text.ends_with('_');
        let is_octal = text.starts_with('0') && text.len() > 1;
        let number = text.replace('_', "").parse();
        match number {
            Ok(number) if is_plain && has_digits && !is_octal => Ok(Some(number)),
            _ => Err(self.wrong(name, WrongRules::NotNumber(what(name)))),
        }
    }

    /// A list, which is empty where there is none.
    pub(super) fn list(&self, name: &'static str) -> Result<&'f [NodeId], Wrong> {
        let Some(node) = self.some(name) else {
            return Ok(&[]);
        };
        match &self.file.yaml.node(node).content {
            Content::List(nodes) => Ok(nodes),
            _ => Err(self.wrong(name, WrongRules::NotList(what(name)))),
        }
    }

    /// Checks that a field is a mapping, whatever it has, where there is one.
    pub(super) fn mapping(&self, name: &'static str) -> Result<(), Wrong> {
        let content = self
            .some(name)
            .map(|node| &self.file.yaml.node(node).content);
        match content {
            None | Some(Content::Mapping(_)) => Ok(()),
            Some(_) => Err(self.wrong(name, WrongRules::NotMapping(what(name)))),
        }
    }

    /// Checks that what rmbd lacks is not asked for.
    pub(super) fn not_supported(&self, name: &'static str) -> Result<(), Wrong> {
        match self.flag(name)? {
            true => Err(self.wrong(name, WrongRules::Unsupported(what(name)))),
            false => Ok(()),
        }
    }

    /// An error at a field; at the mapping, where there is no such field.
    pub(super) fn wrong(&self, name: &str, wrong: WrongRules) -> Wrong {
        let node = self.node(name).unwrap_or(self.node);
        self.file.wrong(node, wrong)
    }

    fn node(&self, name: &str) -> Option<NodeId> {
        let mut fields = self.fields.iter();
        fields.find(|(it, _)| *it == name).map(|(_, node)| *node)
    }

    /// A word that is not null, and whether it is plain.
    fn word(
        &self,
        name: &'static str,
        wrong: impl FnOnce(What) -> WrongRules,
    ) -> Result<Option<(&'f str, bool)>, Wrong> {
        let Some(node) = self.some(name) else {
            return Ok(None);
        };
        match &self.file.yaml.node(node).content {
            Content::Word { text, is_plain } => Ok(Some((text, *is_plain))),
            _ => Err(self.wrong(name, wrong(what(name)))),
        }
    }
}

/// A field as it is written.
pub(super) const fn what(name: &'static str) -> What {
    What(name)
}
