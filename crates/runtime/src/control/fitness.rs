//! Which versions this process knows to be fit to serve, and which it has found wanting. In memory only: after a start
//! it is learned again from the packages on the disk.

use crate::deployment::Deployment;
use domain::id::{RuntimeId, Version};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What is known of one version.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// It can serve as this.
    Fit(Arc<Deployment>),
    /// It cannot serve on this host now.
    Unfit(String),
}

/// Knowledge of the versions that endpoints use.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<State>);

/// The digest of an unpacked package, which is the name of its directory.
pub(crate) fn digest_of(package: &Path) -> Option<String> {
    Some(package.file_name()?.to_string_lossy().into_owned())
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<RuntimeId, BTreeMap<Version, Known>>,
    /// Everything that was ever handed to the invoke path. A session holds on to what it runs, even when its version
    /// was deleted, and its package must stay until the session has ended.
    handed_out: Vec<Weak<Deployment>>,
}

impl Table {
    pub(crate) fn get(&self, runtime: &RuntimeId, version: Version) -> Option<Known> {
        self.lock().known.get(runtime)?.get(&version).cloned()
    }

    pub(crate) fn set(&self, runtime: &RuntimeId, version: Version, known: Known) {
        let mut state = self.lock();
        if let Known::Fit(deployment) = &known {
            state.handed_out.retain(|earlier| earlier.strong_count() > 0);
            state.handed_out.push(Arc::downgrade(deployment));
        }
        state.known.entry(runtime.clone()).or_default().insert(version, known);
    }

    pub(crate) fn is_fit(&self, runtime: &RuntimeId, version: Version) -> bool {
        matches!(self.get(runtime, version), Some(Known::Fit(_)))
    }

    pub(crate) fn is_unfit(&self, runtime: &RuntimeId, version: Version) -> bool {
        matches!(self.get(runtime, version), Some(Known::Unfit(_)))
    }

    /// Forgets a runtime's versions but for these.
    pub(crate) fn retain(&self, runtime: &RuntimeId, wanted: &BTreeSet<Version>) {
        if let Some(versions) = self.lock().known.get_mut(runtime) {
            versions.retain(|version, _| wanted.contains(version));
        }
    }

    /// Forgets a runtime.
    pub(crate) fn forget(&self, runtime: &RuntimeId) {
        self.lock().known.remove(runtime);
    }

    /// Digests of the packages that an endpoint serves or a session runs.
    pub(crate) fn packages_in_use(&self) -> HashSet<String> {
        let mut state = self.lock();
        state.handed_out.retain(|deployment| deployment.strong_count() > 0);
        let alive = state.handed_out.iter().filter_map(Weak::upgrade);
        alive.filter_map(|d| digest_of(&d.package)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
