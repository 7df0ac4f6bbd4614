//! Where state lives: narrow traits, each with one contract suite that every implementation passes.
//!
//! [`Records`] keeps small versioned documents that change together; [`Blobs`] keeps large immutable content; [`Leases`]
//! says who owns what, for a time. A new service brings new kinds of record, not new tables. [`sqlite::Store`] and [`files::FileBlobs`] are the embedded
//! implementations; [`lock::DataDir`] makes sure that one server owns a data directory; [`seal::MasterKey`] keeps
//! secrets unreadable at rest.
//!
//! Invariant: this crate knows no noun of a service: a record is a kind, a key and bytes.

mod blobs;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod document;
mod durable;
mod error;
pub mod files;
mod leases;
pub mod lock;
mod records;
pub mod seal;
pub mod sqlite;
#[cfg(test)]
mod tests;

pub use blobs::{Blob, Blobs, Stored, Upload};
pub use error::Error;
pub use leases::{Lease, Leases, RecordLeases};
pub use records::{Expect, Record, Records, Revision, Write};

/// What storage answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;
