//! Who exists, and what they may do: users, roles, access keys, temporary credentials, policies and the decisions made
//! from them.
//!
//! Read in this order: [`policy`] (the policy language and its decisions, pure), [`keys`] (what calls are signed with),
//! [`directory`] (who there is: in memory while the server runs, durable before it is visible), [`sts`] (temporary
//! credentials, which no record holds).
//!
//! Invariant: nothing here knows HTTP. Invariant: a secret is in no log, no error and no `Debug` output.

pub mod directory;
mod error;
pub mod keys;
pub mod names;
pub mod policy;
pub mod sts;

pub use directory::Directory;
pub use error::Error;
