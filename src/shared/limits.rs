//! The limits in force, which a reload replaces while the node runs.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::config::{LimitConfig, RuleFiles};
use rmbd_rules::Rules;

/// What is done with limits that come into force.
type Follower = dyn Fn(&[LimitConfig]) + Send + Sync;

/// The limits in force, and whoever applies them.
pub(crate) struct LimitsInForce {
    limits: RwLock<Arc<[LimitConfig]>>,
    /// The rules of Envoy's rate limit service.
    rules: RwLock<Arc<Rules>>,
    follower: OnceLock<Box<Follower>>,
}

impl LimitsInForce {
    pub(crate) fn new(limits: &[LimitConfig]) -> Self {
        Self {
            limits: RwLock::new(limits.into()),
            rules: RwLock::default(),
            follower: OnceLock::new(),
        }
    }

    /// The same with rules.
    pub(crate) fn with_rules(self, files: &RuleFiles) -> Self {
        self.replace_rules(files);
        self
    }

    /// The rules of Envoy's rate limit service. Whoever applies them looks whether there are others.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other rules in force.
    pub(crate) fn replace_rules(&self, files: &RuleFiles) {
        let mut place = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::clone(files.rules());
    }

    pub(crate) fn get(&self) -> Arc<[LimitConfig]> {
        // It is valid even if a writer panicked: only whole lists are stored.
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the limits to whoever applies them: now, and whenever they are replaced. Only the first caller is served.
    pub(crate) fn follow(&self, follower: impl Fn(&[LimitConfig]) + Send + Sync + 'static) {
        let follower = self.follower.get_or_init(|| Box::new(follower));
        follower(&self.get());
    }

    /// Puts others in force, and returns those before.
    pub(crate) fn replace(&self, limits: &[LimitConfig]) -> Arc<[LimitConfig]> {
        let before = {
            let mut place = self.limits.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, limits.into())
        };
        if let Some(follower) = self.follower.get() {
            follower(limits);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn whoever_follows_gets_the_limits_now_and_when_they_change() {
        let (limits, calls) = (LimitsInForce::new(&[]), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&calls);
        limits.replace(&[]);
        limits.follow(move |_| {
            seen.fetch_add(1, Relaxed);
        });
        assert_eq!(calls.load(Relaxed), 1);
        assert!(limits.replace(&[]).is_empty());
        assert_eq!(calls.load(Relaxed), 2);
    }
}
