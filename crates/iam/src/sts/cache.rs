//! Credentials whose token was opened lately, with what was derived from them.
//!
//! Two generations of at most half the bound each: what is used moves to the young one; when that is full, the old one
//! goes. So what is used stays, whatever else comes, and finding costs one lookup.
//!
//! Invariant: only credentials whose token has been opened come in, so that nobody without some can push others out.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::keys::Key;

/// The bound. An entry is some kilobytes.
const BOUND: usize = 8192;

pub(crate) struct Cache {
    generations: RwLock<Generations>,
    half: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<String, Arc<Key>>,
    old: HashMap<String, Arc<Key>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self::bounded(BOUND)
    }
}

impl Cache {
    pub(super) fn bounded(bound: usize) -> Self {
        Self {
            generations: RwLock::default(),
            half: (bound / 2).max(1),
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Key>> {
        let key = {
            let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = generations.young.get(id) {
                return Some(Arc::clone(key));
            }
            Arc::clone(generations.old.get(id)?)
        };
        self.put(Arc::clone(&key));
        Some(key)
    }

    pub(crate) fn put(&self, key: Arc<Key>) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= self.half && !generations.young.contains_key(key.id()) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key.id().to_owned(), key);
    }

    pub(crate) fn remove(&self, id: &str) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(id);
        generations.old.remove(id);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let generations = self.generations.read().unwrap();
        generations.young.len() + generations.old.len()
    }
}
