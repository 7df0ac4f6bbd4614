//! Sends the traces of calls to a collector: OTLP over HTTP, in protobuf.
//!
//! The runtime puts finished calls into a queue ([`runtime::trace`]); one task here takes them out in batches, makes spans
//! of them (`spans`) and posts them (`collector`). What cannot be delivered is dropped and counted, and said in the log once
//! a minute at most.
//!
//! Invariant: a collector that is slow, down or hostile costs its traces and nothing else.

mod collector;
mod config;
mod spans;
#[cfg(test)]
mod tests;

pub(crate) use config::Config;

use anyhow::Context;
use collector::Collector;
use domain::Clock;
use prost::Message;
use runtime::metrics::{Metrics, SpanLoss};
use runtime::trace::{Invocation, Settings, Tracer};
use spans::Source;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Finished calls that may wait for the exporter: some seconds of a busy server, and a few megabytes.
const QUEUE: usize = 4096;
/// Calls in one request; making their spans takes well under a millisecond.
const BATCH: usize = 256;
/// How long a batch waits for more calls.
const GATHER: Duration = Duration::from_secs(1);
/// How often it is said that traces are lost.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(60);

/// The task that sends traces.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What the task works with.
struct Task {
    queue: Receiver<Invocation>,
    collector: Collector,
    source: Source,
    metrics: Arc<Metrics>,
    complained: Option<Instant>,
    /// Spans lost since then.
    lost: u64,
}

/// Starts to send traces, if there is a collector to send them to. `node` is this server's name among others.
pub(crate) fn start(
    config: Config,
    node: String,
    clock: Clock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<(Tracer, Exporter)>> {
    let Some(endpoint) = config.endpoint else {
        return Ok(None);
    };
    let collector = Collector::new(endpoint, config.headers, config.ca_file.as_deref(), config.timeout)
        .context("[traces] cannot be used")?;
    let (tracer, queue) = Tracer::new(Settings {
        share: config.sample_ratio,
        queue: QUEUE,
        clock,
        metrics: Arc::clone(metrics),
    });
    let task = Task {
        queue,
        collector,
        source: Source {
            service: config.service_name,
            node,
        },
        metrics: Arc::clone(metrics),
        complained: None,
        lost: 0,
    };
    Ok(Some((tracer, task.start())))
}

impl Exporter {
    /// Sends what is still in the queue, for up to `grace`.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if timeout(grace, &mut self.running).await.is_err() {
            self.running.abort();
            tracing::warn!("the last traces could not be sent within {grace:?}");
        }
    }
}

impl Task {
    fn start(self) -> Exporter {
        let stop = CancellationToken::new();
        let running = tokio::spawn(self.run(stop.clone()));
        Exporter { stop, running }
    }

    async fn run(mut self, stop: CancellationToken) {
        loop {
            let batch = self.batch(&stop).await;
            if batch.is_empty() {
                return;
            }
            self.send(&batch).await;
        }
    }

    /// The next calls; none when the server stops and all have been sent.
    async fn batch(&mut self, stop: &CancellationToken) -> Vec<Invocation> {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = gather(&mut self.queue, &mut batch) => return batch,
        }
        // Nobody puts anything in any more; what is there is taken out without waiting.
        self.queue.close();
        let room = BATCH.saturating_sub(batch.len());
        if room > 0 {
            self.queue.recv_many(&mut batch, room).await;
        }
        batch
    }

    async fn send(&mut self, batch: &[Invocation]) {
        let spans = batch.iter().map(|call| call.spans() as u64).sum::<u64>();
        let body = spans::request(&self.source, batch).encode_to_vec();
        match self.collector.deliver(body.into()).await {
            Ok(verdict) => {
                let rejected = verdict.rejected.min(spans);
                self.metrics.spans_exported(spans - rejected);
                if rejected > 0 {
                    self.lose(SpanLoss::Rejected, rejected, &verdict.said);
                }
            }
            Err(why) => self.lose(SpanLoss::Undeliverable, spans, &why),
        }
    }

    fn lose(&mut self, why: SpanLoss, spans: u64, reason: &str) {
        self.metrics.spans_dropped(why, spans);
        self.lost += spans;
        let now = Instant::now();
        if self.complained.is_none_or(|last| now - last >= COMPLAINT_PERIOD) {
            let lost = std::mem::take(&mut self.lost);
            tracing::warn!(lost, collector = %self.collector, reason, "traces do not reach the collector; calls go on");
            self.complained = Some(now);
        }
    }
}

/// Waits for a call, and a little for others to go with it. What has been taken is in `batch` also when this is dropped.
async fn gather(queue: &mut Receiver<Invocation>, batch: &mut Vec<Invocation>) {
    queue.recv_many(batch, BATCH).await;
    let more = async {
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            if queue.recv_many(batch, room).await == 0 {
                return;
            }
        }
    };
    let _ = timeout(GATHER, more).await;
}
