//! What both drivers share: a sandbox is a directory, perhaps control groups, and a guest.
//!
//! ```text
//! start:  Host::start -> launch (spawn the guest, hand-shake, write the record) -> Handle
//! later:  Handle -> control (one request on the guest's socket)
//! after:  Host::list -> record -> adopt -> Handle, or erase
//! ```
//!
//! The directory, `<state-dir>/<sandbox id>/`, holds the record, the control socket, the log and the exit. It is made
//! first and removed last, so that whatever a crash leaves behind can be found from it.
//!
//! Invariant: nothing exists outside the directory that the record does not name.

mod control;
mod erase;
mod fence;
mod follow;
mod handle;
mod host;
mod image;
mod launch;
mod logs;
mod record;
mod rest;
mod slots;

#[cfg(test)]
pub(crate) use host::key;
pub(crate) use host::{Host, Parts, Standing};
pub(crate) use record::{Kind, Record};
pub(crate) use slots::Slots;
