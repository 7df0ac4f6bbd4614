//! The AWS JSON policy language: what a policy says, and what it decides.
//!
//! Pure and synchronous: a text becomes a [`Policy`] once, and [`decide`] answers each call from policies, the caller
//! and a [`Context`]. Read in this order: [`document`](Policy) and its `statement` (what may be in a policy), `glob` and
//! `template` (patterns and variables), `principals`, `condition`, `lookup`, then `decide` and [`trust`].
//!
//! Wildcards: in actions without regard to case; in `Resource` over the ARN as one text, so a `*` may also stand for
//! colons and slashes; in `Arn…` conditions part by part; never in principals. Variables may be in `Resource` and in
//! the values of `String…` and `Arn…` conditions.
//!
//! Why not an existing evaluator: the one for Rust, scratchstack-aspen (MIT, last release January 2023), takes a
//! condition such as `StringNotEquals` with several values for true when any of them differs, so that a caller on the
//! list passes, and knows no keys with several values and no rules between accounts. It also compiles regular
//! expressions for every decision, and brings chrono and older releases of crates that we have.
//!
//! Invariant: a policy that cannot be understood to the last key is refused, never half applied. Invariant: a decision
//! does not depend on the order of statements; only which of several equal ones is named does.

mod condition;
pub mod context;
mod decide;
mod decision;
mod document;
mod glob;
mod invalid;
mod json;
mod lookup;
mod principals;
mod statement;
mod template;
pub mod trust;

#[cfg(test)]
mod tests;

pub use context::{Context, NoContext, Value, Values};
pub use decide::{Policies, Request, decide};
pub use decision::{Deciding, Decision, Denial, Grant, Standing};
pub use document::{Effect, Kind, Policy};
pub use invalid::Invalid;
pub use principals::Caller;
