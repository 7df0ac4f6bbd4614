//! Why something could not be read, changed or issued, by what the caller can do about it.

/// Why something could not be read, changed or issued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Storage failed.
    #[error("users and keys: {0}")]
    Storage(#[from] storage::Error),
    /// A record is not what it should be.
    #[error(
        "{what} record '{record}': {problem}; restore the data directory, or delete the record if it is not needed"
    )]
    Record {
        /// What the record is of.
        what: &'static str,
        /// The record's key.
        record: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another build wrote a record.
    #[error("{what} record '{record}' has schema {found}, this program knows {known}: use the Eyot that wrote it")]
    Schema {
        /// What the record is of.
        what: &'static str,
        /// The record's key.
        record: String,
        /// Its schema.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// No randomness to make an id or a secret from.
    #[error("the system has no randomness to make a secret from")]
    Random,
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What was to be made exists already.
    #[error("{0}")]
    Exists(String),
    /// As many as may be.
    #[error("{0}")]
    Quota(String),
    /// The caller may not have what it asks for, in AWS's words.
    #[error("{0}")]
    Denied(String),
    /// A value breaks a rule.
    #[error("{field}: {problem}")]
    Invalid {
        /// The member that is wrong, by its name in our JSON, such as `trustPolicy`.
        field: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Another process changed the same record, which only a server that lost its place can see; nothing was done.
    #[error(
        "the records were changed by another process while this server runs, and nothing was done: restart the server"
    )]
    Changed,
    /// No changes are taken: the server stops, or the keys are fixed ones of a test.
    #[error("users and keys cannot be changed now: the server is stopping")]
    Closed,
}

impl Error {
    pub(crate) fn invalid(field: &'static str, problem: impl ToString) -> Self {
        Self::Invalid {
            field,
            problem: problem.to_string(),
        }
    }
}
