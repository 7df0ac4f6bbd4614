//! Many sessions that do nothing: the memory that each takes beyond its agent's, and the processor time of the server.

use super::Plan;
use super::peers::Peers;
use super::starts::{First, by_hands, stop};
use crate::{interrupt, process};
use anyhow::{Context as _, ensure};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sandboxes whose memory is read; they are all alike.
const LOOKED_AT: usize = 100;

/// What they take.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) sessions: usize,
    pub(crate) quiet: Duration,
    pub(crate) memory: Vec<Memory>,
    /// Growth of the server's resident memory for each session, in bytes.
    pub(crate) server: f64,
    /// Share of one core, of the server and of all guests together, in each window.
    pub(crate) processor: Vec<(f64, f64)>,
    pub(crate) window: Duration,
}

/// One sandbox, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) agent: u64,
    pub(crate) guest: u64,
    /// Of the kernel for both; `None` where it does not say.
    pub(crate) kernel: Option<u64>,
}

/// Starts them, looks, waits, and looks again.
pub(super) fn run(peers: &Peers, plan: &Plan) -> anyhow::Result<Idle> {
    let (server, account) = (&peers.cold, peers.native.account(super::Start::Cold));
    let before = process::resident_memory(server.pid())?;
    let sessions = Mutex::new(Vec::with_capacity(plan.idle));
    by_hands(vec![(); plan.idle], |()| {
        let mut first = First::of(account)?;
        first.call()?;
        sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(first.session);
        Ok(())
    })?;
    interrupt::sleep(plan.quiet)?;

    let agents = server.agents();
    ensure!(
        agents.len() >= plan.idle,
        "{} of {} idle sessions are there",
        agents.len(),
        plan.idle
    );
    let guests: Vec<u32> = agents
        .iter()
        .map(|agent| process::parent(*agent))
        .collect::<Result<_, _>>()?;
    let busy = || -> anyhow::Result<(Duration, Duration)> {
        let guests = guests.iter().map(|guest| process::processor_time(*guest));
        Ok((
            process::processor_time(server.pid())?,
            guests.sum::<anyhow::Result<Duration>>()?,
        ))
    };
    let mut processor = Vec::new();
    for _ in 0..plan.windows {
        let (start, earlier) = (Instant::now(), busy()?);
        interrupt::sleep(plan.window)?;
        let (elapsed, later) = (start.elapsed(), busy()?);
        let share = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / elapsed.as_secs_f64();
        processor.push((share(earlier.0, later.0), share(earlier.1, later.1)));
    }

    let memory = agents.iter().zip(&guests).take(LOOKED_AT).map(|(agent, guest)| {
        Ok(Memory {
            agent: process::own_memory(*agent)?,
            guest: process::own_memory(*guest)?,
            kernel: process::kernel_memory(*agent),
        })
    });
    let memory = memory
        .collect::<anyhow::Result<_>>()
        .context("reading the memory of a sandbox")?;
    let after = process::resident_memory(server.pid())?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let grown = after.saturating_sub(before) as f64 / plan.idle as f64;
    stop(account, sessions.into_inner().unwrap_or_else(PoisonError::into_inner))?;
    Ok(Idle {
        sessions: plan.idle,
        quiet: plan.quiet,
        memory,
        server: grown,
        processor,
        window: plan.window,
    })
}
