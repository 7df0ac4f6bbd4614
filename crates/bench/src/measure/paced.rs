//! One connection, one request after the other: how long an answer takes, and how long the first byte of a stream.

use super::{Rounds, rounds};
use crate::http::{Answer, Connection};
use crate::request::Way;
use crate::stage::{Stage, session};
use crate::stats::Block;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Different requests in a block, so that no answer can come from memory.
const REQUESTS: usize = 128;

/// Part of a block's time that is spent before it, unmeasured: connections, caches and clocks settle.
const WARM_UP: u32 = 5;

/// From the request's first byte sent to the answer's last byte received.
pub(super) fn latency(stage: &Stage, count: usize, block: Duration) -> anyhow::Result<Rounds<Block>> {
    let body = |number| format!(r#"{{"prompt":"hello {number}"}}"#);
    timed(stage, count, block, Way::ALL, body, |_, end| end)
}

/// From the request's first byte sent to the first byte of the first event. The second event comes later, so that an
/// answer that was held back until its end would show.
pub(super) fn first_byte(stage: &Stage, count: usize, block: Duration) -> anyhow::Result<Rounds<Block>> {
    let body = |number| format!(r#"{{"stream":true,"chunks":2,"delay_ms":4,"prompt":"hello {number}"}}"#);
    timed(stage, count, block, &[Way::Direct, Way::Boto], body, |answer, _| {
        answer.first_byte
    })
}

fn timed(
    stage: &Stage,
    count: usize,
    length: Duration,
    ways: &[Way],
    body: impl Fn(usize) -> String,
    moment: impl Fn(&Answer, Instant) -> Instant,
) -> anyhow::Result<Rounds<Block>> {
    let session = session();
    let mut connections = BTreeMap::new();
    for way in ways {
        connections.insert(*way, Connection::open(stage.address(*way))?);
    }
    rounds(count, ways, |way| {
        let connection = connections.get_mut(&way).context("each way has a connection")?;
        let prepared = (0..REQUESTS).map(|number| stage.request(way, &session, &body(number)));
        let prepared: Vec<Vec<u8>> = prepared.collect::<Result<_, _>>()?;
        let mut requests = prepared.iter().cycle();
        let mut run = |length: Duration| -> anyhow::Result<Vec<Duration>> {
            let mut samples = Vec::with_capacity(1 << 16);
            let end = Instant::now() + length;
            loop {
                let request = requests.next().context("there are requests")?;
                let sent = Instant::now();
                if sent >= end && !samples.is_empty() {
                    return Ok(samples);
                }
                let answer = connection.exchange(request).with_context(|| way.name())?;
                samples.push(moment(&answer, Instant::now()).duration_since(sent));
            }
        };
        run(length / WARM_UP)?;
        Block::of(run(length)?).context("a block has samples")
    })
}
