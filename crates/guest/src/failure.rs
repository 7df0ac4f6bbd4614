//! Failures of a start, made short to write.

use guest::protocol::{Failure, FailureKind};
use std::fmt::Display;

pub(crate) fn host(what: impl Into<String>, detail: impl Display) -> Failure {
    Failure {
        kind: FailureKind::Host,
        what: what.into(),
        detail: detail.to_string(),
    }
}

pub(crate) fn wall(what: impl Into<String>, detail: impl Display) -> Failure {
    Failure {
        kind: FailureKind::Wall,
        what: what.into(),
        detail: detail.to_string(),
    }
}

pub(crate) fn artifact(what: impl Into<String>, detail: impl Display) -> Failure {
    Failure {
        kind: FailureKind::Artifact,
        what: what.into(),
        detail: detail.to_string(),
    }
}

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// As a failure of the host.
    fn on_host(self, what: impl Into<String>) -> Result<T, Failure>;
    /// As a wall that could not be built.
    fn on_wall(self, what: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn on_host(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| host(what, error))
    }

    fn on_wall(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| wall(what, error))
    }
}
