//! Who there is: users, roles, their policies and keys. In memory while the server runs, durable before it is visible.
//!
//! Lookups read an immutable snapshot and never wait for a change or the disk. A change is decided on a copy of the
//! snapshot, committed as one set of records with expected revisions, and then the copy becomes the snapshot:
//!
//! ```text
//! change ─▶ draft (copy of the snapshot + writes) ─▶ commit ─▶ visible ─▶ what it replaced is retired
//! ```
//!
//! Changes happen one after the other, each in a task of its own: a caller that goes away does not leave one committed
//! and invisible. After kill -9 the records hold each change wholly or not at all.
//!
//! Read in this order: [`Directory`], `known` (the snapshot), `draft`, `record` (how it is written down), then `users`,
//! `roles`, `policies` (the changes), `temporary` (credentials that no record holds), `upkeep` (last uses, revocations
//! that are over).
//!
//! Invariant: a secret is given out once, by the call that made it; the root key's also by [`Directory::root`] and
//! [`read_root`], for `eyot env`. Invariant: what a change withdrew is refused from its return on, also for a request
//! whose body is still arriving.

mod draft;
mod find;
mod known;
mod policies;
mod record;
mod roles;
mod temporary;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;
mod users;
mod view;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use domain::Clock;
use domain::id::AccountId;
use storage::Records;
use storage::seal::MasterKey;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Error;
use crate::keys::{AccessKey, Key};
use crate::sts;

use draft::Draft;
use known::Known;

pub use find::Held;
pub use policies::{MAX_POLICIES, MAX_POLICY_CHARACTERS};
pub use record::read_root;
pub use roles::{NewRole, RoleChange};
pub use temporary::{Assume, AssumeWithToken, Judged, Wanted};
pub use users::MAX_KEYS;
pub use view::{KeyView, Page, RoleView, UserView};

/// Who there is.
pub struct Directory {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a directory is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where it is written down.
    pub records: Arc<dyn Records>,
    /// What seals secrets and session tokens.
    pub master: Arc<MasterKey>,
    /// The server's own account, which the root key acts for.
    pub account: AccountId,
    /// Wall time.
    pub clock: Clock,
}

struct Shared {
    known: ArcSwap<Known>,
    /// Held by the change that is under way.
    turn: Mutex<()>,
    account: AccountId,
    clock: Clock,
    decoy: Arc<Key>,
    sealer: sts::Sealer,
    opened: sts::Cache,
    revocations: Arc<sts::Revocations>,
    /// None for fixed keys.
    store: Option<Store>,
}

#[derive(Clone)]
struct Store {
    records: Arc<dyn Records>,
    master: Arc<MasterKey>,
}

impl Directory {
    /// Reads everything into memory; makes the root key at the first start. Later it only sees to it that the root key
    /// acts for this account, which is configuration and may have changed.
    pub async fn open(parts: Parts) -> Result<Self, Error> {
        let Parts {
            records,
            master,
            account,
            clock,
        } = parts;
        let revocations = Arc::new(sts::Revocations::default());
        let known = record::read_all(&*records, &master, &revocations).await?;
        let directory = Self::with(known, account, clock, Some(Store { records, master }), revocations)?;
        directory.ensure_root().await?;
        directory
            .tasks
            .spawn(upkeep::run(Arc::clone(&directory.shared), directory.stop.clone()));
        Ok(directory)
    }

    /// Keys of their accounts' roots that live in memory only and cannot be changed, for tests and benchmarks.
    pub fn fixed(keys: impl IntoIterator<Item = AccessKey>) -> Result<Self, Error> {
        let mut known = Known::default();
        for access in keys {
            known.keys.insert(access.id.clone(), Arc::new(Key::root(access)));
        }
        let account = AccountId::parse("123456789012").expect("twelve digits");
        Self::with(known, account, Clock::system(), None, Arc::default())
    }

    fn with(
        known: Known,
        account: AccountId,
        clock: Clock,
        store: Option<Store>,
        revocations: Arc<sts::Revocations>,
    ) -> Result<Self, Error> {
        let generated = MasterKey::generate()?;
        let master = store.as_ref().map_or(&generated, |store| &store.master);
        let sealer = sts::Sealer::new(master);
        let nobody = AccountId::parse("000000000000").expect("twelve digits");
        Ok(Self {
            shared: Arc::new(Shared {
                known: ArcSwap::from_pointee(known),
                turn: Mutex::new(()),
                account,
                clock,
                decoy: Arc::new(Key::root(AccessKey::generate(nobody)?)),
                sealer,
                opened: sts::Cache::default(),
                revocations,
                store,
            }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The account that the server plays.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.shared.account
    }

    /// Writes down what is still to be written and takes no further change.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Decides a change on a copy of what is known, commits it, shows it. It happens wholly or not at all, also when
    /// the future is dropped.
    async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.change_then(decide, |answer| answer).await
    }

    /// The same with something that is done once it is durable.
    async fn change_then<D: Send + 'static, T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<D, Error> + Send + 'static,
        then: impl FnOnce(D) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Closed);
        }
        let shared = Arc::clone(&self.shared);
        let task = self.tasks.spawn(async move { shared.change(decide).await.map(then) });
        // The task is neither aborted nor does it panic.
        task.await.map_err(|_| Error::Closed)?
    }
}

impl Shared {
    /// One change after the other.
    async fn change<T>(&self, decide: impl FnOnce(&mut Draft<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let store = self.store.as_ref().ok_or(Error::Closed)?;
        let _turn = self.turn.lock().await;
        let mut draft = Draft::new(&self.known.load(), &store.master, self.clock.now());
        let answer = decide(&mut draft)?;
        let Draft {
            mut known,
            writes,
            withdrawn,
            ..
        } = draft;
        if writes.is_empty() {
            return Ok(answer);
        }
        let commit = writes.iter().map(|write| write.to_record(&known)).collect();
        let revisions = store.records.commit(commit).await.map_err(|error| match error {
            storage::Error::Conflict { kind, key } => {
                tracing::error!(kind, key, "another process has changed this record: restart the server");
                Error::Changed
            }
            other => other.into(),
        })?;
        for (write, revision) in writes.into_iter().zip(revisions) {
            known.set_revision(write, revision);
        }
        self.known.store(Arc::new(known));
        withdrawn.end();
        Ok(answer)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Without anything that is known.
impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.shared.known.load();
        f.debug_struct("Directory")
            .field("account", &self.shared.account)
            .field("keys", &known.keys.len())
            .field("users", &known.users.len())
            .field("roles", &known.roles.len())
            .finish_non_exhaustive()
    }
}
