//! Warm sandboxes: there before a session asks, used once, as many as are wanted.

use super::*;
use crate::session::testing::config;

fn rig(min: usize, max: usize) -> Rig {
    let mut config = config();
    (config.warm.min, config.warm.max) = (min, max);
    config.memory_request = 1 << 20;
    let rig = Rig::with(counting(), config);
    serve(&rig, &rig.target);
    rig
}

fn serve(rig: &Rig, target: &Target) {
    rig.router
        .serving(&target.deployment.arn.id, std::slice::from_ref(target));
}

fn newer(target: &Target) -> Target {
    let mut target = target.clone();
    let deployment = Arc::make_mut(&mut target.deployment);
    deployment.version = deployment.version.next();
    target
}

#[tokio::test(start_paused = true)]
async fn a_session_gets_a_sandbox_that_was_ready_and_nobody_gets_it_again() {
    let rig = rig(2, 2);
    sleep(SECOND).await;
    assert_eq!((rig.driver.started(), rig.router.count()), (2, 0));
    for name in ["a", "b", "c", "d", "e", "f"] {
        rig.ask(name, "").await.unwrap();
        sleep(SECOND).await;
    }
    let reports = rig.router.reports(|_| true);
    let sandboxes: std::collections::HashSet<_> = reports.iter().map(|report| report.sandbox.clone()).collect();
    assert_eq!(sandboxes.len(), 6);
    assert!(
        reports
            .iter()
            .all(|report| report.start.warm && report.start.first_byte_ms.is_some())
    );
    assert_eq!(
        (rig.driver.alive(), rig.driver.started()),
        (8, 8),
        "two are ready again"
    );
    let assigned = rig.driver.sandboxes.lock().unwrap().clone();
    let assigned = assigned
        .iter()
        .filter(|sandbox| sandbox.assigned.lock().unwrap().is_some());
    assert_eq!(assigned.count(), 6, "whose they are is written into them");
}

#[tokio::test(start_paused = true)]
async fn the_pool_follows_demand_and_forgets_it() {
    let rig = rig(0, 4);
    sleep(SECOND).await;
    assert_eq!(rig.driver.started(), 0, "nobody has asked yet");
    for name in ["a", "b", "c"] {
        rig.ask(name, "").await.unwrap();
    }
    sleep(5 * SECOND).await;
    assert_eq!(rig.driver.alive(), 3 + 3, "as many as came at once");
    sleep(700 * SECOND).await;
    assert_eq!(rig.driver.alive(), 3, "nobody has come for long");
    for name in ["d", "e", "f", "g", "h", "i"] {
        rig.ask(name, "").await.unwrap();
    }
    sleep(10 * SECOND).await;
    assert_eq!(rig.driver.alive() - rig.router.count(), 4, "no more than the most");
}

#[tokio::test(start_paused = true)]
async fn a_new_versions_pool_is_ready_before_it_serves() {
    let rig = rig(2, 4);
    sleep(SECOND).await;
    let new = newer(&rig.target);
    let waiting = rig.router.warming(&new).expect("it must be made first");
    assert_eq!(rig.driver.started(), 2);
    waiting.await;
    assert!(rig.router.warming(&new).is_none());
    assert_eq!(rig.driver.alive(), 4, "both versions are ready");
    serve(&rig, &new);
    sleep(5 * SECOND).await;
    assert_eq!(rig.driver.alive(), 2, "the old one's are gone");
    let target = Rig { target: new, ..rig };
    target.ask("a", "").await.unwrap();
    assert!(target.router.reports(|_| true)[0].start.warm);
    // A deleted runtime has none.
    target.router.serving(&target.target.deployment.arn.id, &[]);
    sleep(5 * SECOND).await;
    assert_eq!(target.driver.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_start_does_not_hold_up_its_endpoint_for_ever() {
    let rig = rig(1, 4);
    sleep(SECOND).await;
    let mut crashes = Agent::echo();
    crashes.exits_at_once = Some(CRASH);
    rig.driver.runs(crashes);
    let new = newer(&rig.target);
    let began = Instant::now();
    rig.router.warming(&new).unwrap().await;
    assert!(rig.router.warming(&new).is_none());
    assert!(began.elapsed() < 130 * SECOND);
    assert_eq!(rig.driver.alive(), 1, "the live version's is untouched");
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_is_replaced_and_one_that_is_old_too() {
    let rig = rig(1, 1);
    sleep(SECOND).await;
    rig.driver.sandbox(0).dies(CRASH);
    sleep(SECOND).await;
    assert_eq!((rig.driver.alive(), rig.driver.started()), (1, 2));
    sleep(3700 * SECOND).await;
    assert_eq!(rig.driver.alive(), 1);
    assert!(rig.driver.started() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_switch_of_the_owner_sets_the_least_number() {
    let mut config = config();
    config.warm.max = 4;
    let mut rig = Rig::with(counting(), config);
    let switches = Arc::make_mut(&mut rig.target.switches);
    switches.warm = Some(3);
    serve(&rig, &rig.target);
    sleep(2 * SECOND).await;
    assert_eq!(rig.driver.alive(), 3);
    assert_eq!(rig.router.shutdown(5 * SECOND).await, 0);
    assert_eq!(rig.driver.alive(), 0, "a shutdown leaves none");
}
