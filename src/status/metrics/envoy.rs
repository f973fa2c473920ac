//! The families of Envoy's rate limit service. Names of rules come from their files; values of requests are labels
//! only where a rule asks for that, a bounded number of them.

use std::fmt;

use super::Page;
use crate::status::counters::singles;
use crate::status::{EnvoyRuleStatus, EnvoyStatus};

impl Page<'_> {
    /// Encodes the families; none where there are neither an address nor rules.
    pub(super) fn envoy(&mut self, envoy: &EnvoyStatus) -> fmt::Result {
        /// Name, help and value of a family.
        type Family = (&'static str, &'static str, fn(&EnvoyRuleStatus) -> u64);
        if envoy.address.is_none() && envoy.rules == 0 {
            return Ok(());
        }
        self.singles(singles::envoy(envoy))?;
        self.gauge(
            "rmbd_envoy_connections",
            "Connections of proxies",
            None,
            envoy.connections,
        )?;
        self.gauge("rmbd_envoy_rules", "Rules in force", None, envoy.rules)?;
        let families: [Family; 4] = [
            ("rmbd_envoy_rule_hits", "Hits of a rule", |rule| rule.hits),
            (
                "rmbd_envoy_rule_over",
                "Hits that were over the limit of their rule",
                |rule| rule.over,
            ),
            (
                "rmbd_envoy_rule_near",
                "Hits within the limit of their rule, and above four fifths of it",
                |rule| rule.near,
            ),
            (
                "rmbd_envoy_rule_shadow",
                "Hits over the limit of their rule that passed, as it is in shadow mode",
                |rule| rule.shadow,
            ),
        ];
        families.into_iter().try_for_each(|(name, help, value)| {
            let values = envoy.by_rule.iter();
            let values = values.map(|rule| (rule.rule.as_str(), value(rule)));
            self.counters(name, help, "rule", values)
        })
    }
}
