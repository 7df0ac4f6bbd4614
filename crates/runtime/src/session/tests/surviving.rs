//! Sessions that go on when their server process is replaced.

use super::*;
use crate::session::report::State as Shown;
use crate::session::testing::{FakeDriver, config};

/// Lets a server process end as a restart does, and starts the next one over the same sandboxes.
async fn restarted(rig: Rig) -> (Rig, Recovered) {
    let driver = Arc::clone(&rig.driver);
    assert_eq!(rig.router.leave(5 * SECOND).await, 0);
    drop(rig);
    next(driver).await
}

async fn next(driver: Arc<FakeDriver>) -> (Rig, Recovered) {
    let rig = Rig::over(driver, config());
    let recovered = rig.router.recover().await.unwrap();
    (rig, recovered)
}

fn all(rig: &Rig) -> Vec<crate::session::report::Report> {
    rig.router.reports(|_| true)
}

#[tokio::test(start_paused = true)]
async fn a_restart_loses_no_session_and_no_deadline() {
    let rig = Rig::new(counting());
    assert_eq!(rig.ask("a", "").await.unwrap(), "1");
    assert_eq!(rig.ask("b", "").await.unwrap(), "2");
    sleep(100 * SECOND).await;
    let before = all(&rig);
    let (rig, recovered) = restarted(rig).await;
    assert_eq!((recovered.adopted, recovered.destroyed, recovered.left), (2, 0, 0));
    sleep(SECOND).await;
    for old in before {
        let now = all(&rig)
            .into_iter()
            .find(|new| new.session_id == old.session_id)
            .unwrap();
        assert_eq!((now.created_at, now.sandbox), (old.created_at, old.sandbox));
        assert_eq!(now.max_lifetime_deadline, old.max_lifetime_deadline);
        assert_eq!(
            (now.state, now.transitions[0].reason.as_str()),
            (Shown::Idle, "adopted")
        );
    }
    assert_eq!(rig.ask("a", "").await.unwrap(), "3");
    assert_eq!(rig.driver.started(), 2, "the same sandboxes serve");
    sleep(1000 * SECOND).await;
    assert_eq!((rig.router.count(), rig.driver.alive()), (0, 0));
    assert_eq!(rig.metrics.ended(Reason::IdleTimeout), 2);
}

#[tokio::test(start_paused = true)]
async fn max_lifetime_counts_across_processes() {
    let mut rig = Rig::new(Agent::all(|_: Request<Incoming>| async {
        Response::new(body::full(r#"{"status":"HealthyBusy"}"#))
    }));
    let deployment = Arc::make_mut(&mut rig.target.deployment);
    deployment.max_lifetime = 1000 * SECOND;
    let began = Instant::now();
    rig.ask("a", "").await.unwrap();
    for _ in 0..4 {
        sleep(200 * SECOND).await;
        rig = restarted(rig).await.0;
    }
    gone(&rig).await;
    about(began.elapsed(), 1000 * SECOND);
    assert_eq!(rig.metrics.ended(Reason::MaxLifetime), 1);
}

/// As after kill -9: nobody let go of anything, and owners of the dead process do nothing more.
#[tokio::test(start_paused = true)]
async fn what_was_still_being_started_is_waited_for() {
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    let rig = Rig::new(Agent::all(move |request: Request<Incoming>| {
        let first = request.uri().path() == "/ping" && counted.fetch_add(1, Ordering::SeqCst) < 200;
        async move { if first { status(503, "not yet") } else { healthy() } }
    }));
    let driver = Arc::clone(&rig.driver);
    let (router, target) = (rig.router.clone(), rig.target.clone());
    let calls = tokio::spawn(async move { router.enter(&key("a"), &target).await.map(drop) });
    while rig.driver.started() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    calls.await.unwrap().unwrap();
    let (next, recovered) = next(driver).await;
    assert_eq!(recovered.adopted, 1);
    assert_eq!(all(&next)[0].state, Shown::Provisioning);
    next.ask("a", "").await.unwrap();
    assert_eq!(next.driver.started(), 1);
    assert!(pings.load(Ordering::SeqCst) > 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_sessions_goes() {
    let mut with_pool = config();
    (with_pool.warm.max, with_pool.warm.min) = (2, 2);
    let rig = Rig::with(counting(), with_pool);
    rig.router
        .serving(&rig.target.deployment.arn.id, std::slice::from_ref(&rig.target));
    sleep(SECOND).await;
    assert_eq!(rig.driver.alive(), 2);
    assert_eq!(rig.ask("a", "").await.unwrap(), "1");
    // As after kill -9: the pool of the dead process is left as it is.
    let (next, recovered) = next(Arc::clone(&rig.driver)).await;
    assert_eq!(recovered.adopted, 1, "the warm one that a session had got is its own");
    assert!(recovered.destroyed >= 1);
    assert_eq!(next.ask("a", "").await.unwrap(), "2");
    assert_eq!(next.router.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_session_is_taken_over_awake() {
    let mut config = config();
    config.pause_after = 10 * SECOND;
    let rig = Rig::with(counting(), config);
    rig.ask("a", "").await.unwrap();
    sleep(60 * SECOND).await;
    assert_eq!(all(&rig)[0].state, Shown::Paused);
    let (rig, _) = restarted(rig).await;
    assert!(!rig.driver.sandbox(0).paused.load(Ordering::SeqCst));
    assert_eq!(rig.ask("a", "").await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn letting_go_ends_nobody_and_starts_nobody() {
    let rig = Rig::new(counting());
    rig.ask("a", "").await.unwrap();
    assert_eq!(rig.router.leave(5 * SECOND).await, 0);
    let error = rig.ask("a", "").await.unwrap_err();
    assert_eq!(error.kind, Kind::Draining);
    assert_eq!((rig.driver.alive(), rig.driver.started()), (1, 1));
    assert!(rig.driver.sandbox(0).stops.lock().unwrap().is_empty());
}
