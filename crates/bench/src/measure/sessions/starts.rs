//! From a call of a session that does not exist to the first byte of its answer.
//!
//! The clock starts when a signed request is sent on an open connection. Sessions of a block are ended after it, and the
//! pool is full again before the next block of anything begins, so that no block pays for another one's work.

use super::peers::{BURST, Deployed, Peers};
use super::{Repeats, Start};
use crate::http::Connection;
use crate::measure::rounds;
use crate::process;
use crate::request::{Account, JSON, Way};
use crate::stage::{Agent, HELLO, session};
use anyhow::{Context as _, anyhow};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Sessions that are started or ended at the same time where nothing is measured.
const HANDS: usize = 16;

/// One agent's starts.
#[derive(Debug)]
pub(crate) struct Starts {
    pub(crate) agent: &'static str,
    /// Blocks of starts one after the other.
    pub(crate) single: BTreeMap<Start, Vec<Vec<Duration>>>,
    pub(crate) burst: BTreeMap<Start, Vec<Burst>>,
    /// Starts that should have found a warm sandbox and did not.
    pub(crate) missed: f64,
}

/// Sessions that begin at the same moment.
#[derive(Debug)]
pub(crate) struct Burst {
    pub(crate) samples: Vec<Duration>,
    /// Until the last had its answer.
    pub(crate) elapsed: Duration,
    /// Processor time of the server and of its launchers.
    pub(crate) server: Duration,
    /// Processor time of the guests.
    pub(crate) guests: Duration,
}

/// A session to be: whose it is, and its first call.
pub(super) struct First {
    pub(super) session: String,
    request: Vec<u8>,
    connection: Connection,
}

impl First {
    pub(super) fn of(account: &Account) -> anyhow::Result<Self> {
        let session = session();
        let mut request = account.invocation(Way::Boto, &session, JSON, HELLO.as_bytes())?;
        request.extend_from_slice(HELLO.as_bytes());
        let connection = Connection::open(account.address)?;
        Ok(Self {
            session,
            request,
            connection,
        })
    }

    /// How long it took until the first byte was there.
    pub(super) fn call(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let answer = self
            .connection
            .exchange(&self.request)
            .context("the first call of a session")?;
        Ok(answer.first_byte.duration_since(start))
    }
}

/// Starts an agent in all ways that there are.
pub(super) fn run(peers: &Peers, agent: &Deployed, repeats: Repeats) -> anyhow::Result<Starts> {
    let ways = peers.starts();
    let misses = || peers.warm.metric(r#"eyot_warm_takes_total{result="miss"}"#);
    let before = misses()?.unwrap_or_default();
    // What a server does once for a package is not what a session costs.
    for start in &ways {
        single(peers, agent, *start, 1)?;
    }
    let single = rounds(repeats.blocks, &ways, |start| {
        single(peers, agent, start, repeats.starts)
    })?;
    let burst = rounds(repeats.bursts, &ways, |start| burst(peers, agent, start))?;
    Ok(Starts {
        agent: agent.name,
        single,
        burst,
        missed: misses()?.unwrap_or_default() - before,
    })
}

fn single(peers: &Peers, agent: &Deployed, start: Start, count: usize) -> anyhow::Result<Vec<Duration>> {
    if start == Start::Outside {
        return (0..count).map(|_| Ok(agent.start_outside()?.1)).collect();
    }
    if start == Start::Running {
        let agents: Vec<Agent> = (0..count).map(|_| agent.run_outside()).collect::<Result<_, _>>()?;
        return agents.iter().map(first_call).collect();
    }
    let account = agent.account(start);
    let mut firsts: Vec<First> = (0..count).map(|_| First::of(account)).collect::<Result<_, _>>()?;
    let samples = firsts.iter_mut().map(First::call).collect();
    stop(account, firsts.into_iter().map(|first| first.session).collect())?;
    peers.refill()?;
    samples
}

fn burst(peers: &Peers, agent: &Deployed, start: Start) -> anyhow::Result<Burst> {
    if start == Start::Outside {
        let (started, elapsed) = at_once(vec![(); BURST], |()| agent.start_outside())?;
        return Ok(Burst {
            samples: started.into_iter().map(|(_, took)| took).collect(),
            elapsed,
            server: Duration::ZERO,
            guests: Duration::ZERO,
        });
    }
    if start == Start::Running {
        let (agents, _) = at_once(vec![(); BURST], |()| agent.run_outside())?;
        let (samples, elapsed) = at_once(agents.iter().collect(), first_call)?;
        return Ok(Burst {
            samples,
            elapsed,
            server: Duration::ZERO,
            guests: Duration::ZERO,
        });
    }
    let (account, server) = (agent.account(start), peers.server(start));
    let firsts: Vec<First> = (0..BURST).map(|_| First::of(account)).collect::<Result<_, _>>()?;
    let old: BTreeSet<u32> = server.agents().into_iter().collect();
    let before = process::processor_time_with_children(server.pid())?;
    let (started, elapsed) = at_once(firsts, |mut first| Ok((first.call()?, first.session)))?;
    let after = process::processor_time_with_children(server.pid())?;
    let new = server.agents().into_iter().filter(|pid| !old.contains(pid));
    let guests = new.map(|agent| process::time_of_first_thread(process::parent(agent)?));
    let guests = guests.sum::<anyhow::Result<Duration>>()?;
    let (samples, sessions) = started.into_iter().unzip();
    stop(account, sessions)?;
    peers.refill()?;
    Ok(Burst {
        samples,
        elapsed,
        server: after.saturating_sub(before),
        guests,
    })
}

fn first_call(agent: &Agent) -> anyhow::Result<Duration> {
    let start = Instant::now();
    Ok(agent.hello()?.duration_since(start))
}

/// Does the same with each at the same moment; answers how long the last one took.
fn at_once<T: Send, R: Send>(
    all: Vec<T>,
    each: impl Fn(T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<(Vec<R>, Duration)> {
    let (gate, each) = (&Barrier::new(all.len() + 1), &each);
    thread::scope(|scope| {
        let run = |one| {
            scope.spawn(move || {
                gate.wait();
                each(one)
            })
        };
        let threads: Vec<_> = all.into_iter().map(run).collect();
        gate.wait();
        let start = Instant::now();
        let done = threads.into_iter().map(|thread| {
            let done = thread.join();
            done.map_err(|_| anyhow!("a thread of the client failed"))?
        });
        // All are joined before the first failure is told.
        let done: Vec<anyhow::Result<R>> = done.collect();
        let elapsed = start.elapsed();
        Ok((done.into_iter().collect::<Result<_, _>>()?, elapsed))
    })
}

/// Does something with each, some at a time.
pub(super) fn by_hands<T: Send>(all: Vec<T>, each: impl Fn(T) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let left = &Mutex::new(all);
    let work = || -> anyhow::Result<()> {
        loop {
            crate::interrupt::check()?;
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match next {
                Some(next) => each(next)?,
                None => return Ok(()),
            }
        }
    };
    thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(work)).collect();
        let done = hands.into_iter().map(|hand| {
            let done = hand.join();
            done.map_err(|_| anyhow!("a thread of the client failed"))?
        });
        done.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Ends sessions and waits until they have ended.
pub(super) fn stop(account: &Account, sessions: Vec<String>) -> anyhow::Result<()> {
    by_hands(sessions, |session| {
        Connection::open(account.address)?
            .exchange(&account.stop(&session)?)
            .context("stopping a session")?;
        Ok(())
    })
}
