//! The AgentCore API as data: wire types, operation table, exceptions and the constraints of every member.
//!
//! `generated` is written by `cargo xtask codegen` from the reduced service models in `model/`: serde types
//! ([`control`], [`data`]), the operations of both planes ([`OPERATIONS`], [`operations`]), their exceptions and a
//! table of shapes. The small hand-written part beside it reads that table: [`decode`] gathers a request's parts into
//! an operation's input and checks every constraint, [`from_input`] turns the input into the operation's type,
//! [`to_output`] and [`encode`] go the other way. A request comes here from the front door's router and goes on to
//! the service that answers the operation.
//!
//! Invariant: what [`decode`] accepts, [`from_input`] accepts; the table and the types come from one model.
//! Invariant: a value that the model calls sensitive appears neither in a [`Violation`] nor in `Debug` output.

mod convert;
mod decode;
mod encode;
mod generated;
mod operation;
mod shape;
mod validate;
mod wire;

#[cfg(test)]
mod tests;

pub use convert::{Mismatch, Structure, from_input, to_output};
pub use decode::decode;
pub use encode::{Encoded, encode};
pub use generated::operations::{self, BOTOCORE_VERSION, OPERATIONS};
pub use generated::{control, data};
pub use operation::{Exception, Operation, Payload, Plane, exception, exceptions, operation};
pub use shape::{Kind, Location, Member, Pattern, Shape, TimestampFormat};
pub use validate::{Invalid, Violation};
pub use wire::Blob;
