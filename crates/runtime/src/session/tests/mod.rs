//! Sessions on a fake driver, mostly in paused time.

mod ending;
mod inside;
mod pausing;
mod starting;
mod surviving;
mod trials;
mod warm;

use super::testing::{Agent, CRASH, Rig, call_with, chunk, deployment, healthy, key, status, streamed};
use super::*;
use crate::deployment::Target;
use crate::trace::Recording;
use domain::id::{EndpointName, SandboxId, Version};
use domain::{Error, Kind};
use front_door::body::{self, Outgoing};
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use sandbox::{Exit, Found};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// Waits, in paused time, until nothing of a session is left, and answers how long that took.
async fn gone(rig: &Rig) -> Duration {
    let began = Instant::now();
    while rig.router.count() > 0 {
        assert!(began.elapsed() < Duration::from_secs(100_000), "the session never ends");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.driver.alive(), 0, "its sandbox is left over");
    began.elapsed()
}

fn about(measured: Duration, expected: Duration) {
    assert!(
        measured >= expected - SECOND && measured <= expected + SECOND,
        "{measured:?} instead of {expected:?}"
    );
}

fn counting() -> Agent {
    let calls = Arc::new(AtomicUsize::new(0));
    Agent::http(move |_: Request<Incoming>| {
        let count = calls.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Response::new(body::full(count.to_string())) }
    })
}

/// An agent that streams what the test sends.
fn streaming() -> (Agent, mpsc::Sender<&'static str>) {
    let (sender, receiver) = mpsc::channel::<&'static str>(8);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let agent = Agent::http(move |_: Request<Incoming>| {
        let receiver = Arc::clone(&receiver);
        async move {
            let frames = futures_util::stream::unfold(receiver, |receiver| async move {
                let text = receiver.lock().await.recv().await?;
                Some((Ok(http_body::Frame::data(text.into())), receiver))
            });
            Response::new(Outgoing::new(StreamBody::new(Box::pin(frames))))
        }
    });
    (agent, sender)
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_after_900_idle_seconds() {
    let rig = Rig::new(Agent::echo());
    assert_eq!(rig.ask("a", "x").await.unwrap(), "x");
    sleep(600 * SECOND).await;
    assert_eq!(rig.ask("a", "y").await.unwrap(), "y");
    assert_eq!(rig.router.sessions()[0].phase, Phase::Idle);
    about(gone(&rig).await, 900 * SECOND);
    assert_eq!((rig.metrics.ended(Reason::IdleTimeout), rig.driver.started()), (1, 1));
    assert_eq!(*rig.driver.sandbox(0).stops.lock().unwrap(), [15 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_keeps_its_session_active() {
    let (agent, chunks) = streaming();
    let rig = Rig::new(agent);
    let (_, mut body) = streamed(rig.invoke("a", "").await.unwrap());
    for _ in 0..5 {
        sleep(600 * SECOND).await;
        chunks.send("more").await.unwrap();
        assert_eq!(chunk(&mut body).await.unwrap().unwrap(), "more");
        let summary = &rig.router.sessions()[0];
        assert_eq!((summary.phase, summary.calls), (Phase::Active, 1));
    }
    drop(body);
    assert_eq!(rig.router.sessions()[0].calls, 0);
    about(gone(&rig).await, 900 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn max_lifetime_ends_a_busy_session_and_cuts_its_calls() {
    let agent = Agent::all(|request: Request<Incoming>| async move {
        if request.uri().path() == "/ping" {
            return Response::new(body::full(r#"{"status":"HealthyBusy"}"#));
        }
        let never = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, body::BodyError>>();
        Response::new(Outgoing::new(StreamBody::new(never)))
    });
    // Fewer pings, to be quick.
    let config = Config {
        stream_deadline: Duration::from_secs(1 << 20),
        ping_interval: 60 * SECOND,
        ..Config::default()
    };
    let rig = Rig::with(agent, config);
    let began = Instant::now();
    let (_, body) = streamed(rig.invoke("a", "").await.unwrap());
    let error = body.collect().await.unwrap_err().to_string();
    about(began.elapsed(), 28_800 * SECOND);
    assert!(error.contains("maxLifetime of 28800 s"), "{error}");
    gone(&rig).await;
    assert_eq!(rig.metrics.ended(Reason::MaxLifetime), 1);
}

#[tokio::test(start_paused = true)]
async fn healthy_busy_keeps_a_session_alive() {
    let busy = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&busy);
    let rig = Rig::new(Agent::all(move |request: Request<Incoming>| {
        let status = if asked.load(Ordering::SeqCst) {
            "HealthyBusy"
        } else {
            "Healthy"
        };
        let ping = request.uri().path() == "/ping";
        async move {
            if ping {
                Response::new(body::full(json!({ "status": status }).to_string()))
            } else {
                healthy()
            }
        }
    }));
    rig.ask("a", "").await.unwrap();
    sleep(5000 * SECOND).await;
    assert_eq!(rig.router.sessions()[0].phase, Phase::Active);
    assert_eq!(rig.metrics.sessions_in("active"), 1);
    busy.store(false, Ordering::SeqCst);
    about(gone(&rig).await, 899 * SECOND);
    assert_eq!(rig.metrics.ended(Reason::IdleTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_agent_turns_unhealthy_ends() {
    let ill = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ill);
    let rig = Rig::new(Agent::all(move |_: Request<Incoming>| {
        let ill = asked.load(Ordering::SeqCst);
        async move { if ill { status(503, "ill") } else { healthy() } }
    }));
    rig.ask("a", "").await.unwrap();
    ill.store(true, Ordering::SeqCst);
    let took = gone(&rig).await;
    assert!(took < 15 * SECOND, "{took:?}");
    assert_eq!(rig.metrics.ended(Reason::Unhealthy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_exits_ends_its_session_and_the_next_call_gets_a_new_one() {
    let rig = Rig::new(counting());
    assert_eq!(rig.ask("a", "").await.unwrap(), "1");
    rig.driver.sandbox(0).dies(CRASH);
    gone(&rig).await;
    assert_eq!(rig.metrics.ended(Reason::AgentExited), 1);
    assert_eq!(rig.ask("a", "").await.unwrap(), "2");
    assert_eq!(rig.driver.started(), 2);
}

/// The agent's sockets close a moment before the driver says that it has exited.
#[tokio::test]
async fn a_call_just_after_the_agent_died_gets_a_new_sandbox() {
    let rig = Rig::new(counting());
    rig.ask("a", "").await.unwrap();
    let first = rig.driver.sandbox(0);
    first.hangs_up().await;
    let dials = first.dials.load(Ordering::SeqCst);
    let (answer, ()) = tokio::join!(rig.ask("a", ""), async {
        while first.dials.load(Ordering::SeqCst) == dials {
            tokio::task::yield_now().await;
        }
        first.dies(CRASH);
    });
    assert_eq!(answer.unwrap(), "2");
    assert_eq!((rig.driver.started(), rig.driver.alive()), (2, 1));
}

#[tokio::test]
async fn there_are_at_most_so_many_sessions_and_calls() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let agent = Agent::http(move |_: Request<Incoming>| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            healthy()
        }
    });
    let rig = Rig::with(
        agent,
        Config {
            max_sessions: 1,
            max_calls_per_session: 2,
            ..Config::default()
        },
    );
    let (first, second, ()) = tokio::join!(rig.ask("a", ""), rig.ask("a", ""), async {
        while rig.router.sessions().first().is_none_or(|session| session.calls < 2) {
            tokio::task::yield_now().await;
        }
        let third = rig.ask("a", "").await.unwrap_err();
        assert_eq!(third.kind, Kind::Throttled);
        let other = rig.ask("b", "").await.unwrap_err();
        assert_eq!(other.kind, Kind::QuotaExceeded);
        assert!(other.message.contains("maxVms limit exceeded"), "{other}");
        gate.add_permits(2);
    });
    first.unwrap();
    second.unwrap();
    rig.stop("a").await.unwrap();
    gate.add_permits(1);
    rig.ask("b", "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_gauges_follow_the_sessions() {
    let rig = Rig::new(Agent::echo());
    rig.ask("a", "").await.unwrap();
    sleep(10 * SECOND).await;
    let states = ["provisioning", "active", "idle", "terminating", "terminated"];
    assert_eq!(states.map(|state| rig.metrics.sessions_in(state)), [0, 0, 1, 0, 0]);
    rig.stop("a").await.unwrap();
    assert_eq!(states.map(|state| rig.metrics.sessions_in(state)), [0; 5]);
}
