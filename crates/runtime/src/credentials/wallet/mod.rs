//! The credentials of one sandbox.
//!
//! They are issued when the agent first asks, and renewed when it asks while little of their life is left. A sandbox is one
//! session's at most, also a warm one, so what it fetched before it had a session nobody else has: it keeps that, and what
//! is issued from then on bears the session's name.
//!
//! Invariant: every id that was issued and has neither expired nor been revoked is among [`Wallet::outstanding`].
//! Invariant: nothing is issued once [`Wallet::close`] has begun.

use super::{Error, Roles, Temporary, Wanted};
use domain::{Clock, RuntimeArn};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Renewed when less than this is left, or a third of their life if that is more. AWS's SDKs ask again when 15 minutes are
/// left, and would do so with every request if they then got the same credentials.
const RENEW: SignedDuration = SignedDuration::from_mins(20);
/// After a failure, how long it is repeated to whoever asks: an agent that asks without end asks only us.
const REST: SignedDuration = SignedDuration::from_secs(2);
/// How long an issue may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long taking all back may take.
const REVOCATION: Duration = Duration::from_secs(5);

/// The credentials of one sandbox.
pub(crate) struct Wallet {
    role: String,
    source: RuntimeArn,
    roles: Arc<dyn Roles>,
    clock: Clock,
    issued: Arc<Notify>,
    state: Mutex<State>,
    /// Held while credentials are issued, so that many who ask at once make one issue.
    turn: tokio::sync::Mutex<()>,
}

/// What a wallet is made of.
#[derive(Debug)]
pub(crate) struct Of {
    /// Whose credentials; a role's ARN.
    pub(crate) role: String,
    /// What the role's session is called.
    pub(crate) name: String,
    /// Which runtime's.
    pub(crate) source: RuntimeArn,
    /// Who issues them.
    pub(crate) roles: Arc<dyn Roles>,
    /// Wall time.
    pub(crate) clock: Clock,
    /// Told when some have been issued, which a later server process must know.
    pub(crate) issued: Arc<Notify>,
}

#[derive(Default)]
struct State {
    name: String,
    current: Option<Arc<Issued>>,
    /// The current ones do not bear the name.
    renamed: bool,
    outstanding: Vec<Outstanding>,
    failed: Option<(Timestamp, Error)>,
    closed: bool,
}

/// Credentials and when they were issued.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) credentials: Temporary,
    pub(crate) at: Timestamp,
}

/// Credentials that somebody may still use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outstanding {
    /// Their id.
    pub access_key_id: String,
    /// When they end by themselves.
    pub expires_at: Timestamp,
}

impl Wallet {
    /// An empty one.
    pub(crate) fn new(of: Of) -> Arc<Self> {
        let Of {
            role,
            name,
            source,
            roles,
            clock,
            issued,
        } = of;
        Arc::new(Self {
            role,
            source,
            roles,
            clock,
            issued,
            state: Mutex::new(State {
                name,
                ..State::default()
            }),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// What is issued from now on bears this name; whoever asks next gets such.
    pub(crate) fn rename(&self, name: String) {
        let mut state = self.lock();
        state.renamed = state.current.is_some();
        state.name = name;
    }

    /// What an earlier server process has issued to the sandbox.
    pub(crate) fn resume(&self, outstanding: Vec<Outstanding>) {
        self.lock().outstanding.extend(outstanding);
    }

    /// The credentials, issued or renewed if need be. Goes on also if the caller goes away, so that nothing is issued that
    /// is not known here.
    pub(crate) async fn credentials(self: &Arc<Self>) -> Result<Arc<Issued>, Error> {
        if let Some(answer) = self.at_hand() {
            return answer;
        }
        let wallet = Arc::clone(self);
        let task = tokio::spawn(async move { wallet.issue().await });
        task.await
            .unwrap_or_else(|_| Err(Error::Unavailable("issuing the credentials broke off".to_owned())))
    }

    /// What has been issued and may still be of use to somebody.
    pub(crate) fn outstanding(&self) -> Vec<Outstanding> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.outstanding.retain(|one| one.expires_at > now);
        state.outstanding.clone()
    }

    /// Issues no more and takes all back. What cannot be taken back stays outstanding and is logged.
    pub(crate) async fn close(&self) {
        self.lock().closed = true;
        let taking = async {
            // An issue under way ends first.
            let _turn = self.turn.lock().await;
            let left = revoke(&*self.roles, self.outstanding(), self.clock.now()).await;
            self.lock().outstanding = left;
        };
        if timeout(REVOCATION * 2, taking).await.is_err() {
            tracing::warn!(
                role = self.role,
                "credentials were still being issued at a session's end; they expire"
            );
        }
        self.lock().current = None;
    }

    /// An answer that needs nobody else.
    fn at_hand(&self) -> Option<Result<Arc<Issued>, Error>> {
        let now = self.clock.now();
        let state = self.lock();
        if state.closed {
            return Some(Err(Error::Refused("the session has ended".to_owned())));
        }
        if let Some(current) = &state.current
            && !state.renamed
            && !is_due(current, now)
        {
            return Some(Ok(Arc::clone(current)));
        }
        let (at, error) = state.failed.as_ref()?;
        let repeated = now.duration_since(*at) < REST;
        repeated.then(|| state.fallback(now).ok_or_else(|| error.clone()))
    }

    async fn issue(&self) -> Result<Arc<Issued>, Error> {
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have done it.
        if let Some(answer) = self.at_hand() {
            return answer;
        }
        let name = self.lock().name.clone();
        let wanted = Wanted {
            role_arn: &self.role,
            session_name: &name,
            source: &self.source,
        };
        let issued = match timeout(PATIENCE, self.roles.issue(&wanted)).await {
            Ok(issued) => issued,
            Err(_) => Err(Error::Unavailable(format!(
                "no credentials for role '{}' after {} s",
                self.role,
                PATIENCE.as_secs()
            ))),
        };
        let now = self.clock.now();
        let mut state = self.lock();
        match issued {
            Ok(credentials) => {
                state.outstanding.push(Outstanding {
                    access_key_id: credentials.access_key_id.clone(),
                    expires_at: credentials.expires_at,
                });
                let issued = Arc::new(Issued { credentials, at: now });
                state.current = Some(Arc::clone(&issued));
                state.renamed = state.name != name;
                state.failed = None;
                self.issued.notify_one();
                Ok(issued)
            }
            Err(error) => {
                state.failed = Some((now, error.clone()));
                state.fallback(now).ok_or(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What there is, while new credentials cannot be had.
    fn fallback(&self, now: Timestamp) -> Option<Arc<Issued>> {
        let current = self.current.as_ref()?;
        (current.credentials.expires_at > now).then(|| Arc::clone(current))
    }
}

/// Takes credentials back; those that could not be and have not expired.
pub(crate) async fn revoke(roles: &dyn Roles, outstanding: Vec<Outstanding>, now: Timestamp) -> Vec<Outstanding> {
    let all = outstanding.into_iter().filter(|one| one.expires_at > now);
    let each = all.map(|one| async {
        let said = match timeout(REVOCATION, roles.revoke(&one.access_key_id, one.expires_at)).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no result after {} s", REVOCATION.as_secs()),
        };
        tracing::warn!(
            access_key_id = one.access_key_id,
            error = said,
            "credentials could not be revoked; they expire"
        );
        Some(one)
    });
    join_all(each).await.into_iter().flatten().collect()
}

/// Whether so little is left of them that new ones are needed.
fn is_due(issued: &Issued, now: Timestamp) -> bool {
    let life = issued.credentials.expires_at.duration_since(issued.at);
    // Short-lived ones are good for half of their life at least.
    let margin = RENEW.max(life / 3).min(life / 2);
    issued.credentials.expires_at.duration_since(now) <= margin
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
