//! What is written behind the requests: when keys were last used, and which revocations are over.
//!
//! Invariant: at most one write for each key in a minute, and none on the way of a request.

use std::sync::Arc;
use std::time::Duration;

use storage::{Expect, Write};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::record::{self, REVOKED, USED};

const EVERY: Duration = Duration::from_secs(60);
/// Records of one commit.
const BATCH: usize = 500;

/// Goes on until it is stopped, and writes what is left then.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopped = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        // A full disk, say. What is not written stays to be written.
        if let Err(error) = shared.write_uses().await {
            tracing::warn!(%error, "when access keys were last used could not be written down; trying again in a minute");
        }
        if let Err(error) = shared.forget_revocations().await {
            tracing::warn!(%error, "revocations that are over could not be removed; trying again in a minute");
        }
        if stopped {
            return;
        }
    }
}

impl Shared {
    async fn write_uses(&self) -> Result<(), crate::Error> {
        let Some(store) = &self.store else { return Ok(()) };
        // No key is deleted meanwhile, so no record of one that is gone appears.
        let _turn = self.turn.lock().await;
        let known = self.known.load_full();
        let uses: Vec<_> = known
            .keys
            .values()
            .filter_map(|key| Some((key, key.last_use().unwritten()?)))
            .collect();
        for batch in uses.chunks(BATCH) {
            let writes = batch
                .iter()
                .map(|(key, at)| unconditional(USED, key.id(), Some(record::write_use(*at))));
            store.records.commit(writes.collect()).await?;
            for (key, at) in batch {
                key.last_use().is_written(*at);
            }
        }
        Ok(())
    }

    async fn forget_revocations(&self) -> Result<(), crate::Error> {
        let Some(store) = &self.store else { return Ok(()) };
        loop {
            let _turn = self.turn.lock().await;
            let over = self.revocations.over(self.clock.now(), BATCH);
            if over.is_empty() {
                return Ok(());
            }
            let writes = over.iter().map(|name| unconditional(REVOKED, name, None)).collect();
            store.records.commit(writes).await?;
            self.revocations.forget(&over);
        }
    }
}

/// A write that depends on nothing.
fn unconditional(kind: &str, key: &str, value: Option<bytes::Bytes>) -> Write {
    Write {
        kind: kind.to_owned(),
        key: key.to_owned(),
        expect: Expect::Anything,
        value,
    }
}
