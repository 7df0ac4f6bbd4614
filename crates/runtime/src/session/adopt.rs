//! After a restart: taking over the sessions that an earlier server process left.
//!
//! A sandbox says itself whose it is, by its labels; the journal adds what has happened since. So a session is taken over
//! with its deadlines, also when the journal lost its last seconds. What has no session (a warm sandbox that nobody had
//! got, a trial) or cannot be taken over is destroyed, and a row without a sandbox becomes the record of a lost session.
//!
//! Invariant: nothing is served before all that was left has an owner or is gone.

use super::environment::{Labels, label};
use super::facts::age;
use super::live::{Past, Session};
use super::owner::Adopted;
use super::report::Report;
use super::router::{Key, Shared};
use crate::credentials::wallet;
use crate::deployment::{Deployment, Target};
use domain::Error;
use domain::id::{EndpointName, RuntimeId, SandboxId, SessionId};
use futures_util::StreamExt;
use jiff::Timestamp;
use sandbox::Found;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Sandboxes taken over or destroyed at the same time.
const AT_ONCE: usize = 8;
const DEADLINE: Duration = Duration::from_secs(30);

/// What became of what an earlier server process left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sessions that go on.
    pub adopted: usize,
    /// Sandboxes that were destroyed.
    pub destroyed: usize,
    /// Sandboxes that could not be destroyed; the log says why.
    pub left: usize,
}

/// Whose a sandbox is, by its labels.
struct Owned {
    key: Key,
    target: Target,
    created: Timestamp,
    healthy: bool,
}

enum Outcome {
    Adopted(SandboxId),
    Destroyed,
    Left,
}

pub(super) async fn recover(shared: &Arc<Shared>) -> Result<Recovered, Error> {
    let found = shared.driver.list().await.map_err(|error| {
        tracing::error!(%error, "the sandboxes of an earlier server process cannot be listed");
        Error::internal(format!(
            "the sandboxes of an earlier server process cannot be listed: {error}"
        ))
    })?;
    let mut rows = shared.journal.left().await?;
    let each = futures_util::stream::iter(found).map(|found| one(shared, &rows, found));
    let outcomes: Vec<Outcome> = each.buffer_unordered(AT_ONCE).collect().await;
    let mut recovered = Recovered::default();
    for outcome in outcomes {
        match outcome {
            Outcome::Adopted(id) => {
                rows.remove(&id);
                recovered.adopted += 1;
            }
            Outcome::Destroyed => recovered.destroyed += 1,
            Outcome::Left => recovered.left += 1,
        }
    }
    for (_, mut report) in rows {
        // What its sandbox had is of use to nobody any more, and shall not be.
        let outstanding = std::mem::take(&mut report.credentials);
        report.credentials = wallet::revoke(&*shared.roles, outstanding, shared.clock.now()).await;
        shared.journal.lost(report);
    }
    Ok(recovered)
}

async fn one(shared: &Arc<Shared>, rows: &HashMap<SandboxId, Report>, found: Found) -> Outcome {
    let id = found.id;
    if let Some(owned) = Owned::read(&found.labels).filter(|_| found.alive) {
        match timeout(DEADLINE, adopt(shared, rows.get(&id), &id, owned)).await {
            Ok(Ok(())) => return Outcome::Adopted(id),
            Ok(Err(error)) => tracing::warn!(sandbox = %id, %error, "a session cannot be taken over"),
            Err(_) => tracing::warn!(sandbox = %id, "taking over a session took too long"),
        }
    }
    let outcome = match timeout(DEADLINE, shared.driver.destroy(&id)).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no result after {} s", DEADLINE.as_secs())),
    };
    match outcome {
        Ok(()) => Outcome::Destroyed,
        Err(error) => {
            tracing::error!(sandbox = %id, %error, "a sandbox of an earlier process could not be destroyed");
            Outcome::Left
        }
    }
}

async fn adopt(shared: &Arc<Shared>, row: Option<&Report>, id: &SandboxId, owned: Owned) -> Result<(), sandbox::Error> {
    let sandbox = shared.driver.adopt(id).await?;
    // The earlier process may have paused it.
    sandbox.resume().await?;
    let now = shared.clock.now();
    let old = age(now, owned.created);
    let past = Past {
        age: old,
        last_exit: Duration::ZERO,
    };
    // With a call in flight it was active when the server ended; without a row nothing else is known.
    let kept_alive = match row {
        Some(row) if row.calls_in_flight == 0 => age(row.last_active_at, owned.created).min(old),
        _ => old,
    };
    let session = Session::new(owned.key, &owned.target, owned.created, past, &shared.config);
    if let Some(row) = row {
        session.facts.lock().resume(row.clone(), old);
    }
    session.calls.adopt();
    let adopted = Adopted {
        sandbox,
        credentials: row.map(|row| row.credentials.clone()).unwrap_or_default(),
        healthy: owned.healthy,
        kept_alive,
    };
    shared
        .insert(&Arc::new(session), adopted)
        .map_err(|_| sandbox::Error::Host("another sandbox has its session already".to_owned()))
}

impl Owned {
    /// Nothing if it is no session's.
    fn read(labels: &Labels) -> Option<Self> {
        let deployment: Deployment = serde_json::from_str(labels.get(label::DEPLOYMENT)?).ok()?;
        let endpoint = EndpointName::parse(labels.get(label::ENDPOINT)?).ok()?;
        let switches = labels
            .get(label::SWITCHES)
            .and_then(|text| serde_json::from_str(text).ok());
        Some(Self {
            key: Key {
                runtime: RuntimeId::parse(labels.get(label::RUNTIME)?).ok()?,
                endpoint: endpoint.clone(),
                session: SessionId::parse(labels.get(label::SESSION)?).ok()?,
            },
            target: Target {
                endpoint,
                deployment: Arc::new(deployment),
                switches: Arc::new(switches.unwrap_or_default()),
            },
            created: labels.get(label::CREATED)?.parse().ok()?,
            healthy: labels.contains_key(label::HEALTHY),
        })
    }
}
