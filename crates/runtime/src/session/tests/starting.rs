//! How sessions begin, and what callers are told when they do not.

use super::*;
use crate::session::testing::config;

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
        .invoke(call_with(input, body::full("")), other, &mut Recording::default())
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

/// Checks what the callers of a session whose start fails are told, and what the agent wrote.
async fn check_start(agent: Agent, expected: &[&str], wrote: Option<&str>) {
    let config = Config {
        agent_errors: true,
        ..config()
    };
    let rig = Rig::with(agent, config);
    let (first, second) = tokio::join!(rig.ask("a", ""), rig.ask("a", ""));
    let error = first.unwrap_err();
    assert_eq!(error.kind, Kind::Agent, "{error}");
    for part in expected {
        assert!(error.message.contains(part), "'{}' lacks '{part}'", error.message);
    }
    assert_eq!(error.detail.as_deref(), wrote);
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
        &["exited with code 3 before it listened on port 8080."],
        Some("Traceback\nImportError: no module named x"),
    )
    .await;
    agent.exits_at_once = Some(Exit {
        code: None,
        signal: Some(11),
        out_of_memory: false,
    });
    agent.log = String::new();
    check_start(agent.clone(), &["was killed by signal 11 (SIGSEGV)"], None).await;
    agent.exits_at_once = Some(Exit {
        code: None,
        signal: Some(9),
        out_of_memory: true,
    });
    check_start(agent, &["was killed for its memory limit of 2GiB"], None).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_because_nothing_listens() {
    let mut agent = Agent::echo();
    agent.listens = false;
    agent.log = "loading".to_owned();
    check_start(
        agent.clone(),
        &["initialization time exceeded", "120 s nothing listens on port 8080"],
        Some("loading"),
    )
    .await;
    agent.other_ports = vec![3000, 8080, 9229];
    check_start(
        agent,
        &["nothing listens on port 8080", "listens on port 3000 and 9229 instead"],
        None,
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
        None,
    )
    .await;
    let blocked = Agent::all(|_: Request<Incoming>| std::future::pending::<Response<Outgoing>>());
    check_start(
        blocked,
        &["accepts connections on port 8080 but never answers GET /ping"],
        None,
    )
    .await;
    let not_http = Agent::raw(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        sleep(SECOND).await;
    });
    check_start(not_http, &["does not answer GET /ping on port 8080", "not HTTP"], None).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_in_the_driver() {
    let mut agent = Agent::echo();
    agent.cannot_start = Some(|| sandbox::Error::Artifact("main.py: no such file".to_owned()));
    check_start(agent.clone(), &["could not be started: main.py: no such file"], None).await;
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
        Recovered {
            adopted: 0,
            destroyed: 20,
            left: 0
        }
    );
    let mut destroyed = rig.driver.destroyed.lock().unwrap().clone();
    destroyed.sort();
    let mut left = left;
    left.sort();
    assert_eq!(destroyed, left);
}

#[tokio::test]
async fn a_session_that_the_host_cannot_hold_is_refused_before_anything_is_started() {
    let mut config = crate::session::testing::config();
    config.memory_reserve = 1 << 50;
    let rig = Rig::with(Agent::echo(), config);
    let error = rig.ask("a", "").await.unwrap_err();
    assert_eq!(error.kind, Kind::QuotaExceeded);
    assert!(error.message.contains("memory left"), "{error}");
    assert_eq!((rig.driver.started(), rig.router.count()), (0, 0));
}
