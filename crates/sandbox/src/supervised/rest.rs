//! Pausing and resuming. Blocking.
//!
//! The guest is frozen with the agent, so nothing here asks it. Whether a sandbox is paused says its control group; the
//! flag here only keeps this server from asking a guest that cannot answer.

use super::record::Record;
use crate::Error;
use crate::cgroup::Group;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A sandbox's rest.
#[derive(Debug)]
pub(super) struct Rest {
    /// Held over each change; `true` once it is on its way out and is not to be paused any more.
    turn: Mutex<bool>,
    paused: watch::Sender<bool>,
    /// Set to give up the taking back of memory that the last pause began.
    enough: Mutex<Arc<AtomicBool>>,
}

impl Rest {
    /// As the control group says.
    pub(super) fn of(group: &Group) -> Self {
        let (paused, _) = watch::channel(group.is_frozen());
        Self {
            turn: Mutex::default(),
            paused,
            enough: Mutex::default(),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Ends when the sandbox is paused.
    pub(super) async fn paused(&self) {
        if self.paused.subscribe().wait_for(|paused| *paused).await.is_err() {
            // The sandbox's handle is being dropped, and with it whoever waits.
            std::future::pending::<()>().await;
        }
    }

    /// Freezes it, and has memory taken back in the background.
    pub(super) fn pause(&self, group: &Group, dir: &Path, listened: bool) -> Result<(), Error> {
        let ending = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if *ending {
            return Err(Error::Gone);
        }
        if self.is_paused() {
            return Ok(());
        }
        // Before it is: whoever asks from now on hears that it is paused instead of waiting for it.
        self.paused.send_replace(true);
        Record::write_listened(dir, listened);
        if let Err(error) = group.freeze() {
            Record::write_listened(dir, false);
            self.paused.send_replace(false);
            return Err(error);
        }
        let enough = Arc::new(AtomicBool::new(false));
        *self.enough.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&enough);
        let group = group.clone();
        tokio::task::spawn_blocking(move || {
            if let Some((before, after)) = group.reclaim(&enough) {
                tracing::debug!(before, after, "took back memory of a paused sandbox");
            }
        });
        Ok(())
    }

    /// Lets it run on.
    pub(super) fn resume(&self, group: &Group, dir: &Path) -> Result<(), Error> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake(group, dir)?;
        drop(turn);
        Ok(())
    }

    /// Lets it run on for its end, and keeps it from being paused again.
    pub(super) fn end(&self, group: &Group, dir: &Path) -> Result<(), Error> {
        let mut ending = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *ending = true;
        self.wake(group, dir)
    }

    fn wake(&self, group: &Group, dir: &Path) -> Result<(), Error> {
        self.enough
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .store(true, Ordering::Relaxed);
        if self.is_paused() {
            group.thaw()?;
            Record::write_listened(dir, false);
            self.paused.send_replace(false);
        }
        Ok(())
    }
}
