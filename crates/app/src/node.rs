//! Which node this server is, and its right to act as that node: a lease that is renewed for as long as it serves.
//!
//! A node is a data directory, under an id that is made once and kept in its records. Every server process of it takes
//! the node's lease and gets a higher epoch than those before it, which it shows to each sandbox and writes into each
//! session. The lock on the data directory keeps a second server out on this host; the epoch also keeps out one that the
//! lock does not see, on a file system that is shared between hosts, or a process that was stopped and forgotten.
//!
//! Invariant: a server whose lease went to a later one touches nothing any more. It ends at once and drains nothing: what
//! it would end belongs to its successor.

use anyhow::Context;
use domain::Clock;
use runtime::session::Node;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use storage::{Error, Expect, Lease, Leases, RecordLeases, Records, Write, document};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How long a node that is not heard of keeps its lease.
const TTL: Duration = Duration::from_secs(30);
/// Two renewals may fail before the lease has run out.
const RENEWALS: u32 = 3;

const KIND: &str = "node";
const KEY: &str = "self";
const SCHEMA: u32 = 1;

/// The time in which this process is its node. Dropped, it renews no more; the next process need not wait for that.
#[derive(Debug)]
pub(crate) struct Tenure {
    node: Node,
    leases: RecordLeases,
    lease: Lease,
    lost: CancellationToken,
    renewing: TaskTracker,
    stop: DropGuard,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    id: String,
}

impl Tenure {
    /// Takes the lease of the node whose records these are.
    pub(crate) async fn begin(records: Arc<dyn Records>, clock: Clock) -> anyhow::Result<Self> {
        let id = identity(&*records).await.context("cannot read which node this is")?;
        let leases = RecordLeases::new(records, clock);
        let lease = leases.acquire(&format!("node/{id}"), &id, TTL).await?;
        let (lost, stop, renewing) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        renewing.spawn(renew(leases.clone(), lease.clone(), lost.clone(), stop.clone()));
        renewing.close();
        Ok(Self {
            node: Node {
                owner: id,
                epoch: lease.epoch,
            },
            leases,
            lease,
            lost,
            renewing,
            stop: stop.drop_guard(),
        })
    }

    /// The node and the epoch of this tenure.
    pub(crate) fn node(&self) -> Node {
        self.node.clone()
    }

    /// Resolves when another process has become this node, with what to say of it. Cancellation safe.
    pub(crate) async fn lost(&self) -> anyhow::Error {
        self.lost.cancelled().await;
        let Node { owner, epoch } = &self.node;
        anyhow::anyhow!(
            "another server has taken over node {owner} (this one had epoch {epoch}): stopping at once, its sessions are \
             the other's now. Only one server may use a data directory"
        )
    }

    /// Gives the lease up.
    pub(crate) async fn end(self) {
        drop(self.stop);
        self.renewing.wait().await;
        match self.leases.release(&self.lease).await {
            Ok(()) | Err(Error::LeaseLost { .. }) => {}
            Err(error) => tracing::warn!(%error, "the node's lease could not be released; it ends by itself"),
        }
    }
}

async fn renew(leases: RecordLeases, lease: Lease, lost: CancellationToken, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TTL / RENEWALS) => {}
        }
        match leases.renew(&lease, TTL).await {
            Ok(_) => {}
            Err(error @ Error::LeaseLost { .. }) => {
                tracing::error!(%error, "another server has taken over this node");
                lost.cancel();
                return;
            }
            // A full disk, say. Nobody else has taken it, so serving goes on.
            Err(error) => tracing::warn!(%error, "the node's lease could not be renewed; trying again"),
        }
    }
}

/// The id of the node whose records these are, made if there is none.
async fn identity(records: &dyn Records) -> anyhow::Result<String> {
    loop {
        if let Some(record) = records.get(KIND, KEY).await? {
            let identity: Identity = document::decode(SCHEMA, &record.value)?;
            return Ok(identity.id);
        }
        let made = Identity {
            id: format!("node-{}", uuid::Uuid::new_v4().simple()),
        };
        let write = Write {
            kind: KIND.to_owned(),
            key: KEY.to_owned(),
            expect: Expect::Absent,
            value: Some(document::encode(SCHEMA, &made)),
        };
        match records.commit(vec![write]).await {
            // Of two that make it at once, the second reads what the first made.
            Ok(_) | Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicBool, Ordering};
    use storage::sqlite::Store;
    use storage::{Record, Revision};
    use tokio::time::{Instant, timeout};

    /// Records whose commits fail while they are told to.
    #[derive(Debug)]
    struct Disk {
        below: Store,
        full: AtomicBool,
    }

    #[async_trait]
    impl Records for Disk {
        async fn get(&self, kind: &str, key: &str) -> storage::Result<Option<Record>> {
            self.below.get(kind, key).await
        }

        async fn list(&self, kind: &str, prefix: &str, after: Option<&str>, n: usize) -> storage::Result<Vec<Record>> {
            self.below.list(kind, prefix, after, n).await
        }

        async fn commit(&self, writes: Vec<Write>) -> storage::Result<Vec<Revision>> {
            if self.full.load(Ordering::SeqCst) {
                return Err(Error::Full("x".into()));
            }
            self.below.commit(writes).await
        }
    }

    struct Bed {
        disk: Arc<Disk>,
        clock: Clock,
        _dir: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let below = Store::open(dir.path().join("state.db")).unwrap();
            let (start, born) = (jiff::Timestamp::UNIX_EPOCH, Instant::now());
            Self {
                disk: Arc::new(Disk {
                    below,
                    full: AtomicBool::new(false),
                }),
                clock: Clock::from_fn(move || start + jiff::SignedDuration::try_from(born.elapsed()).unwrap()),
                _dir: dir,
            }
        }

        async fn begin(&self) -> Tenure {
            Tenure::begin(self.disk.clone(), self.clock.clone()).await.unwrap()
        }

        async fn rival(&self, tenure: &Tenure) -> storage::Result<Lease> {
            let leases = RecordLeases::new(self.disk.clone(), self.clock.clone());
            leases.acquire(&tenure.lease.name, "rival", TTL).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_stays_the_same_and_its_epoch_rises() {
        let bed = Bed::new();
        let first = bed.begin().await;
        let Node { owner, epoch } = first.node();
        assert_eq!(epoch, 1);
        // As after kill -9: nothing was released.
        drop(first);
        let second = bed.begin().await;
        assert_eq!(second.node(), Node { owner, epoch: 2 });
        second.end().await;
        assert_eq!(bed.begin().await.node().epoch, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_held_for_as_long_as_the_server_lives_and_free_after_a_clean_end() {
        let bed = Bed::new();
        let tenure = bed.begin().await;
        for _ in 0..10 {
            tokio::time::sleep(TTL).await;
            let refused = bed.rival(&tenure).await;
            assert!(matches!(refused, Err(Error::Leased { .. })), "{refused:?}");
        }
        let lease = tenure.lease.clone();
        tenure.end().await;
        let leases = RecordLeases::new(bed.disk.clone(), bed.clock.clone());
        assert!(leases.acquire(&lease.name, "rival", TTL).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_learns_that_a_later_one_took_over() {
        let bed = Bed::new();
        let first = bed.begin().await;
        assert!(timeout(10 * TTL, first.lost()).await.is_err(), "nobody took it");
        let second = bed.begin().await;
        let lost = timeout(TTL / RENEWALS + Duration::from_secs(1), first.lost())
            .await
            .unwrap();
        assert!(
            lost.to_string().contains("another server has taken over node"),
            "{lost}"
        );
        // Its end takes nothing from its successor.
        first.end().await;
        assert!(bed.rival(&second).await.is_err());
        assert!(timeout(10 * TTL, second.lost()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_is_full_for_a_while_ends_nothing() {
        let bed = Bed::new();
        let tenure = bed.begin().await;
        bed.disk.full.store(true, Ordering::SeqCst);
        assert!(timeout(5 * TTL, tenure.lost()).await.is_err());
        bed.disk.full.store(false, Ordering::SeqCst);
        tokio::time::sleep(TTL).await;
        assert!(bed.rival(&tenure).await.is_err());
    }
}
