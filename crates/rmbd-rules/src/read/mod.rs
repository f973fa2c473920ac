//! Files of rules, as they are read.

mod fields;

use std::sync::Arc;

use self::fields::{Budget, Fields, File};
use crate::counter_key::encoded_bytes;
use crate::error::{self, Wrong, WrongRules, shown};
use crate::replacing::Replacing;
use crate::rules::{Amount, Domain, Rule, RuleIndex, RulesFile};
use crate::tree::{Place, Refused, Tree};
use crate::yaml::{NodeId, Yaml};
use crate::{
    COUNTER_KEY_BYTES_MAX, DESCRIPTORS_MAX, FILE_BYTES_MAX, FILES_MAX, LEVELS_MAX, READ_BYTES_MAX,
    REPLACES_MAX, RulesError, Unit,
};

/// All that has been read of some files.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) rules: Vec<Rule>,
    pub(crate) domains: Vec<Domain>,
    pub(crate) tree: Tree,
    pub(crate) replacing: Replacing,
    budget: Budget,
    descriptors: usize,
}

/// Reads all files.
pub(crate) fn read(files: &[RulesFile<'_>]) -> Result<Read, RulesError> {
    let mut read = Read::default();
    let mut bytes = 0;
    for (place, file) in files.iter().enumerate() {
        bytes += file.text.len();
        let wrong = if place == FILES_MAX {
            Some(WrongRules::TooManyFiles)
        } else if file.text.len() > FILE_BYTES_MAX {
            Some(WrongRules::FileTooLarge)
        } else if bytes > READ_BYTES_MAX {
            Some(WrongRules::TooMuch)
        } else {
            None
        };
        let result = wrong.map_or_else(|| read.file(file), |wrong| Err(wrong.into()));
        result.map_err(|wrong| RulesError::new(file.name, wrong))?;
    }
    Ok(read)
}

/// The descriptors that stand above others.
#[derive(Clone, Copy)]
struct Above<'p> {
    place: Place,
    path: &'p str,
    /// Number of descriptors, with those of this level.
    levels: usize,
    /// Bytes of the counter's key that all of them have at least.
    key_bytes: usize,
    has_values_in_metrics: bool,
}

impl Read {
    fn file(&mut self, file: &RulesFile<'_>) -> Result<(), Wrong> {
        let yaml = Yaml::read(file.text)?;
        let begin = error::Place { line: 1, column: 1 };
        let root = yaml
            .root()
            .ok_or_else(|| begin.wrong(WrongRules::NoDomain))?;
        let name: Arc<str> = file.name.into();
        let file = File {
            yaml: &yaml,
            name: &name,
        };
        let fields = file.fields(root, &fields::ROOT, &mut self.budget)?;
        let domain = fields.text("domain")?;
        let domain = domain.ok_or_else(|| fields.wrong("domain", WrongRules::NoDomain))?;
        if let Some(other) = self.domains.iter().find(|it| *it.name == *domain) {
            return Err(fields.wrong(
                "domain",
                WrongRules::DuplicateDomain {
                    domain: shown(domain),
                    file: other.file[..].into(),
                },
            ));
        }
        let rules = self.rules.len();
        let above = Above {
            place: self.tree.add_domain(domain),
            path: domain,
            levels: 1,
            key_bytes: encoded_bytes(domain),
            has_values_in_metrics: false,
        };
        self.descriptors(file, &fields, above)?;
        self.domains.push(Domain {
            name: domain.into(),
            file: name,
            rules: self.rules.len() - rules,
        });
        Ok(())
    }

    /// The list of descriptors that a file or a descriptor has.
    fn descriptors(
        &mut self,
        file: File<'_>,
        fields: &Fields<'_>,
        above: Above<'_>,
    ) -> Result<(), Wrong> {
        for node in fields.list("descriptors")? {
            if above.levels > LEVELS_MAX {
                return Err(file.wrong(*node, WrongRules::TooManyLevels));
            }
            self.descriptors += 1;
            if self.descriptors > DESCRIPTORS_MAX {
                return Err(file.wrong(*node, WrongRules::TooManyDescriptors));
            }
            self.descriptor(file, *node, above)?;
        }
        Ok(())
    }

    fn descriptor(&mut self, file: File<'_>, node: NodeId, above: Above<'_>) -> Result<(), Wrong> {
        let fields = file.fields(node, &fields::DESCRIPTOR, &mut self.budget)?;
        let (key, value) = pair(&fields)?;
        let path = match value {
            Some(value) => format!("{}.{key}_{value}", above.path),
            None => format!("{}.{key}", above.path),
        };
        let spent = self.budget.spend(path.len());
        spent.map_err(|wrong| file.wrong(node, wrong))?;
        let has_values_in_metrics = fields.flag("value_to_metric")?;
        let below = Above {
            path: &path,
            levels: above.levels + 1,
            key_bytes: above.key_bytes + pair_bytes(key, value),
            has_values_in_metrics: above.has_values_in_metrics || has_values_in_metrics,
            ..above
        };
        if below.key_bytes > COUNTER_KEY_BYTES_MAX {
            return Err(file.wrong(node, WrongRules::CounterKeyTooLong));
        }
        let rule = self.rule(file, node, &fields, below)?;
        let index = rule.as_ref().map(|_| RuleIndex::new(self.rules.len()));
        let place = self
            .tree
            .add(above.place, (key, value), index, file.line(node));
        let place = place.map_err(|refused| file.wrong(node, refusal(refused, &path)))?;
        if let Some(rule) = rule {
            self.replacing.push(rule.name.as_deref(), &rule.replaces);
            self.rules.push(rule);
        }
        self.descriptors(file, &fields, Above { place, ..below })
    }

    /// The rule of a descriptor, if it has one.
    fn rule(
        &mut self,
        file: File<'_>,
        descriptor: NodeId,
        of: &Fields<'_>,
        below: Above<'_>,
    ) -> Result<Option<Rule>, Wrong> {
        let is_shadow = of.flag("shadow_mode")?;
        let is_detailed = of.flag("detailed_metric")?;
        let Some(node) = of.some("rate_limit") else {
            return match is_shadow {
                true => Err(of.wrong("shadow_mode", WrongRules::ShadowOfNothing)),
                false => Ok(None),
            };
        };
        let fields = file.fields(node, &fields::RATE_LIMIT, &mut self.budget)?;
        let amount = amount(&fields)?;
        let name = fields.text("name")?;
        let replaces = self.replaces(file, &fields, name)?;
        Ok(Some(Rule {
            name: name.map(Box::from),
            amount,
            is_shadow,
            is_detailed,
            has_values_in_metrics: below.has_values_in_metrics,
            replaces,
            file: file.name.clone(),
            line: file.line(descriptor),
            path: below.path.into(),
        }))
    }

    fn replaces(
        &mut self,
        file: File<'_>,
        of: &Fields<'_>,
        own: Option<&str>,
    ) -> Result<Vec<Box<str>>, Wrong> {
        let nodes = of.list("replaces")?;
        if nodes.len() > REPLACES_MAX {
            return Err(of.wrong("replaces", WrongRules::TooManyReplaced));
        }
        let mut names = Vec::with_capacity(nodes.len());
        for node in nodes {
            let fields = file.fields(*node, &fields::REPLACES, &mut self.budget)?;
            let name = fields.text("name")?;
            let name = name.ok_or_else(|| fields.wrong("name", WrongRules::ReplacesNothing))?;
            if own == Some(name) {
                return Err(fields.wrong("name", WrongRules::ReplacesItself));
            }
            names.push(name.into());
        }
        Ok(names)
    }
}

/// Key and value of a descriptor, of which nothing is asked that rmbd does not do.
fn pair<'f>(fields: &Fields<'f>) -> Result<(&'f str, Option<&'f str>), Wrong> {
    let key = fields.text("key")?;
    let key = key.ok_or_else(|| fields.wrong("key", WrongRules::NoKey))?;
    if key.contains('*') {
        return Err(fields.wrong("key", WrongRules::WildcardInKey));
    }
    fields.not_supported("quota_mode")?;
    fields.not_supported("share_threshold")?;
    fields.mapping("metadata")?;
    Ok((key, fields.text("value")?))
}

/// The least bytes that a pair takes in a counter's key. A `*` may stand for nothing.
fn pair_bytes(key: &str, value: Option<&str>) -> usize {
    let value = value.map_or(0, |value| encoded_bytes(&value.replace('*', "")));
    "/=".len() + encoded_bytes(key) + value
}

fn refusal(refused: Refused, path: &str) -> WrongRules {
    match refused {
        Refused::Duplicate { line } => WrongRules::DuplicateDescriptor {
            path: shown(path),
            line,
        },
        Refused::TooManyWildcards => WrongRules::TooManyWildcards,
    }
}

fn amount(fields: &Fields<'_>) -> Result<Amount, Wrong> {
    let unit = fields.text("unit")?;
    let unit = unit.map(|name| unit_of(name).map_err(|wrong| fields.wrong("unit", wrong)));
    let unit = unit.transpose()?;
    let requests = fields.number("requests_per_unit")?;
    if fields.flag("unlimited")? {
        let limits = [
            ("unit", unit.is_some()),
            ("requests_per_unit", requests.is_some()),
        ];
        return match limits.into_iter().find(|(_, is_there)| *is_there) {
            Some((what, _)) => {
                Err(fields.wrong(what, WrongRules::LimitOfUnlimited(fields::what(what))))
            }
            None => Ok(Amount::Unlimited),
        };
    }
    let unit = unit.ok_or_else(|| fields.wrong("unit", WrongRules::NoUnit))?;
    let requests =
        requests.ok_or_else(|| fields.wrong("requests_per_unit", WrongRules::NoRequests))?;
    Ok(Amount::PerUnit { requests, unit })
}

fn unit_of(name: &str) -> Result<Unit, WrongRules> {
    if let Some(unit) = Unit::ALL
        .into_iter()
        .find(|unit| name.eq_ignore_ascii_case(unit.name()))
    {
        return Ok(unit);
    }
    let long = ["month", "year"]
        .into_iter()
        .find(|long| name.eq_ignore_ascii_case(long));
    Err(long.map_or_else(
        || WrongRules::UnknownUnit(shown(name)),
        WrongRules::LongUnit,
    ))
}
