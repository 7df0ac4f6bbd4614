//! What is done for all sessions from time to time, for as long as their router lives.

use super::gate::Look;
use super::live::Session;
use super::machine::Phase;
use super::report::Outstanding;
use super::router::{Key, Shared};
use super::storage;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How late the journal may know of a call; a crash costs a session's idle clock as much.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// The same of credentials.
const SOON: Duration = Duration::from_millis(200);
const STORAGE_EXPIRY: Duration = Duration::from_secs(3600);

/// Tells the journal every few seconds which sessions have had calls since. Calls do not do so themselves: they have
/// better things to do, and many of them make one row.
pub(super) async fn checkpoint(shared: Weak<Shared>) {
    let mut known: HashMap<Key, (Look, Vec<Outstanding>)> = HashMap::new();
    let Some(issued) = shared.upgrade().map(|shared| Arc::clone(&shared.issued)) else {
        return;
    };
    loop {
        // Credentials are written down soon: a later process must take them back.
        let soon = async {
            issued.notified().await;
            sleep(SOON).await;
        };
        let _ = timeout(CHECKPOINT, soon).await;
        let Some(shared) = shared.upgrade() else { return };
        let sessions = shared.all(|_| true);
        for session in &sessions {
            let look = (session.look(), session.credentials());
            let settled = matches!(session.phase(), Phase::Active | Phase::Idle | Phase::Paused);
            if settled && known.get(&session.key) != Some(&look) {
                known.insert(session.key.clone(), look);
                shared.journal.lives(session.report(&shared.node));
            }
        }
        if known.len() > sessions.len() {
            let alive: HashSet<&Key> = sessions.iter().map(|session| &session.key).collect();
            known.retain(|key, _| alive.contains(key));
        }
    }
}

/// Removes session storage that nobody has used for long.
pub(super) async fn expire_storage(shared: Weak<Shared>) {
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            let of = |session: &Arc<Session>| storage::session_dir(&shared.storage_dir, &session.key);
            let in_use = shared.all(|_| true).iter().map(of).collect();
            storage::expire(&shared.storage_dir, shared.config.storage_kept, in_use).await;
        }
        sleep(STORAGE_EXPIRY).await;
    }
}
