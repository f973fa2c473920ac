//! The limits in force, which a reload replaces while the node runs.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::LimitConfig;

/// The limits in force. Whoever applies them takes them once and again from time to time, not for each hit.
pub(crate) struct LimitsInForce(RwLock<Arc<[LimitConfig]>>);

impl LimitsInForce {
    pub(crate) fn new(limits: &[LimitConfig]) -> Self {
        Self(RwLock::new(limits.into()))
    }

    pub(crate) fn get(&self) -> Arc<[LimitConfig]> {
        // It is valid even if a writer panicked: only whole lists are stored.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force, and returns those before.
    pub(crate) fn replace(&self, limits: &[LimitConfig]) -> Arc<[LimitConfig]> {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, limits.into())
    }
}
