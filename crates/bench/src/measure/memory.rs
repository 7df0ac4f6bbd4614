//! How much the server's memory grows while 100,000,000 bytes pass through it, and how fast they pass.

use super::{Rounds, rounds};
use crate::http::Connection;
use crate::process;
use crate::request::Way;
use crate::stage::{Stage, session};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The largest body that AWS's API takes.
pub(crate) const SIZE: usize = 100_000_000;

/// The agent's bytes: the one at offset i is i modulo this.
const PATTERN: usize = 251;

/// One body of [`SIZE`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage {
    pub(crate) elapsed: Duration,
    /// Growth of the server's peak memory in bytes; nothing on the direct way.
    pub(crate) growth: u64,
}

/// Bodies both ways.
#[derive(Debug)]
pub(crate) struct Results {
    /// Answers without a length.
    pub(crate) down: Rounds<Passage>,
    pub(crate) up: Rounds<Passage>,
}

/// Moves bodies down and up.
pub(super) fn run(stage: &Stage, count: usize) -> anyhow::Result<Results> {
    let session = session();
    let bytes: Vec<u8> = (0..=u8::MAX).take(PATTERN).cycle().take(SIZE).collect();
    let checksum = checksum(&bytes);
    let ask = format!(r#"{{"bytes":{SIZE},"chunked":true}}"#);

    // What a first large body needs for good is not what another one adds.
    rounds(1, Way::ALL, |way| {
        let request = stage.request(way, &session, r#"{"bytes":1000000,"chunked":true}"#)?;
        Connection::open(stage.address(way))?.exchange(&request)
    })?;
    let down = rounds(count, &[Way::Direct, Way::Boto], |way| {
        let request = stage.request(way, &session, &ask)?;
        watched(stage, way, || {
            let (mut offset, mut wrong) = (0_usize, false);
            Connection::open(stage.address(way))?.exchange_parts(&[&request], |piece| {
                // The pattern repeats, so any stretch of it equals the same stretch from its first occurrence on.
                let start = offset % PATTERN;
                wrong |= bytes.get(start..start + piece.len()) != Some(piece);
                offset += piece.len();
            })?;
            ensure!(
                offset == SIZE && !wrong,
                "{offset} bytes came, or others than the agent wrote"
            );
            Ok(())
        })
    })?;
    let up = rounds(count, Way::ALL, |way| {
        let head = stage.head(way, &session, "application/octet-stream", &bytes)?;
        watched(stage, way, || {
            let answer = Connection::open(stage.address(way))?.exchange_text(&[&head, &bytes])?;
            let answer: Value = serde_json::from_str(&answer)?;
            ensure!(
                answer["received"] == SIZE && answer["checksum"] == checksum,
                "the agent received other bytes than were sent: {answer}"
            );
            Ok(())
        })
    })?;
    Ok(Results { down, up })
}

fn watched(stage: &Stage, way: Way, pass: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Passage> {
    let server = stage.server.pid();
    process::reset_peak_memory(server)?;
    let before = process::peak_memory(server)?;
    let start = Instant::now();
    pass().with_context(|| format!("{SIZE} bytes, {}", way.name()))?;
    let elapsed = start.elapsed();
    let growth = process::peak_memory(server)?.saturating_sub(before);
    Ok(Passage {
        elapsed,
        growth: if way == Way::Direct { 0 } else { growth },
    })
}

/// FNV-1a, as the sample agent makes it.
fn checksum(bytes: &[u8]) -> String {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}
