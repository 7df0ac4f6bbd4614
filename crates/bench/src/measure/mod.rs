//! The measurements, in the order in which they disturb one another least.
//!
//! `latency` and `stream` time single requests, `load` counts many, `memory` moves 100 MB, `cold` starts sandboxes.

mod cold;
pub(crate) mod load;
pub(crate) mod memory;
mod paced;
pub(crate) mod sessions;

use crate::interrupt;
use crate::request::Way;
use crate::stage::Stage;
use crate::stats::Block;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long each measurement takes.
#[derive(Debug)]
pub(crate) struct Plan {
    latency_rounds: usize,
    latency_block: Duration,
    load_rounds: usize,
    load_block: Duration,
    stream_rounds: usize,
    stream_block: Duration,
    memory_rounds: usize,
    cold_rounds: usize,
}

impl Plan {
    /// About a minute.
    pub(crate) const FULL: Self = Self {
        latency_rounds: 8,
        latency_block: Duration::from_millis(700),
        load_rounds: 4,
        load_block: Duration::from_millis(1500),
        stream_rounds: 8,
        stream_block: Duration::from_millis(400),
        memory_rounds: 3,
        cold_rounds: 20,
    };

    /// About ten seconds.
    pub(crate) const QUICK: Self = Self {
        latency_rounds: 2,
        latency_block: Duration::from_millis(200),
        load_rounds: 2,
        load_block: Duration::from_millis(400),
        stream_rounds: 2,
        stream_block: Duration::from_millis(200),
        memory_rounds: 1,
        cold_rounds: 3,
    };
}

/// The blocks of each way, in the order of rounds.
pub(crate) type Rounds<T> = BTreeMap<Way, Vec<T>>;

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) driver: String,
    pub(crate) latency: Rounds<Block>,
    pub(crate) load: Rounds<load::Block>,
    pub(crate) stream: Rounds<Block>,
    pub(crate) memory: memory::Results,
    /// From nothing to the first answer: a process of the agent, and a session.
    pub(crate) cold: Rounds<Duration>,
}

/// Runs every measurement.
pub(crate) fn all(stage: &Stage, plan: &Plan) -> anyhow::Result<Results> {
    say("latency at one connection");
    let latency = paced::latency(stage, plan.latency_rounds, plan.latency_block)?;
    say("first byte of a stream");
    let stream = paced::first_byte(stage, plan.stream_rounds, plan.stream_block)?;
    say("requests per second and processor time");
    let load = load::run(stage, plan.load_rounds, plan.load_block)?;
    say("memory for large bodies");
    let memory = memory::run(stage, plan.memory_rounds)?;
    say("cold starts");
    let cold = cold::run(stage, plan.cold_rounds)?;
    Ok(Results {
        driver: stage.server.driver.clone(),
        latency,
        load,
        stream,
        memory,
        cold,
    })
}

/// Measures each way once a round: A B C, C B A, …, so that a steady drift falls on all alike.
fn rounds<K: Copy + Ord, T>(
    count: usize,
    ways: &[K],
    mut block: impl FnMut(K) -> anyhow::Result<T>,
) -> anyhow::Result<BTreeMap<K, Vec<T>>> {
    let mut results: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for round in 0..count {
        let mut order = ways.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for way in order {
            interrupt::check()?;
            results.entry(way).or_default().push(block(way)?);
        }
    }
    Ok(results)
}

fn say(what: &str) {
    eprintln!("measuring {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_turn_about_and_keep_each_way_s_order() {
        let mut order = Vec::new();
        let results = rounds(2, Way::ALL, |way| {
            order.push(way);
            Ok(order.len())
        });
        assert_eq!(
            order,
            [
                Way::Direct,
                Way::Boto,
                Way::Declared,
                Way::Declared,
                Way::Boto,
                Way::Direct
            ]
        );
        let results = results.unwrap();
        assert_eq!(results[&Way::Direct], [1, 6]);
        assert_eq!(results[&Way::Declared], [3, 4]);
    }
}
