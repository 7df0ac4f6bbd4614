//! Whether the host can hold one more sandbox, by memory.
//!
//! A limit says how much a sandbox may use, which hardly any does; admitting by limits would leave most of a host empty.
//! So a new one must find free what sandboxes of its version have really used, or a configured amount while none is
//! known, beside a reserve for everything else. What has been admitted and is not to be seen in the host's figures yet
//! is held for it.
//!
//! Invariant: what the host cannot hold is refused before anything is started, never started to be killed.

use super::config::Config;
use crate::deployment::Deployment;
use domain::id::{RuntimeId, Version};
use domain::{Error, Kind};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MIB: u64 = 1 << 20;
/// The least that a sandbox is thought to need: the guest, and pages that every program touches.
const LEAST: u64 = 8 * MIB;
/// Versions of which it is remembered what their sandboxes use.
const REMEMBERED: usize = 4096;

/// The host's memory.
pub(super) struct Room {
    reserve: u64,
    request: u64,
    limit: u64,
    held: Arc<AtomicU64>,
    used: Mutex<HashMap<(RuntimeId, Version), u64>>,
    /// Bytes that programs could take now; nothing where the host does not say.
    available: fn() -> Option<u64>,
}

/// Memory that is spoken for until the host's own figures show it.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            reserve: config.memory_reserve,
            request: config.memory_request,
            limit: config.limits.memory,
            held: Arc::default(),
            used: Mutex::default(),
            available: of_host,
        }
    }

    /// What a sandbox of a version is thought to need.
    pub(super) fn need(&self, deployment: &Deployment) -> u64 {
        let known = self.used().get(&name(deployment)).copied();
        known.unwrap_or(self.request).clamp(LEAST, self.limit.max(LEAST))
    }

    /// A sandbox of a version has used so much at most.
    pub(super) fn learn(&self, deployment: &Deployment, peak: u64) {
        let mut used = self.used();
        if used.len() >= REMEMBERED && !used.contains_key(&name(deployment)) {
            used.clear();
        }
        let most = used.entry(name(deployment)).or_insert(0);
        *most = (*most).max(peak);
    }

    /// Takes the memory for one more sandbox of a version. `shed` is asked to give memory back while there is too little:
    /// it answers how much, or nothing when it has none to give.
    pub(super) fn admit(&self, deployment: &Deployment, mut shed: impl FnMut() -> Option<u64>) -> Result<Hold, Error> {
        let need = self.need(deployment);
        let Some(available) = (self.available)() else {
            return Ok(self.hold(need));
        };
        let mut free = available.saturating_sub(self.held.load(Ordering::Acquire));
        while free < need.saturating_add(self.reserve) {
            let Some(given) = shed() else {
                return Err(too_little(free, need, self.reserve));
            };
            free = free.saturating_add(given);
        }
        Ok(self.hold(need))
    }

    fn hold(&self, bytes: u64) -> Hold {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        let held = Arc::clone(&self.held);
        Hold { held, bytes }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<(RuntimeId, Version), u64>> {
        // Numbers only: nothing that a panic could leave half-changed.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("held", &self.held).finish_non_exhaustive()
    }
}

fn name(deployment: &Deployment) -> (RuntimeId, Version) {
    (deployment.arn.id.clone(), deployment.version)
}

fn too_little(free: u64, need: u64, reserve: u64) -> Error {
    let (free, need, reserve) = (free / MIB, need / MIB, reserve / MIB);
    Error::new(
        Kind::QuotaExceeded,
        format!(
            "maxVms limit exceeded: the host has {free} MiB of memory left, and one more session of this runtime needs \
             about {need} MiB beside a reserve of {reserve} MiB. Stop some sessions or wait."
        ),
    )
}

/// What Linux thinks can be had without swapping.
fn of_host() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim_end()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::deployment;

    fn room() -> Room {
        Room {
            available: || Some(1000 * MIB),
            ..Room::new(&Config::default())
        }
    }

    #[test]
    fn what_is_held_is_not_given_twice() {
        let (room, deployment) = (room(), deployment());
        let none = || None;
        let first = room.admit(&deployment, none).unwrap();
        let _second = room.admit(&deployment, none).unwrap();
        let error = room.admit(&deployment, none).unwrap_err();
        assert_eq!(error.kind, Kind::QuotaExceeded);
        assert!(error.message.contains("488 MiB of memory left"), "{error}");
        drop(first);
        room.admit(&deployment, none).unwrap();
    }

    #[test]
    fn what_sandboxes_really_use_counts() {
        let (room, deployment) = (room(), deployment());
        room.learn(&deployment, 50 * MIB);
        room.learn(&deployment, 20 * MIB);
        let holds: Vec<_> = (0..14).map(|_| room.admit(&deployment, || None).unwrap()).collect();
        assert_eq!(holds.iter().map(|hold| hold.bytes).sum::<u64>(), 700 * MIB);
        assert!(room.admit(&deployment, || None).is_err());
        room.learn(&deployment, 1 << 50);
        assert_eq!(room.need(&deployment), Config::default().limits.memory);
        room.learn(&deployment, 0);
    }

    #[test]
    fn warm_sandboxes_give_way() {
        let (room, deployment) = (room(), deployment());
        let _all = room.hold(900 * MIB);
        let mut warm = vec![100 * MIB; 5];
        room.admit(&deployment, || warm.pop()).unwrap();
        assert_eq!(warm.len(), 0);
        assert!(room.admit(&deployment, || warm.pop()).is_err());
    }

    #[test]
    fn this_host_says_what_it_has() {
        assert!(of_host().unwrap() > MIB);
    }
}
