//! How sessions are ended from outside, and what that does to calls.

use super::*;

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
}

#[tokio::test(start_paused = true)]
async fn a_token_that_stopped_one_session_stops_no_other() {
    let rig = Rig::new(Agent::echo());
    let token = Some("11111111-1111-1111-1111-111111111111");
    rig.ask("a", "").await.unwrap();
    rig.ask("b", "").await.unwrap();
    rig.router.stop(&key("a"), token).await.unwrap();
    for other in ["b", "never-started"] {
        let error = rig.router.stop(&key(other), token).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{error}");
        assert!(error.message.contains("clientToken"), "{error}");
    }
    assert_eq!(rig.router.count(), 1, "the session of another token's stop is gone");
    rig.router.stop(&key("b"), None).await.unwrap();
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
                        ..
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
        .invoke(call_with(input, body::full("")), other, &mut Recording::default())
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
