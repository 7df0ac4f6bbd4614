//! Many connections at once: requests per second, and what a request costs in processor time.
//!
//! Client, server and agent share one machine, so the rate says what this machine does with all three of them; the
//! processor time of each process is what carries over to another machine.

use super::{Rounds, rounds};
use crate::http::Connection;
use crate::request::Way;
use crate::stage::{Stage, session};
use crate::{interrupt, process};
use anyhow::{Context as _, anyhow, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const CONNECTIONS: usize = 32;

/// Different requests of a connection.
const REQUESTS: usize = 16;

/// Part of a block's time that is spent before it, unmeasured.
const WARM_UP: u32 = 5;

/// What was done in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Processor time of the server; nothing on the direct way.
    pub(crate) server: Duration,
    /// Processor time of the agent, and of the guest above it.
    pub(crate) agent: Duration,
    /// Share of the machine that went to work that is not this measurement's.
    pub(crate) others: f64,
}

/// Readings of all clocks and counters at one moment.
struct Reading {
    at: Instant,
    requests: u64,
    server: Duration,
    agent: Duration,
    machine: (Duration, Duration),
    /// Of server, agents and this program.
    ours: Duration,
}

/// Whose processor time counts.
struct Watched {
    server: u32,
    direct: u32,
    sandboxed: Vec<u32>,
}

/// Keeps all connections busy, one way after the other.
pub(super) fn run(stage: &Stage, count: usize, length: Duration) -> anyhow::Result<Rounds<Block>> {
    let session = session();
    let first = stage.request(Way::Boto, &session, r#"{"prompt":"first"}"#)?;
    Connection::open(stage.address(Way::Boto))?
        .exchange(&first)
        .context("the session's first call")?;
    let mut sandboxed = stage.server.agents();
    ensure!(
        !sandboxed.is_empty(),
        "the agent in its sandbox cannot be found: this user may not look into its own processes"
    );
    for agent in sandboxed.clone() {
        let guest = process::parent(agent)?;
        if guest > 1 && guest != stage.server.pid() {
            sandboxed.push(guest);
        }
    }
    let watched = Watched {
        server: stage.server.pid(),
        direct: stage.agent.pid(),
        sandboxed,
    };
    rounds(count, Way::ALL, |way| {
        block(stage, way, &session, &watched, length).context(way.name())
    })
}

fn block(stage: &Stage, way: Way, session: &str, watched: &Watched, length: Duration) -> anyhow::Result<Block> {
    let mut workers = Vec::new();
    for number in 0..CONNECTIONS {
        let body = |i| format!(r#"{{"prompt":"hello {number} {i}"}}"#);
        let requests = (0..REQUESTS).map(|i| stage.request(way, session, &body(i)));
        let requests: Vec<Vec<u8>> = requests.collect::<Result<_, _>>()?;
        workers.push((Connection::open(stage.address(way))?, requests));
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let workers = workers
            .into_iter()
            .map(|worker| scope.spawn(|| work(worker, &stop, &done)));
        let workers: Vec<_> = workers.collect();
        let measured = interrupt::sleep(length / WARM_UP).and_then(|()| {
            let before = watched.read(way, &done)?;
            interrupt::sleep(length)?;
            Ok((before, watched.read(way, &done)?))
        });
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a thread of the client failed"))??;
        }
        let (before, after) = measured?;
        ensure!(after.requests > before.requests, "no request was answered");
        Ok(after.since(&before))
    })
}

fn work(
    (mut connection, requests): (Connection, Vec<Vec<u8>>),
    stop: &AtomicBool,
    done: &AtomicU64,
) -> anyhow::Result<()> {
    for request in requests.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        connection.exchange(request)?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

impl Watched {
    fn read(&self, way: Way, done: &AtomicU64) -> anyhow::Result<Reading> {
        let server = process::processor_time(self.server)?;
        let direct = process::processor_time(self.direct)?;
        let sandboxed = self.sandboxed.iter().map(|pid| process::processor_time(*pid));
        let sandboxed: Duration = sandboxed.sum::<anyhow::Result<_>>()?;
        Ok(Reading {
            requests: done.load(Ordering::Relaxed),
            at: Instant::now(),
            server: if way == Way::Direct { Duration::ZERO } else { server },
            agent: if way == Way::Direct { direct } else { sandboxed },
            machine: process::machine_time()?,
            ours: server + direct + sandboxed + process::processor_time(std::process::id())?,
        })
    }
}

impl Reading {
    fn since(&self, before: &Self) -> Block {
        let (all, busy) = (
            self.machine.0 - before.machine.0,
            self.machine.1.saturating_sub(before.machine.1),
        );
        let others = busy.saturating_sub(self.ours.saturating_sub(before.ours));
        Block {
            requests: self.requests - before.requests,
            elapsed: self.at - before.at,
            server: self.server.saturating_sub(before.server),
            agent: self.agent.saturating_sub(before.agent),
            others: others.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE),
        }
    }
}
