//! HTTP/1.1 to the agent inside one sandbox.
//!
//! Read in this order: `pool` (which connection), `link` (one connection), `upload` (the request on its way), `head` and
//! `framing` (how an answer is read), `body` (its bytes and what becomes of the connection afterwards). A request comes here from `invoke` and from the
//! session's own pings, and goes on to [`sandbox::Sandbox::dial`].
//!
//! No task runs a connection: whoever waits for an answer drives its connection by polling it, so a request costs no
//! wake-up of another task, and dropping the waiter or the answer's body closes the connection, which is how an agent
//! learns that its caller has gone.
//!
//! Invariant: a request whose first byte may have reached the agent is never sent again. Invariant: a connection goes
//! back to the pool only after a complete exchange. Invariant: no connection outlives its pool's `close`.

mod body;
mod fault;
pub mod framing;
pub mod head;
mod link;
mod pool;
mod upload;

#[cfg(test)]
mod tests;

pub(crate) use body::Body;
pub use fault::Fault;
pub(crate) use pool::{Error, Unsent, Upstream};
