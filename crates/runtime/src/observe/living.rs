//! The living sessions: those of the router, or, in tests, what a test says there are.

#[cfg(test)]
use super::tests::Fake;
use crate::session::report::Report;
use crate::session::{Key, LogReader, Router};
use domain::Error;
use domain::id::RuntimeId;
use sandbox::LogLine;
#[cfg(test)]
use std::sync::Arc;
use uuid::Uuid;

#[derive(Debug)]
pub(super) enum Living {
    Router(Router),
    #[cfg(test)]
    Fake(Arc<Fake>),
}

/// Where lines of a log come from.
#[derive(Debug)]
pub(super) enum Lines {
    Reader(LogReader),
    #[cfg(test)]
    Fake(tokio::sync::mpsc::Receiver<(LogLine, Option<Uuid>)>),
}

impl Living {
    /// Those that have not ended, in no order.
    pub(super) fn reports(&self) -> Vec<Report> {
        let mut reports = match self {
            Self::Router(router) => router.reports(|_| true),
            #[cfg(test)]
            Self::Fake(fake) => fake.reports(),
        };
        // What has ended is in the journal before the router forgets it.
        reports.retain(|report| report.state.is_alive());
        reports
    }

    pub(super) async fn stop(&self, key: &Key) -> Result<(), Error> {
        match self {
            Self::Router(router) => router.stop(key, None).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.stop(key).await,
        }
    }

    pub(super) async fn logs(&self, key: &Key, follow: bool) -> Result<Lines, Error> {
        match self {
            Self::Router(router) => router.logs(key, follow).await.map(Lines::Reader),
            #[cfg(test)]
            Self::Fake(fake) => fake.logs(key, follow).map(Lines::Fake),
        }
    }
}

impl Lines {
    /// The next line and its request, where that is known. Cancellation safe.
    pub(super) async fn next(&mut self) -> Option<(LogLine, Option<Uuid>)> {
        match self {
            Self::Reader(reader) => reader.next().await,
            #[cfg(test)]
            Self::Fake(lines) => lines.recv().await,
        }
    }
}

/// What the router calls a session.
pub(super) fn key(report: &Report) -> Result<Key, Error> {
    let runtime = RuntimeId::parse(report.runtime_id()).map_err(|invalid| {
        tracing::error!(%invalid, "a session's report names no runtime");
        Error::internal("The server cannot tell whose session this is; its log says why.")
    })?;
    Ok(Key {
        runtime,
        endpoint: report.endpoint.clone(),
        session: report.session_id.clone(),
    })
}
