//! `eyot sessions logs`: lines as they come, until the session ends or the reader has enough.

use super::{Output, Whose, clean, explained, path_of, print, target, text};
use crate::client::{Answer, Call, Client, Payload, Plane};
use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use std::time::Duration;

/// Until the answer's head.
const DEADLINE: Duration = Duration::from_secs(60);
/// A session may be quiet for as long as it lives, which is at most 14 days.
const QUIET: Duration = Duration::from_secs(15 * 24 * 3600);
/// A line that is longer is not one of a log.
const MOST: usize = 16 << 20;

/// Arguments of `eyot sessions logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the session.
    id: String,
    #[command(flatten)]
    whose: Whose,
    /// Go on with new lines until the session ends.
    #[arg(long, short)]
    follow: bool,
    /// Begin with the last N lines [default: all that are kept].
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<u32>,
    /// How to print: `json` is one document for each line.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(args: Args, client: &Client) -> anyhow::Result<()> {
    let mut pairs = args.whose.pairs();
    if args.follow {
        pairs.push(("follow", "true".to_owned()));
    }
    pairs.extend(args.tail.map(|tail| ("tail", tail.to_string())));
    let call = Call {
        plane: Plane::Data,
        method: Method::GET,
        target: target(&path_of(&args.id, "/logs"), &pairs),
        headers: HeaderMap::new(),
        payload: Payload::Memory(Bytes::new()),
        deadline: DEADLINE,
    };
    let answer = client.send(call).await.map_err(explained)?;
    tokio::select! {
        copied = copy(answer, args.output) => copied,
        // Whoever follows has no other way to say that it is enough.
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C"),
    }
}

async fn copy(mut answer: Answer, output: Output) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    while let Some(piece) = answer.piece_within(QUIET).await? {
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            anyhow::ensure!(rest.len() <= MOST, "the server sent a line of more than {MOST} bytes");
            continue;
        };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        let lines = String::from_utf8_lossy(&lines);
        match output {
            Output::Json => print(&lines)?,
            Output::Table => print(&lines.lines().map(|line| readable(line) + "\n").collect::<String>())?,
        }
    }
    Ok(())
}

/// A line for a person: time, who wrote it, text.
pub(super) fn readable(line: &str) -> String {
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        return clean(line);
    };
    let time = text(&line, "/time");
    let time = match time.parse::<jiff::Timestamp>() {
        Ok(at) => format!("{at:.3} "),
        Err(_) => String::new(),
    };
    let stream = match text(&line, "/stream") {
        stream if stream.is_empty() => stream,
        stream => format!("{stream:<6} "),
    };
    format!("{time}{stream}{}", text(&line, "/text"))
}
