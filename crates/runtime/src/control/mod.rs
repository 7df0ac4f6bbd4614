//! The control plane: which runtimes, versions and endpoints there are, and what each endpoint serves.
//!
//! Read in this order: `record` (what is kept), `lifecycle` (how it moves, pure), `runtimes`, `versions`, `endpoints`,
//! `tags` and `policies` (the operations), `settings`, `headers`, `hooks` and `authorizer` (what a request may ask for), `reconcile` (the work behind
//! CREATING, UPDATING and DELETING) with `work`, `fitness`, `warming` and `publish`; then the helpers `store`, `idempotency`, `page`, `view`.
//!
//! An operation reads, decides, commits with the revisions that it read, and answers; the reconciler does the rest and
//! keeps the [`Catalog`] in step. A call that changes something runs to its end even if its client goes away.
//!
//! Invariant: there is one writer of a data directory, so what this process committed is what is true.
//! Invariant: nothing that the API models but Eyot does not do yet is accepted and then ignored.

mod authorizer;
mod config;
mod endpoints;
mod fitness;
mod headers;
mod hooks;
mod idempotency;
mod lifecycle;
pub(crate) mod page;
mod policies;
mod publish;
mod reconcile;
pub(crate) mod record;
mod runtimes;
mod settings;
mod store;
mod tags;
#[cfg(test)]
mod tests;
mod versions;
mod view;
mod warming;
mod work;

pub use config::Quotas;

use crate::artifacts::Artifacts;
use crate::catalog::Catalog;
use crate::session::Router;
use crate::throttle::Rates;
use api::operations as op;
use domain::arn::ResourceArn;
use domain::id::{AccountId, Region, RuntimeId};
use domain::{Clock, Error, Kind, RuntimeArn};
use futures_util::StreamExt;
use record::Runtime;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use storage::Records;
use store::Store;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How many runtimes are settled at once.
const SETTLE_AT_ONCE: usize = 16;
/// How long a shutdown waits for work that is under way.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The operations of the control plane that work.
pub(crate) const OPERATIONS: &[&api::Operation] = &[
    op::CREATE_AGENT_RUNTIME,
    op::GET_AGENT_RUNTIME,
    op::UPDATE_AGENT_RUNTIME,
    op::DELETE_AGENT_RUNTIME,
    op::LIST_AGENT_RUNTIMES,
    op::LIST_AGENT_RUNTIME_VERSIONS,
    op::CREATE_AGENT_RUNTIME_ENDPOINT,
    op::GET_AGENT_RUNTIME_ENDPOINT,
    op::UPDATE_AGENT_RUNTIME_ENDPOINT,
    op::DELETE_AGENT_RUNTIME_ENDPOINT,
    op::LIST_AGENT_RUNTIME_ENDPOINTS,
    op::TAG_RESOURCE,
    op::UNTAG_RESOURCE,
    op::LIST_TAGS_FOR_RESOURCE,
    op::PUT_RESOURCE_POLICY,
    op::GET_RESOURCE_POLICY,
    op::DELETE_RESOURCE_POLICY,
];

/// What the control plane is made of.
#[derive(Debug)]
pub struct Parts {
    /// Region in ARNs.
    pub region: Region,
    /// Account in ARNs.
    pub account: AccountId,
    /// How much may exist.
    pub quotas: Quotas,
    /// Where records are kept.
    pub records: Arc<dyn Records>,
    /// Where artifacts come from.
    pub artifacts: Arc<Artifacts>,
    /// Where identity providers may be.
    pub reach: oauth::Reach,
    /// Who ends sessions.
    pub sessions: Router,
    /// What the invoke path reads.
    pub catalog: Catalog,
    /// Wall time.
    pub clock: Clock,
}

/// The running control plane. Its background work is dropped with the last clone; nothing is lost by that.
#[derive(Debug, Clone)]
pub struct Control {
    inner: Arc<Inner>,
    _stop_on_drop: Arc<DropGuard>,
}

/// What operations and the reconciler share.
#[derive(Debug)]
pub(crate) struct Inner {
    region: Region,
    account: AccountId,
    quotas: Quotas,
    reach: oauth::Reach,
    store: Store,
    artifacts: Arc<Artifacts>,
    sessions: Router,
    catalog: Catalog,
    clock: Clock,
    queue: Arc<work::Queue>,
    fitness: Arc<fitness::Table>,
    warming: Arc<warming::Warming>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Control {
    /// Reads all records, fills the catalog with everything that can serve, and starts the background work, which
    /// goes on with whatever the last process left half done.
    pub async fn recover(parts: Parts) -> Result<Self, Error> {
        let sessions = parts.sessions.clone();
        Self::recover_with(parts, Box::new(move |target| sessions.warming(target))).await
    }

    /// The same with another judge of what is warm.
    async fn recover_with(parts: Parts, warm: warming::Source) -> Result<Self, Error> {
        let Parts {
            region,
            account,
            quotas,
            reach,
            records,
            artifacts,
            sessions,
            catalog,
            clock,
        } = parts;
        let cancel = CancellationToken::new();
        let runtimes_at_most = quotas.runtimes;
        let inner = Arc::new(Inner {
            region,
            account,
            quotas,
            reach,
            store: Store::new(records),
            artifacts,
            sessions,
            catalog,
            clock,
            queue: Arc::new(work::Queue::new(work::Limits {
                settle: SETTLE_AT_ONCE,
                // One for each runtime, so that none waits for another here. What is scarce has its limits in `artifacts`.
                prepare: usize::try_from(runtimes_at_most)
                    .unwrap_or(usize::MAX)
                    .max(SETTLE_AT_ONCE),
            })),
            fitness: Arc::default(),
            warming: Arc::new(warming::Warming::new(warm)),
            tracker: TaskTracker::new(),
            cancel: cancel.clone(),
        });
        let runtimes = inner.store.all::<Runtime>("").await?;
        let count = runtimes.len();
        futures_util::stream::iter(runtimes)
            .for_each_concurrent(SETTLE_AT_ONCE, |runtime| {
                let inner = Arc::clone(&inner);
                async move { inner.settle_at_start(&runtime.value).await }
            })
            .await;
        inner.end_strays();
        inner.queue.add(work::Job::Collect);
        tracing::info!(runtimes = count, "the control plane is ready");
        inner.tracker.spawn(Arc::clone(&inner).dispatch());
        Ok(Self {
            inner,
            _stop_on_drop: Arc::new(cancel.drop_guard()),
        })
    }

    /// How fast callers may call.
    pub(crate) fn rates(&self) -> &Rates {
        &self.inner.quotas.rates
    }

    /// Answers one of [`OPERATIONS`].
    pub async fn call(
        &self,
        operation: &'static api::Operation,
        input: Map<String, Value>,
    ) -> Result<Map<String, Value>, Error> {
        let inner = Arc::clone(&self.inner);
        // Not tied to the call: between a commit and what follows from it nobody may drop us.
        let task = self
            .inner
            .tracker
            .spawn(async move { inner.answer(operation, input).await });
        task.await.unwrap_or_else(|error| {
            tracing::error!(operation = operation.name, %error, "an operation did not end");
            Err(Error::internal(
                "The server failed while it answered; its log says why.",
            ))
        })
    }

    /// Stops the background work. What is left undone goes on at the next start.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tracker.close();
        if tokio::time::timeout(SHUTDOWN, self.inner.tracker.wait()).await.is_err() {
            tracing::warn!("the control plane stops while work is under way; it goes on at the next start");
        }
    }
}

impl Inner {
    async fn answer(
        &self,
        operation: &'static api::Operation,
        input: Map<String, Value>,
    ) -> Result<Map<String, Value>, Error> {
        match operation {
            o if o == op::CREATE_AGENT_RUNTIME => self.create_runtime(input).await,
            o if o == op::GET_AGENT_RUNTIME => self.get_runtime(input).await,
            o if o == op::UPDATE_AGENT_RUNTIME => self.update_runtime(input).await,
            o if o == op::DELETE_AGENT_RUNTIME => self.delete_runtime(input).await,
            o if o == op::LIST_AGENT_RUNTIMES => self.list_runtimes(input).await,
            o if o == op::LIST_AGENT_RUNTIME_VERSIONS => self.list_versions(input).await,
            o if o == op::CREATE_AGENT_RUNTIME_ENDPOINT => self.create_endpoint(input).await,
            o if o == op::GET_AGENT_RUNTIME_ENDPOINT => self.get_endpoint(input).await,
            o if o == op::UPDATE_AGENT_RUNTIME_ENDPOINT => self.update_endpoint(input).await,
            o if o == op::DELETE_AGENT_RUNTIME_ENDPOINT => self.delete_endpoint(input).await,
            o if o == op::LIST_AGENT_RUNTIME_ENDPOINTS => self.list_endpoints(input).await,
            o if o == op::TAG_RESOURCE => self.tag(input).await,
            o if o == op::UNTAG_RESOURCE => self.untag(input).await,
            o if o == op::LIST_TAGS_FOR_RESOURCE => self.list_tags(input).await,
            o if o == op::PUT_RESOURCE_POLICY => self.put_policy(input).await,
            o if o == op::GET_RESOURCE_POLICY => self.get_policy(input).await,
            o if o == op::DELETE_RESOURCE_POLICY => self.delete_policy(input).await,
            o => Err(Error::new(
                domain::Kind::Unsupported,
                format!("{} is not part of this version of Eyot.", o.name),
            )),
        }
    }

    /// Fills the catalog with a runtime. A runtime that cannot be read now does not keep the others from serving.
    async fn settle_at_start(&self, runtime: &Runtime) {
        if let Err(error) = self.settle(&runtime.id).await {
            tracing::error!(runtime = %runtime.id, %error, "a runtime cannot be settled yet");
            self.queue.add(work::Job::Settle(runtime.id.clone()));
        }
    }

    /// Ends sessions that were taken over and whose endpoint was deleted in the last process' last moments.
    fn end_strays(&self) {
        let endpoints: BTreeSet<_> = self.sessions.endpoints();
        for (runtime, endpoint) in endpoints {
            let gone =
                matches!(self.catalog.resolve(&runtime, Some(&endpoint)), Err(error) if error.kind == Kind::NotFound);
            if gone {
                self.end_sessions_of(&runtime, &endpoint);
            }
        }
    }

    /// What this server lets a version have.
    fn allowed(&self) -> settings::Allowed<'_> {
        settings::Allowed {
            quotas: &self.quotas,
            reach: self.reach,
            can_store: self.sessions.can_store(),
        }
    }

    fn arn(&self, id: &RuntimeId) -> RuntimeArn {
        RuntimeArn {
            region: self.region.clone(),
            account: self.account.clone(),
            id: id.clone(),
        }
    }
}

/// Reads an ARN that names something here. One of another account is denied, as AWS does for what it may not show;
/// one of another region does not exist here. Both say what this server is.
pub(crate) fn own_arn(member: &str, value: &str, region: &Region, account: &AccountId) -> Result<ResourceArn, Error> {
    let arn = ResourceArn::parse(value).map_err(|invalid| Error::invalid_field(member, invalid.to_string()))?;
    let runtime = arn.runtime();
    own_account(&runtime.account, account)?;
    if runtime.region != *region {
        return Err(Error::not_found(format!(
            "'{value}' is in region {}, and this server is region {region}: use an ARN of {region}, or set `region` in \
             the server's configuration.",
            runtime.region
        )));
    }
    Ok(arn)
}

/// Denies another account than this server's.
pub(crate) fn own_account(asked: &AccountId, account: &AccountId) -> Result<(), Error> {
    if asked == account {
        return Ok(());
    }
    Err(Error::denied(format!(
        "The resource belongs to account {asked}, and this server is account {account}: use an ARN of {account}, or \
         set `account` in the server's configuration."
    )))
}

/// An operation's input as its type. The front door has checked it, so a mismatch is a fault of ours.
fn typed<T: api::Structure>(input: Map<String, Value>) -> Result<T, Error> {
    api::from_input(input).map_err(|error| {
        tracing::error!(%error, "a checked input does not fit its type");
        Error::internal("The server could not read the call; its log says why.")
    })
}
