//! The process is stopped at every single step that it takes in storage, before and after the step's effect.

use super::*;
use crate::memory::Mortal;

/// Sessions that live, go on and end. Answers in `safe` which of them had a row that was durable.
async fn life(journal: &Journal, safe: &Mutex<Vec<&'static str>>) {
    for name in ["x", "y"] {
        journal.lives(living(name).after_calls(1));
    }
    journal.flush().await;
    safe.lock().unwrap().extend(["x", "y"]);
    journal.lives(living("x").after_calls(2));
    journal.ended(living("y").after_calls(10));
    journal.flush().await;
    journal.lives(living("z").after_calls(100));
    journal.flush().await;
    safe.lock().unwrap().push("z");
    journal.ended(living("x").after_calls(2));
    journal.ended(living("z").after_calls(100));
    journal.flush().await;
}

async fn die_at(step: u32, last_is_done: bool) -> bool {
    let memory = Arc::new(Memory::default());
    let mortal = Arc::new(Mortal::new(Arc::clone(&memory), step, last_is_done));
    let safe = Mutex::new(Vec::new());
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let records = Arc::clone(&mortal) as Arc<dyn Records>;
    let died = tokio::select! {
        biased;
        () = mortal.died.notified() => true,
        () = async { life(&open(records, metrics, 10).await, &safe).await } => false,
    };
    // No sandbox is left: those that the rows name have all been lost.
    let next = Bed::on(memory, 10).await;
    let left = next.journal.left().await.unwrap();
    let lost: Vec<String> = left.values().map(name).collect();
    left.into_values().for_each(|report| next.journal.lost(report));
    next.journal.flush().await;
    assert_eq!(next.count("session-lease"), 0, "step {step}");
    let page = next.journal.list(&|_| true, None, 100).await.unwrap();
    let mut names: Vec<String> = page.reports.iter().map(name).collect();
    for report in &page.reports {
        assert_eq!(report.state, State::Terminated, "step {step}");
        assert_eq!(
            report.reason == SERVER_LOST,
            lost.contains(&name(report)),
            "step {step}"
        );
    }
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before, "step {step}: a session is recorded twice");
    for name in safe.into_inner().unwrap() {
        assert!(names.contains(&name.to_owned()), "step {step}: {name} is not recorded");
    }
    let totals = next.totals().await;
    assert_eq!(totals.sessions, names.len() as u64, "step {step}");
    let requests: u64 = page.reports.iter().map(|report| report.usage.requests).sum();
    assert_eq!(totals.requests, requests, "step {step}");
    if !died {
        assert_eq!((totals.sessions, totals.requests), (3, 112));
        assert!(lost.is_empty());
    }
    died
}

async fn die_at_every_step(last_is_done: bool) {
    let mut step = 1;
    while die_at(step, last_is_done).await {
        step += 1;
    }
    assert!(step > 8, "a life has only {step} steps?");
}

#[tokio::test(start_paused = true)]
async fn killed_before_every_step() {
    die_at_every_step(false).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_every_step() {
    die_at_every_step(true).await;
}
