//! The seam for ownership that ends by itself: who may act for a name, until when, and after whom.
//!
//! A lease's epoch rises with every acquisition and never falls, so whatever its holder touches can tell a later holder
//! from an earlier one (fencing): a process that was stopped, forgotten and woken again cannot undo the work of its
//! successor. Expiry only says when somebody else may try; the epoch says who is right.
//!
//! [`RecordLeases`] is the one implementation, over [`crate::Records`] by compare-and-swap, so that every storage shares
//! it.

mod records;

pub use records::RecordLeases;

use crate::Result;
use async_trait::async_trait;
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;

/// A lease as its holder got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Higher than that of every earlier acquisition of this name.
    pub epoch: u64,
    /// When another holder may take it, by the holder's own clock, unless it is renewed.
    pub expires: Timestamp,
}

/// Ownership of names, for a time.
///
/// Clocks may differ and jump. One that runs ahead takes a lease too early, which the epoch makes harmless; one that has
/// fallen back sees an expiry that is further away than the lease is long, and cuts it down to that.
#[async_trait]
pub trait Leases: Send + Sync + fmt::Debug {
    /// Takes a name: one that is free, expired, or this holder's own, at once and with a higher epoch in each case.
    /// [`crate::Error::Leased`] says who has it. If the future is dropped, the lease may have been taken.
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease>;

    /// Holds on to a lease, for `ttl` from now; also to an expired one that nobody has taken.
    /// [`crate::Error::LeaseLost`] when it was taken or released since: its holder must stop.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease>;

    /// Gives a lease up, so that anybody may take it at once. [`crate::Error::LeaseLost`] as for [`Leases::renew`].
    async fn release(&self, lease: &Lease) -> Result<()>;
}
