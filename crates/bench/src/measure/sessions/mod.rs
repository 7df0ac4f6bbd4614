//! What sessions cost: starting one, starting many at once, and keeping many that do nothing.
//!
//! Read in this order: `peers` (what is started), `starts` (new sessions), `idle` (those that do nothing).

mod idle;
mod peers;
mod starts;

pub(crate) use idle::{Idle, Memory};
pub(crate) use peers::{BURST, Peers, Wanted};
pub(crate) use starts::{Burst, Starts};

use super::say;
use std::time::Duration;

/// How an agent is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Start {
    /// As a plain process.
    Outside,
    /// Not at all: a plain process that is healthy gets its first call. What a warm sandbox is measured by.
    Running,
    /// For a new session, with nothing prepared.
    Cold,
    /// For a new session of an endpoint that keeps sandboxes ready.
    Warm,
}

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Plan {
    native: Repeats,
    python: Repeats,
    /// Sessions that do nothing.
    idle: usize,
    /// How long they have done nothing before the server's processor time counts.
    quiet: Duration,
    window: Duration,
    windows: usize,
}

/// How often an agent is started.
#[derive(Debug, Clone, Copy)]
struct Repeats {
    /// Blocks of starts one after the other.
    blocks: usize,
    /// Starts in a block.
    starts: usize,
    /// Bursts.
    bursts: usize,
}

impl Plan {
    /// About ten minutes.
    pub(crate) const FULL: Self = Self {
        native: Repeats {
            blocks: 12,
            starts: 20,
            bursts: 8,
        },
        python: Repeats {
            blocks: 6,
            starts: 8,
            bursts: 3,
        },
        idle: 1000,
        quiet: Duration::from_secs(120),
        window: Duration::from_secs(15),
        windows: 6,
    };

    /// About a minute.
    pub(crate) const QUICK: Self = Self {
        native: Repeats {
            blocks: 2,
            starts: 5,
            bursts: 2,
        },
        python: Repeats {
            blocks: 1,
            starts: 2,
            bursts: 1,
        },
        idle: 50,
        quiet: Duration::from_secs(5),
        window: Duration::from_secs(2),
        windows: 2,
    };
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) driver: String,
    pub(crate) native: Starts,
    /// Or why there is nothing.
    pub(crate) python: Result<Starts, String>,
    /// Why the pool could not be measured.
    pub(crate) no_pool: Option<String>,
    pub(crate) idle: Idle,
}

/// Runs every measurement.
pub(crate) fn all(peers: &Peers, plan: &Plan) -> anyhow::Result<Results> {
    let starts = |agent, repeats| starts::run(peers, agent, repeats);
    say("new sessions of the sample agent");
    let native = starts(&peers.native, plan.native)?;
    let python = match &peers.python {
        Ok(agent) => {
            say("new sessions of the Python agent");
            Ok(starts(agent, plan.python)?)
        }
        Err(error) => Err(error.clone()),
    };
    say("idle sessions");
    let idle = idle::run(peers, plan)?;
    Ok(Results {
        driver: peers.cold.driver.clone(),
        native,
        python,
        no_pool: peers.pool.as_ref().err().cloned(),
        idle,
    })
}
