//! The routes over sessions that the test makes up and a real journal on records in memory.

mod acting;
mod following;
mod looking;

use super::*;
use crate::journal;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::session::Key;
use crate::session::report::{Report, State};
use domain::id::{EndpointName, Version};
use domain::{Kind, Principal};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::registry::Registry;
use sandbox::LogLine;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use uuid::Uuid;

const A: &str = "agent-0123456789";
const B: &str = "other-0123456789";
const ACCOUNT: &str = "123456789012";

type Lines = mpsc::Receiver<(LogLine, Option<Uuid>)>;

/// Living sessions that are nothing but their reports.
#[derive(Debug, Default)]
pub(super) struct Fake {
    reports: Mutex<Vec<Report>>,
    journal: Journal,
    /// The log of the one session that has one.
    log: Mutex<Option<Lines>>,
    followed: Mutex<Vec<bool>>,
}

impl Fake {
    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    /// As the router: what starts cannot be stopped; what ends is in the journal before it is gone here.
    pub(super) async fn stop(&self, key: &Key) -> Result<(), Error> {
        let mut reports = self.reports.lock().unwrap();
        let fits = |report: &Report| super::living::key(report).unwrap() == *key;
        let Some(at) = reports.iter().position(fits) else {
            return Err(Error::not_found("There is no such session, or it has already ended."));
        };
        if reports[at].state == State::Provisioning {
            return Err(Error::new(
                Kind::SessionBusy,
                "Session operation in progress, please retry.",
            ));
        }
        let mut report = reports.remove(at);
        report.reason = "stopped".to_owned();
        self.journal.ended(report);
        Ok(())
    }

    pub(super) fn logs(&self, _key: &Key, follow: bool) -> Result<Lines, Error> {
        self.followed.lock().unwrap().push(follow);
        let log = self.log.lock().unwrap().take();
        log.ok_or_else(|| Error::not_found("There is no such session, or it has already ended."))
    }
}

struct Bed {
    observer: Observer,
    fake: Arc<Fake>,
    journal: Journal,
    closing: CancellationToken,
}

impl Bed {
    async fn new() -> Self {
        let clock = Clock::from_fn(|| "2026-11-25T12:00:00Z".parse().unwrap());
        let journal = journal::Parts {
            records: Arc::new(Memory::default()),
            clock: clock.clone(),
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
            history: 1000,
        };
        let journal = Journal::open(journal).await.unwrap();
        let fake = Arc::new(Fake {
            journal: journal.clone(),
            ..Fake::default()
        });
        let closing = CancellationToken::new();
        let observer = Observer {
            region: Region::parse("us-west-2").unwrap(),
            account: AccountId::parse(ACCOUNT).unwrap(),
            living: Living::Fake(Arc::clone(&fake)),
            journal: journal.clone(),
            clock,
            closing: closing.clone(),
        };
        Self {
            observer,
            fake,
            journal,
            closing,
        }
    }

    fn lives(&self, report: Report) {
        self.fake.reports.lock().unwrap().push(report);
    }

    async fn reply(&self, method: Method, target: &str) -> Result<OwnReply, Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        };
        let call = OwnCall {
            method,
            path: path.split('/').map(str::to_owned).collect(),
            query: pairs.map(pair).collect(),
            headers: HeaderMap::new(),
            body: full(""),
            caller: Arc::new(Principal::root(AccountId::parse(ACCOUNT).unwrap(), "AKIA".to_owned())),
            request_id: Uuid::nil(),
        };
        self.observer.call_own(call).await
    }

    async fn call(&self, method: Method, target: &str) -> Result<Value, Error> {
        let reply = self.reply(method, target).await?;
        assert_eq!(reply.headers[CONTENT_TYPE], "application/json");
        let bytes = reply.body.collect().await.unwrap().to_bytes();
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    async fn get(&self, target: &str) -> Result<Value, Error> {
        self.call(Method::GET, target).await
    }

    async fn post(&self, target: &str) -> Result<Value, Error> {
        self.call(Method::POST, target).await
    }

    /// The names of the sessions on a page, and its token.
    async fn page(&self, target: &str) -> (Vec<String>, Option<String>) {
        let page = self.get(target).await.unwrap();
        let token = page["nextToken"].as_str().map(str::to_owned);
        (names(&page["sessions"]), token)
    }
}

fn names(sessions: &Value) -> Vec<String> {
    let name = |session: &Value| session["sessionId"].as_str().unwrap().trim_end_matches('-').to_owned();
    sessions.as_array().unwrap().iter().map(name).collect()
}

/// A session of the endpoint, begun so many seconds after others.
fn session(name: &str, runtime: &str, endpoint: &str, seconds: i64) -> Report {
    let mut report = Report::sample(name, runtime);
    report.endpoint = EndpointName::parse(endpoint).unwrap();
    report.created_at += SignedDuration::from_secs(seconds);
    report
}

fn id(name: &str) -> String {
    format!("{name:-<33}")
}

/// Asserts that a request is refused, and that the complaint is about exactly these members.
#[track_caller]
fn invalid<T>(answer: Result<T, Error>, members: &[&str]) {
    match answer.map(drop).unwrap_err().kind {
        Kind::Invalid { fields, .. } => {
            let named: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            assert_eq!(named, members);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_action_has_a_name_of_its_own_and_is_on_the_page() {
    let page = include_str!("../mod.rs");
    let mut names: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
    for name in &names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
    names.dedup();
    assert_eq!(names.len(), Action::ALL.len());
}
