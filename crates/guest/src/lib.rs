//! What the server and the guest say to each other.
//!
//! The guest is one small static program that launches a sandbox, is the first process in it and supervises the agent.
//! This library is the part that `sandbox` shares with it: [`frame`] is the framing of both channels, [`protocol`] the
//! messages, [`lines`] the layout of the log files, [`listeners`] the reader of the kernel's socket tables.
//!
//! Invariant: nothing here trusts its input. A frame has a bounded size and a malformed one is an error, never a panic:
//! the agent shares a kernel with the guest and may have taken it over.

pub mod frame;
pub mod lines;
pub mod listeners;
pub mod protocol;
