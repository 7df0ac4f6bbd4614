//! The vocabulary of Eyot: ids, ARNs, the runtime model, the caller, errors, time and traces.
//!
//! Everything here is data and pure functions. Storage, the network and async code live in the crates above and
//! speak to each other in these words.
//!
//! Invariant: no I/O and no async. Invariant: nothing here knows an HTTP status code.

pub mod arn;
pub mod clock;
pub mod error;
pub mod id;
pub mod principal;
pub mod trace;

pub use arn::{EndpointArn, RuntimeArn};
pub use clock::Clock;
pub use error::{Error, Kind, Origin};
pub use principal::{Bearer, Principal, PrincipalKind};
pub use trace::TraceParent;
