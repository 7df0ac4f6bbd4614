//! `GET sessions`, `GET sessions/{id}` and the two that stop.

use super::living::key;
use super::query::{Filter, Params, Query};
use super::{Observer, json};
use crate::control::page;
use crate::session::report::{Report, RuntimeArnText, State};
use domain::id::{EndpointName, SessionId};
use domain::{Error, Kind};
use front_door::service::OwnReply;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::collections::HashSet;

/// What tokens are made for.
const LIST: &str = "eyot-sessions";
const MOST_RESULTS: usize = 1000;
/// Candidates named in a conflict.
const MOST_NAMED: usize = 10;
/// Sessions that one call stops at the same time.
const STOPPED_AT_ONCE: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    sessions: Vec<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// What became of the sessions that were to be stopped.
#[derive(Serialize, Default)]
struct Stopped {
    stopped: Vec<Name>,
    failed: Vec<Failed>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Name {
    session_id: SessionId,
    agent_runtime_arn: RuntimeArnText,
    endpoint: EndpointName,
}

#[derive(Serialize)]
struct Failed {
    #[serde(flatten)]
    name: Name,
    message: String,
}

/// Where a list goes on.
enum Place {
    /// Among the living, behind this key.
    Living(String),
    /// Among the ended, behind this key or at their beginning.
    Ended(Option<String>),
}

impl Observer {
    pub(super) async fn list(&self, query: &Query) -> Result<OwnReply, Error> {
        let known = [
            "runtime",
            "endpoint",
            "version",
            "state",
            "ended",
            "maxResults",
            "nextToken",
        ];
        let mut params = Params::new(query, &known);
        let filter = self.filter(&mut params)?;
        let ended = params.flag("ended").unwrap_or(filter.state == Some(State::Terminated));
        let limit = params
            .number("maxResults", 1, MOST_RESULTS)
            .unwrap_or(page::DEFAULT_SIZE);
        let prefix = format!("{} {ended}", filter.text());
        let place = params.read("nextToken", |token| place(&prefix, token));
        params.finish()?;

        let mut sessions = Vec::new();
        let after = match place {
            Some(Place::Ended(after)) => after,
            living => {
                let after = match living {
                    Some(Place::Living(after)) => Some(after),
                    _ => None,
                };
                if let Some(last) = self.list_living(&filter, after, limit, &mut sessions) {
                    return answer(sessions, Some(token(&prefix, &Place::Living(last))));
                }
                None
            }
        };
        if !ended {
            return answer(sessions, None);
        }
        if sessions.len() == limit {
            return answer(sessions, Some(token(&prefix, &Place::Ended(after))));
        }
        // One that ended a moment ago may be among the living above.
        let seen: HashSet<_> = sessions.iter().map(identity).collect();
        let fits = |report: &Report| filter.fits(report) && !seen.contains(&identity(report));
        let rest = self
            .journal
            .list(&fits, after.as_deref(), limit - sessions.len())
            .await?;
        drop(seen);
        sessions.extend(rest.reports);
        let next = rest.after.map(|after| token(&prefix, &Place::Ended(Some(after))));
        answer(sessions, next)
    }

    /// Adds the living behind a key, up to `limit`. Answers the last one's key if more follow.
    fn list_living(
        &self,
        filter: &Filter,
        after: Option<String>,
        limit: usize,
        sessions: &mut Vec<Report>,
    ) -> Option<String> {
        let mut living: Vec<(String, Report)> = self
            .living
            .reports()
            .into_iter()
            .filter(|report| filter.fits(report))
            .map(|report| (place_of(&report), report))
            .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
            .collect();
        living.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = living.len() > limit;
        living.truncate(limit);
        let last = living.last().map(|(key, _)| key.clone());
        sessions.extend(living.into_iter().map(|(_, report)| report));
        last.filter(|_| more)
    }

    pub(super) async fn show(&self, id: &str, query: &Query) -> Result<OwnReply, Error> {
        let mut params = Params::new(query, &["runtime", "endpoint"]);
        let (session, filter) = self.name(id, &mut params)?;
        params.finish()?;
        let report = match self.find_living(&session, &filter)? {
            Some(report) => report,
            None => self
                .find_ended(&session, &filter)
                .await?
                .ok_or_else(|| missing(&session))?,
        };
        json(&report)
    }

    pub(super) async fn stop(&self, id: &str, query: &Query) -> Result<OwnReply, Error> {
        let mut params = Params::new(query, &["runtime", "endpoint"]);
        let (session, filter) = self.name(id, &mut params)?;
        params.finish()?;
        let Some(mut report) = self.find_living(&session, &filter)? else {
            return Err(match self.find_ended(&session, &filter).await? {
                Some(ended) => Error::not_found(format!("Session '{session}' has already ended: {}.", ended.reason)),
                None => missing(&session),
            });
        };
        self.living.stop(&key(&report)?).await?;
        // The one that was stopped, unless it is not kept, or another has ended under its name since.
        let same = |ended: &Report| identity(ended) == identity(&report);
        if let Some(ended) = self.journal.find(&session, &same, true).await?.pop() {
            return json(&ended);
        }
        report.state = State::Terminated;
        report.idle_deadline = None;
        json(&report)
    }

    pub(super) async fn stop_all(&self, query: &Query) -> Result<OwnReply, Error> {
        let mut params = Params::new(query, &["runtime", "endpoint", "version", "state", "all"]);
        let filter = self.filter(&mut params)?;
        if params.flag("all") != Some(true) && filter.is_empty() {
            let message =
                "must be true to stop all sessions of this server; or name a runtime, endpoint, version or state";
            params.refuse("all", message);
        }
        params.finish()?;
        let reports = self.living.reports().into_iter().filter(|report| filter.fits(report));
        let each = stream::iter(reports).map(|report| async move {
            let stopped = match key(&report) {
                Ok(key) => self.living.stop(&key).await,
                Err(error) => Err(error),
            };
            (report, stopped)
        });
        let mut answer = Stopped::default();
        let mut each = each.buffer_unordered(STOPPED_AT_ONCE);
        while let Some((report, stopped)) = each.next().await {
            let name = Name {
                session_id: report.session_id,
                agent_runtime_arn: report.agent_runtime_arn,
                endpoint: report.endpoint,
            };
            match stopped {
                Ok(()) => answer.stopped.push(name),
                // It has ended by itself meanwhile, which is as well.
                Err(error) if error.kind == Kind::NotFound => answer.stopped.push(name),
                Err(error) => answer.failed.push(Failed {
                    name,
                    message: error.message,
                }),
            }
        }
        json(&answer)
    }

    /// A session's id from the path, and the parameters that say whose it is.
    pub(super) fn name(&self, id: &str, params: &mut Params<'_>) -> Result<(SessionId, Filter), Error> {
        let filter = self.whose(params)?;
        let session = SessionId::parse(id).map_err(|invalid| Error::invalid_field("sessionId", invalid.to_string()))?;
        Ok((session, filter))
    }

    /// The living session of an id.
    pub(super) fn find_living(&self, session: &SessionId, filter: &Filter) -> Result<Option<Report>, Error> {
        let fits = |report: &Report| report.session_id == *session && filter.fits(report);
        let found = self.living.reports().into_iter().filter(fits).collect();
        only_one(session, found)
    }

    /// The last end of a session of an id.
    pub(super) async fn find_ended(&self, session: &SessionId, filter: &Filter) -> Result<Option<Report>, Error> {
        let fits = |report: &Report| filter.fits(report);
        let found = self.journal.find(session, &fits, filter.names_one()).await?;
        only_one(session, found)
    }
}

fn answer(mut sessions: Vec<Report>, next_token: Option<String>) -> Result<OwnReply, Error> {
    for report in &mut sessions {
        report.log_tail = None;
        report.transitions.clear();
    }
    json(&Listed { sessions, next_token })
}

pub(super) fn missing(session: &SessionId) -> Error {
    Error::not_found(format!(
        "There is no session '{session}', nor is the end of one remembered: `eyot sessions list --ended` shows those that are."
    ))
}

fn only_one(session: &SessionId, mut found: Vec<Report>) -> Result<Option<Report>, Error> {
    if found.len() < 2 {
        return Ok(found.pop());
    }
    found.sort_by_key(place_of);
    let mut names: Vec<String> = found
        .iter()
        .take(MOST_NAMED)
        .map(|report| format!("runtime={}&endpoint={}", report.runtime_id(), report.endpoint))
        .collect();
    if found.len() > MOST_NAMED {
        names.push(format!("{} more", found.len() - MOST_NAMED));
    }
    Err(Error::conflict(format!(
        "There are {} sessions '{session}': say which by runtime and endpoint. They are {}.",
        found.len(),
        names.join(", ")
    )))
}

/// What tells one life of a session from every other.
fn identity(report: &Report) -> (&str, &str, &str, jiff::Timestamp) {
    let Report {
        agent_runtime_arn,
        endpoint,
        session_id,
        created_at,
        ..
    } = report;
    (
        &agent_runtime_arn.0,
        endpoint.as_str(),
        session_id.as_str(),
        *created_at,
    )
}

/// The key of a living session in the list: the later it began, the smaller.
fn place_of(report: &Report) -> String {
    let began = report.created_at.as_microsecond().cast_unsigned();
    let Report {
        agent_runtime_arn,
        endpoint,
        session_id,
        ..
    } = report;
    format!(
        "{:020} {} {endpoint} {session_id}",
        u64::MAX - began,
        agent_runtime_arn.0
    )
}

fn token(prefix: &str, place: &Place) -> String {
    let key = match place {
        Place::Living(key) => format!("l{key}"),
        Place::Ended(None) => "e".to_owned(),
        Place::Ended(Some(key)) => format!("e{key}"),
    };
    page::token(LIST, prefix, &key)
}

fn place(prefix: &str, token: &str) -> Result<Place, &'static str> {
    let wrong = "is not a token of this list: pass the nextToken of the same request unchanged, or leave it out";
    let key = page::after(LIST, prefix, token).map_err(|_| wrong)?;
    match key.split_at_checked(1) {
        Some(("l", key)) => Ok(Place::Living(key.to_owned())),
        Some(("e", "")) => Ok(Place::Ended(None)),
        Some(("e", key)) => Ok(Place::Ended(Some(key.to_owned()))),
        _ => Err(wrong),
    }
}
