//! From the errors of the crates below to the one kind of error that a caller may see.
//!
//! A storage failure is Eyot's own fault and carries details that only the operator may read: they go to the log, the
//! caller gets a sentence. A full disk is named, because the operator is often the caller.

use domain::Error;

/// A storage failure as the caller sees it; the cause is logged.
///
/// [`storage::Error::Conflict`] is not an outcome for a caller: whoever commits reads again and decides anew, so one
/// that gets here is a fault of ours.
pub(crate) fn from_storage(error: &storage::Error) -> Error {
    tracing::error!(%error, "storage failed");
    match error {
        storage::Error::Full(_) => Error::internal("The server's disk is full: free some space and call again."),
        storage::Error::Closed => Error::new(
            domain::Kind::Draining,
            "The server is stopping: call again in a moment.",
        ),
        _ => Error::internal("The server could not read or write its records; its log says why."),
    }
}
