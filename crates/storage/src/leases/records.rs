//! [`Leases`] over [`Records`]: one document for each name, replaced only as it was read.
//!
//! A document is never deleted, or the epoch would begin again; a released one has no holder.

use super::{Lease, Leases};
use crate::records::{Expect, Record, Records, Revision, Write};
use crate::{Error, Result, document};
use async_trait::async_trait;
use bytes::Bytes;
use domain::Clock;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "lease";
const SCHEMA: u32 = 1;
/// Each loss means that somebody else has won, so that a second look mostly ends it.
const MOST_TRIES: u32 = 100;

/// Leases in any storage of records.
#[derive(Debug, Clone)]
pub struct RecordLeases {
    records: Arc<dyn Records>,
    clock: Clock,
}

/// What is stored of a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    epoch: u64,
    /// `None` once it is released.
    holder: Option<String>,
    expires: Timestamp,
    /// How long it was taken for; more than this can never be left.
    ttl: SignedDuration,
}

/// Whether a change was made, or another came first.
enum Swap {
    Made,
    Lost(Error),
}

impl RecordLeases {
    /// Leases in `records`, by `clock`.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, clock: Clock) -> Self {
        Self { records, clock }
    }

    async fn read(&self, name: &str) -> Result<Option<(Revision, State)>> {
        let found = self.records.get(KIND, name).await?;
        found.map(|record| Ok((record.revision, decode(&record)?))).transpose()
    }

    async fn swap(&self, name: &str, expect: Expect, state: State) -> Result<Swap> {
        let write = Write {
            kind: KIND.to_owned(),
            key: name.to_owned(),
            expect,
            value: Some(encode(&state)),
        };
        match self.records.commit(vec![write]).await {
            Ok(_) => Ok(Swap::Made),
            Err(error @ Error::Conflict { .. }) => Ok(Swap::Lost(error)),
            Err(error) => Err(error),
        }
    }

    /// Refuses a name to somebody. An expiry further away than the lease is long was written by a clock that ran ahead,
    /// and would keep the name from everybody for as long as it was wrong: it is cut down first.
    async fn refuse(&self, name: &str, revision: Revision, mut state: State) -> Result<Swap> {
        let latest = after(self.clock.now(), state.ttl);
        let far = state.expires > latest;
        if far {
            state.expires = latest;
        }
        let leased = Error::Leased {
            name: name.to_owned(),
            holder: state.holder.clone().unwrap_or_default(),
            expires: state.expires,
        };
        if !far {
            return Err(leased);
        }
        match self.swap(name, Expect::Revision(revision), state).await? {
            Swap::Made => Err(leased),
            lost @ Swap::Lost(_) => Ok(lost),
        }
    }

    /// Changes a lease that this holder must still have.
    async fn change(&self, lease: &Lease, change: impl Fn(&mut State)) -> Result<State> {
        let mut tries = 0;
        loop {
            let found = self.read(&lease.name).await?;
            let Some((revision, mut state)) = found.filter(|(_, state)| state.is(lease)) else {
                return Err(Error::LeaseLost {
                    name: lease.name.clone(),
                    epoch: lease.epoch,
                });
            };
            change(&mut state);
            match self
                .swap(&lease.name, Expect::Revision(revision), state.clone())
                .await?
            {
                Swap::Made => return Ok(state),
                Swap::Lost(error) => again(&mut tries, error)?,
            }
        }
    }
}

#[async_trait]
impl Leases for RecordLeases {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease> {
        let ttl = signed(ttl);
        let mut tries = 0;
        loop {
            let found = self.read(name).await?;
            let now = self.clock.now();
            let (expect, epoch) = match found {
                None => (Expect::Absent, 0),
                Some((revision, state)) if state.may_be_taken(holder, now) => (Expect::Revision(revision), state.epoch),
                Some((revision, state)) => match self.refuse(name, revision, state).await? {
                    Swap::Made => continue,
                    Swap::Lost(error) => {
                        again(&mut tries, error)?;
                        continue;
                    }
                },
            };
            let lease = Lease {
                name: name.to_owned(),
                holder: holder.to_owned(),
                epoch: epoch + 1,
                expires: after(now, ttl),
            };
            let state = State {
                epoch: lease.epoch,
                holder: Some(lease.holder.clone()),
                expires: lease.expires,
                ttl,
            };
            match self.swap(name, expect, state).await? {
                Swap::Made => return Ok(lease),
                Swap::Lost(error) => again(&mut tries, error)?,
            }
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let ttl = signed(ttl);
        let renewed = self.change(lease, |state| {
            state.expires = after(self.clock.now(), ttl);
            state.ttl = ttl;
        });
        let expires = renewed.await?.expires;
        Ok(Lease {
            expires,
            ..lease.clone()
        })
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.change(lease, |state| state.holder = None).await.map(drop)
    }
}

impl State {
    fn is(&self, lease: &Lease) -> bool {
        self.epoch == lease.epoch && self.holder.as_ref() == Some(&lease.holder)
    }

    fn may_be_taken(&self, by: &str, now: Timestamp) -> bool {
        match &self.holder {
            None => true,
            Some(holder) => holder == by || self.expires <= now,
        }
    }
}

fn again(tries: &mut u32, error: Error) -> Result<()> {
    *tries += 1;
    if *tries == MOST_TRIES { Err(error) } else { Ok(()) }
}

fn signed(ttl: Duration) -> SignedDuration {
    SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX)
}

fn after(now: Timestamp, ttl: SignedDuration) -> Timestamp {
    now.saturating_add(ttl).unwrap_or(Timestamp::MAX)
}

fn encode(data: &State) -> Bytes {
    document::encode(SCHEMA, data)
}

fn decode(record: &Record) -> Result<State> {
    document::decode(SCHEMA, &record.value).map_err(|why| Error::Unreadable {
        kind: record.kind.clone(),
        key: record.key.clone(),
        why: why.to_string(),
    })
}
