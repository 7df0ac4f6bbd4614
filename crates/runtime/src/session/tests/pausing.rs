//! Idle sessions that do not run until somebody calls.

use super::*;
use crate::session::report::State as Shown;
use crate::session::testing::config;
use crate::switches::PauseAfter;

fn rig(agent: Agent) -> Rig {
    let mut config = config();
    config.pause_after = 30 * SECOND;
    Rig::with(agent, config)
}

fn shown(rig: &Rig) -> Shown {
    rig.router.reports(|_| true)[0].state
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_notice_that_its_session_was_paused() {
    let rig = rig(counting());
    rig.ask("a", "").await.unwrap();
    for turn in 2..6 {
        sleep(60 * SECOND).await;
        assert_eq!(shown(&rig), Shown::Paused);
        assert!(rig.driver.sandbox(0).paused.load(Ordering::SeqCst));
        let answers = join_all([rig.ask("a", ""), rig.ask("a", "")]).await;
        let mut answers: Vec<String> = answers.into_iter().map(Result::unwrap).collect();
        answers.sort();
        assert_eq!(answers, [(2 * turn - 2).to_string(), (2 * turn - 1).to_string()]);
        assert_ne!(shown(&rig), Shown::Paused);
    }
    assert_eq!(rig.metrics.sessions_in("paused"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_session_ends_when_its_time_has_come() {
    let rig = rig(counting());
    rig.ask("a", "").await.unwrap();
    about(gone(&rig).await, 900 * SECOND);
    assert_eq!(rig.metrics.ended(Reason::IdleTimeout), 1);
    rig.ask("a", "").await.unwrap();
    sleep(60 * SECOND).await;
    rig.stop("a").await.unwrap();
    assert_eq!(rig.metrics.ended(Reason::Stopped), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_reports_work_is_left_alone_unless_its_owner_says_so() {
    let busy_once = || {
        let asked = Arc::new(AtomicUsize::new(0));
        Agent::all(move |_: Request<Incoming>| {
            let busy = asked.fetch_add(1, Ordering::SeqCst) < 5;
            let status = if busy { "HealthyBusy" } else { "Healthy" };
            async move { Response::new(body::full(json!({ "status": status }).to_string())) }
        })
    };
    let mut rig = rig(busy_once());
    rig.ask("a", "").await.unwrap();
    sleep(300 * SECOND).await;
    assert_eq!(shown(&rig), Shown::Idle);
    rig.stop("a").await.unwrap();
    rig.driver.runs(busy_once());
    Arc::make_mut(&mut rig.target.switches).pause_after = Some(PauseAfter::Idle(20 * SECOND));
    rig.ask("a", "").await.unwrap();
    sleep(300 * SECOND).await;
    assert_eq!(shown(&rig), Shown::Paused);
    rig.stop("a").await.unwrap();
    Arc::make_mut(&mut rig.target.switches).pause_after = Some(PauseAfter::Never);
    rig.ask("a", "").await.unwrap();
    sleep(300 * SECOND).await;
    assert_eq!(shown(&rig), Shown::Idle);
}

#[tokio::test(start_paused = true)]
async fn looking_neither_wakes_nor_prolongs() {
    let rig = rig(counting());
    rig.ask("a", "").await.unwrap();
    let mut looked = 0;
    let began = Instant::now();
    while rig.router.count() > 0 {
        sleep(7 * SECOND).await;
        looked += rig.router.reports(|_| true).len();
        if let Ok(mut log) = rig.router.logs(&key("a"), false).await {
            while log.next().await.is_some() {}
        }
    }
    assert!(looked > 100);
    assert!(began.elapsed() < 910 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_no_time_is_noted_once_in_the_log() {
    let rig = rig(Agent::all(|_: Request<Incoming>| async {
        Response::new(body::full(
            r#"{"status":"Healthy","time_of_last_update":"2026-11-25T00:00:00Z"}"#,
        ))
    }));
    rig.ask("a", "").await.unwrap();
    sleep(25 * SECOND).await;
    let notes = rig.driver.sandbox(0).notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("time_of_last_update"));
}
