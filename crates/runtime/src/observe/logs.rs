//! `GET sessions/{id}/logs`: lines as they are written, one JSON object each, never held back.
//!
//! A reader gives what is kept and goes on with what is new, without saying where the one ends. `tail` needs to know: what
//! is kept ends with the first line that is younger than the request, or when nothing more comes for a moment.

use super::living::{Lines, key};
use super::query::{Params, Query};
use super::sessions::missing;
use super::{Observer, reply};
use crate::session::report::Report;
use bytes::Bytes;
use domain::{Clock, Error, Kind};
use front_door::body::{BodyError, Outgoing};
use front_door::service::OwnReply;
use futures_util::{Stream, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use sandbox::{LogLine, Stream as Writer};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const NDJSON: &str = "application/x-ndjson";
/// After this long without a line, what is kept has been read.
const QUIET: Duration = Duration::from_millis(200);
/// More lines than any log keeps.
const MOST_LINES: usize = 1_000_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    text: &'a str,
}

/// A log on its way to a client.
struct Tail {
    lines: Lines,
    /// How many of the lines that are kept are wanted; nothing once they have been picked.
    wanted: Option<usize>,
    picked: VecDeque<Bytes>,
    clock: Clock,
    /// When the request came.
    began: Timestamp,
    /// Nothing more comes.
    over: bool,
}

impl Observer {
    pub(super) async fn logs(&self, id: &str, query: &Query) -> Result<OwnReply, Error> {
        let mut params = Params::new(query, &["runtime", "endpoint", "follow", "tail"]);
        let (session, filter) = self.name(id, &mut params)?;
        let follow = params.flag("follow").unwrap_or(false);
        let wanted = params.number("tail", 0, MOST_LINES);
        params.finish()?;
        if let Some(report) = self.find_living(&session, &filter)? {
            match self.living.logs(&key(&report)?, follow).await {
                Ok(lines) => {
                    let tail = Tail {
                        lines,
                        wanted,
                        picked: VecDeque::new(),
                        began: self.clock.now(),
                        clock: self.clock.clone(),
                        over: false,
                    };
                    return Ok(reply(NDJSON, body(tail.stream(self.closing.clone()))));
                }
                // It has ended since, and has left what is kept of it.
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let ended = self
            .find_ended(&session, &filter)
            .await?
            .ok_or_else(|| missing(&session))?;
        Ok(reply(NDJSON, body(stream::iter(kept(&ended, wanted)))))
    }
}

impl Tail {
    /// The lines, until the log ends or the server does.
    fn stream(self, closing: CancellationToken) -> impl Stream<Item = Bytes> + Send {
        stream::unfold((self, closing), |(mut tail, closing)| async move {
            if tail.over {
                return None;
            }
            let line = tokio::select! {
                biased;
                line = tail.next() => line?,
                () = closing.cancelled() => {
                    tail.over = true;
                    ours(tail.clock.now(), "the server is stopping; the session may go on")
                }
            };
            Some((line, (tail, closing)))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(wanted) = self.wanted {
            self.pick(wanted).await;
            self.wanted = None;
        }
        match self.picked.pop_front() {
            Some(line) => Some(line),
            None => self.lines.next().await.map(|(line, request)| encode(&line, request)),
        }
    }

    /// Reads what is kept and keeps the last `wanted` lines of it. Cancellation safe: it goes on where it was.
    async fn pick(&mut self, wanted: usize) {
        while let Ok(Some((line, request))) = timeout(QUIET, self.lines.next()).await {
            let new = line.at >= self.began;
            self.picked.push_back(encode(&line, request));
            if new {
                // Not one of those that are kept: it comes on top of them.
                while self.picked.len() > wanted.saturating_add(1) {
                    self.picked.pop_front();
                }
                return;
            }
            while self.picked.len() > wanted {
                self.picked.pop_front();
            }
        }
    }
}

/// What is left of the log of an ended session.
fn kept(report: &Report, wanted: Option<usize>) -> Vec<Bytes> {
    let text = report.log_tail.as_deref().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len() - wanted.unwrap_or(usize::MAX).min(lines.len());
    let mut all: Vec<Bytes> = lines[from..]
        .iter()
        .map(|text| {
            write(&Line {
                time: None,
                stream: None,
                request_id: None,
                text,
            })
        })
        .collect();
    let at = report.ended_at.unwrap_or(report.last_active_at);
    all.push(ours(at, &format!("the session has ended: {}", report.reason)));
    all
}

fn encode(line: &LogLine, request_id: Option<Uuid>) -> Bytes {
    let stream = match line.stream {
        Writer::Stdout => "stdout",
        Writer::Stderr => "stderr",
        Writer::Eyot => "eyot",
    };
    write(&Line {
        time: Some(line.at),
        stream: Some(stream),
        request_id: request_id.map(|id| id.to_string()),
        text: &line.text,
    })
}

fn ours(at: Timestamp, text: &str) -> Bytes {
    write(&Line {
        time: Some(at),
        stream: Some("eyot"),
        request_id: None,
        text,
    })
}

fn write(line: &Line<'_>) -> Bytes {
    let mut bytes = serde_json::to_vec(line).expect("a line has string keys and serializers that cannot fail");
    bytes.push(b'\n');
    bytes.into()
}

fn body(lines: impl Stream<Item = Bytes> + Send + 'static) -> Outgoing {
    let frames = futures_util::StreamExt::map(lines, |line| Ok::<_, BodyError>(Frame::data(line)));
    BodyExt::boxed_unsync(StreamBody::new(frames))
}
