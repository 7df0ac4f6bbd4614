use super::testing::{Agent, CRASH, Rig, call_with, chunk, deployment, healthy, key, status, streamed};
use super::*;
use crate::deployment::Target;
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

#[tokio::test(start_paused = true)]
async fn a_hundred_first_calls_make_one_start() {
    let mut agent = counting();
    agent.start_takes = 3 * SECOND;
    let rig = Rig::new(agent);
    let answers = join_all((0..100).map(|_| rig.ask("a", ""))).await;
    let mut counts: Vec<u32> = answers
        .into_iter()
        .map(|answer| answer.unwrap().parse().unwrap())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    assert_eq!((rig.driver.started(), rig.router.count()), (1, 1));
}

#[tokio::test]
async fn two_ids_and_two_endpoints_never_share_a_sandbox() {
    let rig = Rig::new(Agent::echo());
    rig.ask("a", "").await.unwrap();
    rig.ask("b", "").await.unwrap();
    let input = json!({ "runtimeSessionId": key("a").session.as_str() });
    let other = Target {
        endpoint: EndpointName::parse("prod").unwrap(),
        ..rig.target.clone()
    };
    rig.invoker
        .invoke(call_with(input, body::full("")), other)
        .await
        .unwrap();
    assert_eq!((rig.driver.started(), rig.router.count()), (3, 3));
    let labels = |index: usize| rig.driver.sandbox(index).spec.labels.clone();
    assert_ne!(labels(0)["session"], labels(1)["session"]);
    assert_eq!(
        (labels(0)["endpoint"].as_str(), labels(2)["endpoint"].as_str()),
        ("DEFAULT", "prod")
    );
}

#[tokio::test]
async fn a_running_session_keeps_its_version_and_its_successor_has_the_new_one() {
    let mut rig = Rig::new(Agent::echo());
    rig.ask("a", "").await.unwrap();
    let mut second = deployment();
    second.version = Version(2);
    rig.target.deployment = Arc::new(second);
    rig.ask("a", "").await.unwrap();
    rig.ask("b", "").await.unwrap();
    let versions = |rig: &Rig| {
        let mut all: Vec<_> = rig
            .router
            .sessions()
            .into_iter()
            .map(|s| (s.key.session.as_str()[..1].to_owned(), s.version.0))
            .collect();
        all.sort();
        all
    };
    assert_eq!(versions(&rig), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    rig.stop("a").await.unwrap();
    rig.ask("a", "").await.unwrap();
    assert_eq!(versions(&rig), [("a".to_owned(), 2), ("b".to_owned(), 2)]);
}

/// Checks what the callers of a session whose start fails are told.
async fn check_start(agent: Agent, expected: &[&str]) {
    let rig = Rig::new(agent);
    let (first, second) = tokio::join!(rig.ask("a", ""), rig.ask("a", ""));
    let error = first.unwrap_err();
    assert_eq!(error.kind, Kind::Agent, "{error}");
    for part in expected {
        assert!(error.message.contains(part), "'{}' lacks '{part}'", error.message);
    }
    assert_eq!(second.unwrap_err(), error, "all callers are told the same");
    gone(&rig).await;
    assert_eq!(rig.metrics.ended(Reason::StartFailed), 1);
    rig.driver.runs(Agent::echo());
    assert_eq!(
        rig.ask("a", "again").await.unwrap(),
        "again",
        "the next call tries afresh"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_by_an_exit() {
    let mut agent = Agent::echo();
    agent.exits_at_once = Some(CRASH);
    agent.log = "Traceback\nImportError: no module named x\n".to_owned();
    check_start(
        agent.clone(),
        &[
            "exited with code 3 before it listened on port 8080",
            "ImportError: no module named x",
        ],
    )
    .await;
    agent.exits_at_once = Some(Exit {
        code: None,
        signal: Some(11),
        out_of_memory: false,
    });
    agent.log = String::new();
    check_start(
        agent.clone(),
        &["was killed by signal 11 (SIGSEGV)", "It wrote no log."],
    )
    .await;
    agent.exits_at_once = Some(Exit {
        code: None,
        signal: Some(9),
        out_of_memory: true,
    });
    check_start(agent, &["was killed for its memory limit of 2GiB"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_because_nothing_listens() {
    let mut agent = Agent::echo();
    agent.listens = false;
    agent.log = "loading".to_owned();
    check_start(
        agent.clone(),
        &[
            "initialization time exceeded",
            "120 s nothing listens on port 8080",
            "loading",
        ],
    )
    .await;
    agent.other_ports = vec![3000, 8080, 9229];
    check_start(
        agent,
        &["nothing listens on port 8080", "listens on port 3000 and 9229 instead"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_by_ping() {
    let not_found = Agent::all(|_: Request<Incoming>| async { status(404, "not found") });
    check_start(
        not_found,
        &[
            "initialization time exceeded",
            "answers GET /ping with status 404 instead of 200",
        ],
    )
    .await;
    let blocked = Agent::all(|_: Request<Incoming>| std::future::pending::<Response<Outgoing>>());
    check_start(
        blocked,
        &["accepts connections on port 8080 but never answers GET /ping"],
    )
    .await;
    let not_http = Agent::raw(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        sleep(SECOND).await;
    });
    check_start(not_http, &["does not answer GET /ping on port 8080", "not HTTP"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_in_the_driver() {
    let mut agent = Agent::echo();
    agent.cannot_start = Some(|| sandbox::Error::Artifact("main.py: no such file".to_owned()));
    check_start(agent.clone(), &["could not be started: main.py: no such file"]).await;
    agent.cannot_start = Some(|| sandbox::Error::Host("no user namespaces".to_owned()));
    let rig = Rig::new(agent);
    let error = rig.ask("a", "").await.unwrap_err();
    assert_eq!(error.kind, Kind::Internal);
    assert!(
        error.message.contains("fake driver") && !error.message.contains("namespaces"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_may_be_unwell_while_it_starts() {
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    let rig = Rig::new(Agent::all(move |_: Request<Incoming>| {
        let ready = counted.fetch_add(1, Ordering::SeqCst) >= 20;
        async move { if ready { healthy() } else { status(503, "") } }
    }));
    rig.ask("a", "").await.unwrap();
    assert!(pings.load(Ordering::SeqCst) >= 21);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_session_and_cuts_its_streams() {
    let (mut agent, chunks) = streaming();
    agent.stop_takes = 5 * SECOND;
    let rig = Rig::new(agent);
    let (_, mut body) = streamed(rig.invoke("a", "").await.unwrap());
    chunks.send("one").await.unwrap();
    assert_eq!(chunk(&mut body).await.unwrap().unwrap(), "one");
    let began = Instant::now();
    let (stopped, (cut, cut_after)) = tokio::join!(rig.stop("a"), async {
        let cut = chunk(&mut body).await.unwrap().unwrap_err().to_string();
        (cut, began.elapsed())
    });
    stopped.unwrap();
    assert!(
        cut.contains("was stopped") && cut_after < SECOND,
        "{cut} after {cut_after:?}"
    );
    about(began.elapsed(), 5 * SECOND);
    assert_eq!((rig.router.count(), rig.driver.alive()), (0, 0));
    assert_eq!(rig.stop("a").await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut agent = Agent::echo();
    agent.stop_takes = 1000 * SECOND;
    let rig = Rig::new(agent);
    rig.ask("a", "").await.unwrap();
    let began = Instant::now();
    rig.stop("a").await.unwrap();
    about(began.elapsed(), 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_starting_or_ending_is_busy() {
    let mut agent = Agent::echo();
    agent.start_takes = 2 * SECOND;
    agent.stop_takes = 2 * SECOND;
    let rig = Rig::new(agent);
    let (answer, early) = tokio::join!(rig.ask("a", "x"), async {
        sleep(SECOND).await;
        rig.stop("a").await
    });
    assert_eq!(
        (answer.unwrap().as_str(), early.unwrap_err().kind),
        ("x", Kind::SessionBusy)
    );
    let (first, second) = tokio::join!(rig.stop("a"), async {
        sleep(SECOND).await;
        rig.stop("a").await
    });
    assert_eq!((first, second.unwrap_err().kind), (Ok(()), Kind::SessionBusy));
}

#[tokio::test(start_paused = true)]
async fn a_stop_repeated_with_its_token_succeeds_and_spares_the_next_session() {
    let mut agent = Agent::echo();
    agent.stop_takes = 2 * SECOND;
    let rig = Rig::new(agent);
    let token = Some("11111111-1111-1111-1111-111111111111");
    rig.ask("a", "").await.unwrap();
    let of_a = key("a");
    let (first, second) = tokio::join!(rig.router.stop(&of_a, token), async {
        sleep(SECOND).await;
        rig.router.stop(&of_a, token).await
    });
    assert_eq!((first, second), (Ok(()), Ok(())));
    rig.ask("a", "").await.unwrap();
    assert_eq!(rig.router.stop(&key("a"), token).await, Ok(()));
    assert_eq!(rig.router.count(), 1, "the repetition stopped another session");
    assert_eq!(
        rig.router.stop(&key("b"), token).await.unwrap_err().kind,
        Kind::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_while_the_session_ends_waits_for_the_next_sandbox() {
    let mut agent = counting();
    agent.stop_takes = 10 * SECOND;
    let rig = Rig::new(agent);
    rig.ask("a", "").await.unwrap();
    let (stopped, answer) = tokio::join!(rig.stop("a"), async {
        sleep(SECOND).await;
        let answer = rig.ask("a", "").await;
        assert_eq!(rig.driver.alive(), 1, "the two sandboxes of one id ran at once");
        answer
    });
    stopped.unwrap();
    assert_eq!(answer.unwrap(), "2");
    assert_eq!(rig.driver.started(), 2);
}

/// Calls and stops race; each call is answered or told a reason, and one sandbox at most ever runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_and_stops_race() {
    let rig = Arc::new(Rig::new(counting()));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let rig = Arc::clone(&rig);
        tasks.spawn(async move {
            for _ in 0..40 {
                if caller == 0 {
                    let _ = rig.stop("a").await;
                    continue;
                }
                match rig.ask("a", "").await {
                    Ok(_) => {}
                    Err(Error {
                        kind: Kind::Agent,
                        message,
                    }) => assert!(message.contains("stopped"), "{message}"),
                    Err(Error {
                        kind: Kind::SessionBusy,
                        ..
                    }) => {}
                    Err(error) => panic!("{error:?}"),
                }
                assert!(rig.driver.alive() <= 1);
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    assert_eq!(rig.router.shutdown(10 * SECOND).await, 0);
    assert_eq!(rig.driver.alive(), 0);
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
async fn a_deleted_runtime_has_no_sessions_and_gets_none() {
    let rig = Rig::new(Agent::echo());
    rig.ask("a", "").await.unwrap();
    rig.ask("b", "").await.unwrap();
    rig.router.end_runtime(&key("a").runtime, Reason::RuntimeDeleted).await;
    assert_eq!((rig.router.count(), rig.driver.alive()), (0, 0));
    assert_eq!(rig.metrics.ended(Reason::RuntimeDeleted), 2);
    assert_eq!(rig.ask("a", "").await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_runtime_releases_calls_that_wait_for_a_start() {
    let mut agent = Agent::echo();
    agent.start_takes = 60 * SECOND;
    let rig = Rig::new(agent);
    let (answer, ()) = tokio::join!(rig.ask("a", ""), async {
        sleep(SECOND).await;
        rig.router.end_runtime(&key("a").runtime, Reason::RuntimeDeleted).await;
    });
    assert_eq!(answer.unwrap_err().kind, Kind::NotFound);
    assert_eq!((rig.router.count(), rig.driver.started()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_endpoint_takes_only_its_own_sessions() {
    let rig = Rig::new(Agent::echo());
    rig.ask("a", "").await.unwrap();
    let prod = EndpointName::parse("prod").unwrap();
    let input = json!({ "runtimeSessionId": key("a").session.as_str() });
    let other = Target {
        endpoint: prod.clone(),
        ..rig.target.clone()
    };
    rig.invoker
        .invoke(call_with(input, body::full("")), other)
        .await
        .unwrap();
    rig.router
        .end_endpoint(&key("a").runtime, &prod, Reason::RuntimeDeleted)
        .await;
    assert_eq!(rig.router.sessions().len(), 1);
    assert_eq!(rig.ask("a", "x").await.unwrap(), "x");
    assert_eq!(rig.driver.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_all_and_lets_none_start() {
    let mut agent = Agent::echo();
    agent.stop_takes = 3 * SECOND;
    let rig = Rig::new(agent);
    for name in ["a", "b", "c"] {
        rig.ask(name, "").await.unwrap();
    }
    let began = Instant::now();
    assert_eq!(rig.router.shutdown(20 * SECOND).await, 0);
    about(began.elapsed(), 3 * SECOND);
    assert_eq!((rig.driver.alive(), rig.metrics.ended(Reason::Draining)), (0, 3));
    assert_eq!(rig.ask("a", "").await.unwrap_err().kind, Kind::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_longer_than_its_grace() {
    let mut agent = Agent::echo();
    agent.stop_takes = 10 * SECOND;
    let rig = Rig::new(agent);
    rig.ask("a", "").await.unwrap();
    let began = Instant::now();
    assert_eq!(rig.router.shutdown(2 * SECOND).await, 1);
    about(began.elapsed(), 2 * SECOND);
}

#[tokio::test]
async fn recovery_destroys_what_an_earlier_process_left() {
    let rig = Rig::new(Agent::echo());
    let left: Vec<SandboxId> = (0..20).map(|_| SandboxId::generate()).collect();
    *rig.driver.left_over.lock().unwrap() = left
        .iter()
        .enumerate()
        .map(|(index, id)| Found {
            id: id.clone(),
            labels: Default::default(),
            alive: index % 2 == 0,
        })
        .collect();
    assert_eq!(
        rig.router.recover().await.unwrap(),
        router::Recovered { destroyed: 20, left: 0 }
    );
    let mut destroyed = rig.driver.destroyed.lock().unwrap().clone();
    destroyed.sort();
    let mut left = left;
    left.sort();
    assert_eq!(destroyed, left);
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
