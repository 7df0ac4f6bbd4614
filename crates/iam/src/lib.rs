//! Who exists, and what they may do: access keys, policies and the decisions made from them.
//!
//! Read in this order: [`policy`] (the policy language and its decisions, pure), [`keys`] (what calls are signed with).
//!
//! Invariant: nothing here knows HTTP. Invariant: a secret is in no log, no error and no `Debug` output.

pub mod keys;
pub mod policy;
