//! From nothing to a first answer: a new session of Eyot, and a new process of the same agent.

use super::{Rounds, rounds};
use crate::http::Connection;
use crate::request::Way;
use crate::stage::{Stage, session};
use anyhow::Context as _;
use std::time::{Duration, Instant};

/// Starts one after the other, and ends each before the next.
pub(super) fn run(stage: &Stage, count: usize) -> anyhow::Result<Rounds<Duration>> {
    let account = &stage.server.account;
    let mut connection = Connection::open(account.address)?;
    rounds(count, &[Way::Direct, Way::Boto], |way| {
        if way == Way::Direct {
            return stage.start_direct();
        }
        let session = session();
        let request = stage.request(way, &session, r#"{"prompt":"hello"}"#)?;
        let start = Instant::now();
        connection.exchange(&request).context("the first call of a session")?;
        let elapsed = start.elapsed();
        connection
            .exchange(&account.stop(&session)?)
            .context("stopping a session")?;
        Ok(elapsed)
    })
}
