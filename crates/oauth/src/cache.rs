//! Remembers verified tokens by SHA-256, so that the next request with one costs a hash and a look.
//!
//! A table of small sets: an entry's hash chooses its set, and it takes the place of an empty, an expired or the least
//! recently used entry there. Reads take no lock. Only tokens that were verified come in, so strangers cannot push
//! anybody's entry out.
//!
//! Invariant: the key covers the configuration that the token was verified for. Invariant: no token is kept.

use crate::config::Config;
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{Context, SHA256};
use domain::Bearer;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Entries in a set.
const WAYS: usize = 8;

/// Names a token together with a configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

/// The table.
pub(crate) struct Cache {
    /// A power of two of them.
    sets: Box<[[ArcSwapOption<Entry>; WAYS]]>,
}

struct Entry {
    key: Key,
    bearer: Arc<Bearer>,
    /// Second since 1970 from which it counts no longer.
    until: i64,
    /// Second of the last use.
    used: AtomicI64,
}

impl Key {
    pub(crate) fn new(config: &Config, token: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(config.identity());
        hash.update(token.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        Self(key)
    }
}

impl Cache {
    /// Room for about so many entries.
    pub(crate) fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Default::default()).collect(),
        }
    }

    /// Whose token it is, if that is known and still true at `now`.
    pub(crate) fn get(&self, key: Key, now: i64) -> Option<Arc<Bearer>> {
        self.set(key).iter().find_map(|place| {
            let entry = place.load();
            let entry = entry.as_ref().filter(|entry| entry.key == key && now < entry.until)?;
            if entry.used.load(Ordering::Relaxed) != now {
                entry.used.store(now, Ordering::Relaxed);
            }
            Some(Arc::clone(&entry.bearer))
        })
    }

    /// Remembers a token until a moment.
    pub(crate) fn put(&self, key: Key, bearer: &Arc<Bearer>, until: i64, now: i64) {
        if until <= now {
            return;
        }
        // The same key's place first, then an expired or empty one, then the one that was used longest ago.
        let worth = |place: &ArcSwapOption<Entry>| match place.load().as_ref() {
            Some(entry) if entry.key == key => i64::MIN,
            Some(entry) if now < entry.until => entry.used.load(Ordering::Relaxed),
            _ => i64::MIN + 1,
        };
        let Some(place) = self.set(key).iter().min_by_key(|place| worth(place)) else {
            return;
        };
        place.store(Some(Arc::new(Entry {
            key,
            bearer: Arc::clone(bearer),
            until,
            used: AtomicI64::new(now),
        })));
    }

    fn set(&self, key: Key) -> &[ArcSwapOption<Entry>; WAYS] {
        let [a, b, c, d, ..] = key.0;
        let number = u32::from_le_bytes([a, b, c, d]) as usize;
        let last = self.sets.len() - 1;
        self.sets.get(number & last).expect("masked by a power of two less one")
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("places", &(self.sets.len() * WAYS))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn bearer(name: &str) -> Arc<Bearer> {
        Arc::new(Bearer {
            issuer: String::new(),
            subject: Some(name.to_owned()),
            claims: BTreeMap::new(),
            rules: [0; 32],
        })
    }

    fn key(set: u8, number: u8) -> Key {
        let mut key = [number; 32];
        key[..4].copy_from_slice(&[set, 0, 0, 0]);
        Key(key)
    }

    #[test]
    fn until_its_time() {
        let cache = Cache::new(1);
        cache.put(key(0, 1), &bearer("a"), 100, 10);
        cache.put(key(0, 2), &bearer("b"), 10, 10);
        for (number, now, known) in [
            (1, 10, true),
            (1, 99, true),
            (1, 100, false),
            (2, 9, false),
            (3, 10, false),
        ] {
            assert_eq!(cache.get(key(0, number), now).is_some(), known, "{number} at {now}");
        }
    }

    #[test]
    fn a_full_set_gives_up_the_expired_then_the_least_recently_used() {
        let cache = Cache::new(WAYS);
        for number in 0..8 {
            cache.put(
                key(0, number),
                &bearer("x"),
                if number == 5 { 50 } else { 1000 },
                i64::from(number),
            );
        }
        cache.get(key(0, 0), 20).unwrap();
        cache.put(key(0, 8), &bearer("new"), 1000, 60);
        assert!(cache.get(key(0, 5), 10).is_none(), "the expired one went first");
        cache.put(key(0, 9), &bearer("new"), 1000, 61);
        assert!(cache.get(key(0, 1), 61).is_none() && cache.get(key(0, 0), 61).is_some());
        cache.put(key(0, 9), &bearer("again"), 1000, 62);
        let kept = (0..10)
            .filter(|number| cache.get(key(0, *number), 62).is_some())
            .count();
        assert_eq!(kept, 8, "the same key takes its own place");
    }

    #[test]
    fn a_configuration_is_part_of_the_key() {
        let config = |audience: &str| {
            let text = format!("{{\"discovery_url\":\"https://x\",\"allowed_audience\":[\"{audience}\"]}}");
            serde_json::from_str::<Config>(&text).unwrap()
        };
        assert!(Key::new(&config("a"), "t") == Key::new(&config("a"), "t"));
        assert!(Key::new(&config("a"), "t") != Key::new(&config("b"), "t"));
        assert!(Key::new(&config("a"), "t") != Key::new(&config("a"), "u"));
    }
}
