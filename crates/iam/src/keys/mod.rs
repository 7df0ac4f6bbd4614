//! What calls are signed with: access keys, those of temporary credentials included, and what is derived from them.
//!
//! Invariant: a secret leaves an [`AccessKey`] only to be sealed, to be derived from, or to be shown once at its making;
//! the root key's also for `eyot env`.

mod access;
mod key;
mod signing;

pub use access::AccessKey;
pub use key::{Key, Missing};
pub(crate) use key::{LastUse, Life, Temporary};
pub use signing::{Derived, Scope};
