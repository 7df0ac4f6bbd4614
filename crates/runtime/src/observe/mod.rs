//! What an operator sees of sessions and does to them: `/_eyot/sessions` and `/_eyot/usage`. This page is their reference.
//!
//! All are signed as AWS's operations are. Looking never wakes, prolongs or starts a session. Answers are JSON; a session
//! is a [`Report`](crate::session::report::Report) in all of them. An unknown, repeated or malformed query parameter is a
//! ValidationException that names it. A session is named by its id; where that has lived on several runtimes or
//! endpoints, `runtime` (id, name or ARN) and `endpoint` say which, and without them the answer is a ConflictException
//! that names the candidates.
//!
//! | request | action | what it does |
//! |---|---|---|
//! | `GET sessions` | `eyot:ListSessions` | lists |
//! | `GET sessions/{id}` | `eyot:GetSession` | shows the living one, else the one that ended last |
//! | `GET sessions/{id}/logs` | `eyot:GetSessionLogs` | what its agent wrote |
//! | `POST sessions/{id}/stop` | `eyot:StopSession` | ends it as StopRuntimeSession does, and waits |
//! | `POST sessions/stop` | `eyot:StopSession` | ends all that fit, and waits |
//! | `GET usage` | `eyot:GetUsage` | what runtimes used, by days |
//!
//! The actions are for access policies; today the root key may do all of them. Each call is logged with its action.
//!
//! **`GET sessions`**: `{"sessions": […], "nextToken"}`, the living first, each part beginning with the newest. `runtime`,
//! `endpoint`, `version` and `state` (`PROVISIONING`, `ACTIVE`, `IDLE`, `PAUSED`, `TERMINATING`, `TERMINATED`) narrow it
//! down. `ended=true` lists ended sessions after the living; `state=TERMINATED` does by itself. `maxResults` is 1 to 1000,
//! 100 unless said; `nextToken` continues. A page may have fewer and even none although more follow. What lives or is kept
//! all along is on exactly one page; a session that ends meanwhile may be listed again as an ended one. `logTail` and
//! `transitions` are left out.
//!
//! **`GET sessions/{id}`**: the report.
//!
//! **`POST sessions/{id}/stop`**: the report of the ended session. ResourceNotFoundException if none lives,
//! RetryableConflictException while it starts or ends.
//!
//! **`POST sessions/stop`**: needs `runtime`, `endpoint`, `version` or `state`, or `all=true`. `{"stopped": […], "failed":
//! […]}`, each with `sessionId`, `agentRuntimeArn` and `endpoint`, the failed ones with a `message` as well.
//!
//! **`GET sessions/{id}/logs`**: `application/x-ndjson`, one line of the log each: `{"time", "stream", "requestId", "text"}`.
//! `stream` is `stdout`, `stderr` or `eyot` (ours); `requestId` is there where exactly one call was in flight. `tail=N`
//! begins with the last N lines of what is kept; `follow=true` goes on until the session ends or the server stops. Of an
//! ended session there are the last lines if it ended badly, without `time` and `stream`, and a line of ours that says why
//! it ended.
//!
//! **`GET usage`**: `{"from", "to", "usage": […], "total"}`. `from` and `to` are days (UTC), both included; the last 30 days
//! unless said, 400 at most. Each item has `agentRuntimeArn`, `day`, `sessions`, `requests`, `cpuSeconds`,
//! `memoryGbSeconds`, `bytesIn` and `bytesOut`. A session counts on the day on which it ends.

mod action;
mod living;
mod logs;
mod query;
mod sessions;
#[cfg(test)]
mod tests;
mod usage;

pub use action::Action;

use crate::journal::Journal;
use crate::session::Router;
use domain::id::{AccountId, Region};
use domain::{Clock, Error};
use front_door::body::full;
use front_door::service::{OwnCall, OwnReply};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use living::Living;
use serde::Serialize;
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

/// The route of sessions.
pub(crate) const SESSIONS: &str = "sessions";
/// The route of usage.
pub(crate) const USAGE: &str = "usage";

/// Shows sessions and acts on them.
#[derive(Debug)]
pub struct Observer {
    region: Region,
    account: AccountId,
    living: Living,
    journal: Journal,
    clock: Clock,
    closing: CancellationToken,
}

/// What an observer is made of.
#[derive(Debug)]
pub struct Parts {
    /// The region whose ARNs are ours.
    pub region: Region,
    /// The account whose ARNs are ours.
    pub account: AccountId,
    /// Living sessions.
    pub sessions: Router,
    /// Ended ones.
    pub journal: Journal,
    /// Wall time.
    pub clock: Clock,
    /// The server stops: logs are followed no longer.
    pub closing: CancellationToken,
}

impl Observer {
    /// Over the sessions of a router and the journal that it writes.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            region,
            account,
            sessions,
            journal,
            clock,
            closing,
        } = parts;
        Self {
            region,
            account,
            living: Living::Router(sessions),
            journal,
            clock,
            closing,
        }
    }

    /// The runtimes of the living sessions that a request would show or stop. None for lists, which are about all.
    pub(crate) fn touched(&self, path: &[String]) -> BTreeSet<String> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let id = match path[..] {
            [SESSIONS, "stop"] => None,
            [SESSIONS, id, ..] => Some(id),
            _ => return BTreeSet::new(),
        };
        let reports = self.living.reports().into_iter();
        let meant = reports.filter(|report| id.is_none_or(|id| report.session_id.as_str() == id));
        meant.map(|report| report.runtime_id().to_owned()).collect()
    }

    /// Answers a request below one of the two routes.
    pub(crate) async fn call_own(&self, call: OwnCall) -> Result<OwnReply, Error> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        action(&call.method, &call.path)?;
        match path[..] {
            [SESSIONS, "stop"] => self.stop_all(&call.query).await,
            [SESSIONS, id, "stop"] => self.stop(id, &call.query).await,
            [SESSIONS, id, "logs"] => self.logs(id, &call.query).await,
            [SESSIONS, id] => self.show(id, &call.query).await,
            [SESSIONS] => self.list(&call.query).await,
            _ => self.usage(&call.query).await,
        }
    }
}

/// What a request below one of the two routes would do.
pub(crate) fn action(method: &Method, path: &[String]) -> Result<Action, Error> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (needs, action) = match path[..] {
        [SESSIONS] => (Method::GET, Action::ListSessions),
        [SESSIONS, "stop"] | [SESSIONS, _, "stop"] => (Method::POST, Action::StopSession),
        [SESSIONS, _] => (Method::GET, Action::GetSession),
        [SESSIONS, _, "logs"] => (Method::GET, Action::GetSessionLogs),
        [USAGE] => (Method::GET, Action::GetUsage),
        _ => return Err(Error::not_found("There is nothing here.")),
    };
    if *method != needs {
        let message = format!("{method} does nothing here: use {needs}");
        return Err(Error::invalid_field("method", message));
    }
    Ok(action)
}

fn json(document: &impl Serialize) -> Result<OwnReply, Error> {
    let bytes = serde_json::to_vec(document).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        Error::internal("The server made an answer that cannot be sent.")
    })?;
    Ok(reply("application/json", full(bytes)))
}

fn reply(content_type: &'static str, body: front_door::body::Outgoing) -> OwnReply {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    OwnReply {
        status: StatusCode::OK,
        headers,
        body,
    }
}
