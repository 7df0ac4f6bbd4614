//! Gives a sandbox's log out, and every new line of it: pushed by the kernel's word that the file has changed.

use super::handle::blocking;
use super::logs::{Batch, Lines, Reader};
use crate::sys::Changes;
use crate::{Error, LogLine, State, Stream};
use guest::protocol::LOG;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Lines that wait for a slow reader.
const QUEUE: usize = 64;
/// How often to look where the kernel has no more watches to give (`fs.inotify.max_user_instances`).
const WITHOUT_WATCH: Duration = Duration::from_millis(500);

/// Opens the log and starts giving it out. With `follow` it goes on until the sandbox has ended, or nobody holds it any
/// more in this process, and all was read.
pub(super) async fn logs(
    dir: PathBuf,
    format: u32,
    follow: Option<watch::Receiver<State>>,
) -> Result<mpsc::Receiver<LogLine>, Error> {
    // Before the first look, so that nothing falls between.
    let changes = follow.as_ref().map(|_| Changes::of(&dir.join(LOG)));
    let changes = match changes {
        Some(Err(error)) => {
            tracing::warn!(%error, "a log's changes cannot be watched; it is looked at twice a second");
            None
        }
        Some(Ok(changes)) => Some(changes),
        None => None,
    };
    let reader = blocking(move || Reader::open(&dir, format)).await?;
    let (lines, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = give(reader, changes, follow, &lines).await {
            tracing::warn!(%error, "a log could not be read to its end");
        }
    });
    Ok(receiver)
}

async fn give(
    mut reader: Reader,
    changes: Option<Changes>,
    mut follow: Option<watch::Receiver<State>>,
    lines: &mpsc::Sender<LogLine>,
) -> Result<(), Error> {
    let mut made = Lines::default();
    let mut budget = follow.is_none().then(|| reader.size());
    loop {
        // Asked before the look, so that the last look comes after the end.
        let last = follow.as_mut().is_none_or(has_ended);
        let batch;
        (reader, batch) = look(reader).await?;
        let Batch {
            lines: found,
            lost,
            more,
        } = batch;
        let gap = lost.then(|| LogLine {
            at: found
                .first()
                .and_then(|line| jiff::Timestamp::from_microsecond(line.at).ok())
                .unwrap_or_default(),
            stream: Stream::Eyot,
            text: "lines are missing here: they were thrown away before this reader came to them".into(),
        });
        let read: u64 = found.iter().map(|line| line.text.len() as u64 + 1).sum();
        for line in gap
            .into_iter()
            .chain(found.into_iter().filter_map(|line| made.line(line)))
        {
            if lines.send(line).await.is_err() {
                return Ok(());
            }
        }
        // Without following, what is written meanwhile need not be waited for.
        let enough = budget.as_mut().is_some_and(|left| {
            *left = left.saturating_sub(read);
            *left == 0
        });
        if more && !enough {
            continue;
        }
        if last {
            break;
        }
        tokio::select! {
            () = changed(changes.as_ref()) => {}
            () = ended(follow.as_mut()) => {}
            () = lines.closed() => return Ok(()),
        }
    }
    if let Some(line) = reader.finish().and_then(|line| made.line(line)) {
        // Whoever does not want it any more has gone.
        let _ = lines.send(line).await;
    }
    Ok(())
}

async fn look(mut reader: Reader) -> Result<(Reader, Batch), Error> {
    blocking(move || reader.look().map(|batch| (reader, batch))).await
}

fn has_ended(state: &mut watch::Receiver<State>) -> bool {
    matches!(*state.borrow(), State::Exited(_)) || state.has_changed().is_err()
}

async fn ended(state: Option<&mut watch::Receiver<State>>) {
    match state {
        // An error is the end of the last handle.
        Some(state) => drop(state.wait_for(|state| matches!(state, State::Exited(_))).await),
        None => std::future::pending().await,
    }
}

async fn changed(changes: Option<&Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => tokio::time::sleep(WITHOUT_WATCH).await,
    }
}
